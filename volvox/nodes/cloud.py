"""What a node group needs of whatever starts and stops its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from volvox.nodes.group import Commands, NodeGroup

SeenState = Literal["booting", "on", "off", "failed"]
SEEN_STATES: tuple[SeenState, ...] = ("booting", "on", "off", "failed")


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as it is now.

    Attributes:
        id: What its cloud calls it.
        state: `on`: instances can begin there. `off`: it is, or will be in a moment.
        at_work: Instances on it; None: nobody can tell, so it counts as at work.
        why: What else is said of it.
    """

    id: str
    state: SeenState
    at_work: int | None = 0
    why: str = ""


class Cloud(Protocol):
    """Starts, lists and stops nodes; all of it may be asked again after a crash in the middle.

    Attributes:
        named: Whether a node is called as it was asked for; else its cloud gives it an id.
        answers_seconds: What was asked for has begun after so long, also if whoever asked was killed meanwhile.
    """

    named: bool
    answers_seconds: float

    async def nodes(self) -> list[Seen]:
        """Every node there is.

        Raises:
            Unavailable: If that cannot be found out now.
            InvalidInput: If what is said cannot be understood.
        """
        ...

    async def start(self, name: str, total: int) -> None:
        """Have one more node.

        Args:
            name: What it is to be called, where the cloud takes a name.
            total: How many nodes there are to be with it.

        Raises:
            Unavailable: If it cannot be asked for now.
        """
        ...

    async def leave(self, node: str) -> str:
        """Have nothing more begin on a node, and say why it may not be stopped; empty: it may."""
        ...

    async def stay(self, node: str) -> None:
        """Undo `leave`."""
        ...

    async def stop(self, node: str) -> None:
        """Stop a node; nothing if it is off.

        Raises:
            Unavailable: If it cannot be stopped now.
        """
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


def open_cloud(group: NodeGroup) -> Cloud:
    """What starts and stops the nodes of a group."""
    from volvox.nodes.programs import Programs

    if isinstance(group.ways, Commands):
        made: Cloud = Programs(group.name, group.ways)
    else:
        from volvox.nodes.scaling_group import Ec2Group

        made = Ec2Group(group.ways)
    if group.runtime != "kubernetes":
        return made
    from volvox.nodes.in_cluster import InCluster

    return InCluster(made, file=group.cluster_config, context=group.context)
