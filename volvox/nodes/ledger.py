"""What is known of the nodes of a group, on the disk before anything is asked for.

    VOLVOX_HOME/dispatch/nodes/GROUP.json

A dispatcher that is killed between asking for a node and hearing that it was asked for leaves the node `asking`; the
next one looks whether it is there before it asks again, under the same name.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from volvox.disks import replace_text
from volvox.settings import Home

NodeState = Literal["asking", "booting", "on", "stopping", "failed"]


@dataclass
class Node:
    """A node of a group; times are seconds since the epoch.

    Attributes:
        name: What it was asked for as.
        id: What its cloud calls it; empty: not known yet.
        state: `asking`: nobody knows yet whether it was asked for. `booting`: it was, and is not on. `stopping`: it
            was asked to end. `failed`: it never came; it counts as no node.
        since: When it came into this state.
        asked: When it was asked for, or seen first.
        on: When it was seen on first; 0: not yet.
        idle: Since when nothing is on it; 0: something is.
        at_work: Instances on it; None: nobody can tell.
        tried: When it was asked for, or told to stop, last.
        tries: How often.
        worked: Whether anything ever was on it, so that the image is there.
        why: Why it is in this state, a sentence.
    """

    name: str
    id: str = ""
    state: NodeState = "asking"
    since: float = 0.0
    asked: float = 0.0
    on: float = 0.0
    idle: float = 0.0
    at_work: int | None = 0
    tried: float = 0.0
    tries: int = 0
    worked: bool = False
    why: str = ""

    def become(self, state: NodeState, now: float, why: str) -> None:
        """Change its state."""
        if state != self.state:
            self.state, self.since, self.tried, self.tries = state, now, 0.0, 0
        self.why = why


@dataclass
class Ledger:
    """The nodes of a group, and what was learned of it.

    Attributes:
        group: Its name.
        nodes: Those there are, the first ones first.
        boot_seconds: What a boot takes, from the last ones; 0: none was seen.
        failures: How many nodes in a row never came.
        not_before: None is asked for until then; seconds since the epoch.
        wanted: How many the policy wanted last.
        trouble: Why nothing can be decided now, or empty.
    """

    group: str
    nodes: list[Node] = field(default_factory=list)
    boot_seconds: float = 0.0
    failures: int = 0
    not_before: float = 0.0
    wanted: int = 0
    trouble: str = ""

    def as_json(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self))

    @property
    def counted(self) -> list[Node]:
        """Those that are on, or are to be."""
        return [node for node in self.nodes if node.state in ("asking", "booting", "on")]


def path_of(home: Home, group: str) -> Path:
    """Where a group's ledger is."""
    return home.root / "dispatch" / "nodes" / f"{group}.json"


def read_ledger(home: Home, group: str) -> Ledger:
    """The ledger of a group; an empty one if there is none.

    Raises:
        OSError, ValueError: If it is there and cannot be read: what was asked for is not to be forgotten.
    """
    try:
        told: dict[str, Any] = json.loads(path_of(home, group).read_bytes())
    except FileNotFoundError:
        return Ledger(group)
    try:
        return Ledger(**{**told, "nodes": [Node(**one) for one in told["nodes"]]})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path_of(home, group)} is none of this release: {error}") from error


def keep(home: Home, ledger: Ledger) -> None:
    """Have it on the disk."""
    path_of(home, ledger.group).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_text(path_of(home, ledger.group), ledger.as_json())
