"""The two experiments of the gateway's paper, played through again: ten images at once on AWS Batch and on OSCAR.

Run times, image pull, the pause between jobs and the nodes' times go in; when jobs waited and ended comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from volvox.elasticity.reading import read
from volvox.elasticity.result import Result
from volvox.elasticity.scenario import Nodes, Scenario, Work
from volvox.elasticity.simulation import simulate

TABLES = Path(__file__).parent / "tables"
# Ends of the last job that the paper prints; nothing is computed from them.
PUBLISHED: Mapping[str, float] = {"batch": 294.0, "oscar": 261.0}
GAINS_AT = (10, 12, 13, 14, 16, 20, 28)


@dataclass(frozen=True, slots=True)
class Replay:
    """One of the experiments.

    Attributes:
        name: `batch` or `oscar`.
        replayed: As it was done: the nodes of the paper, started for whatever waits.
        needed: The same with our policy.
        two_slots: The least that two machines can do: on and warm, the image there, no pause between jobs.
    """

    name: str
    replayed: Result
    needed: Result
    two_slots: Result

    @property
    def published_seconds(self) -> float:
        """The makespan that the paper prints."""
        return PUBLISHED[self.name]

    @property
    def difference(self) -> float:
        """By what part of the published makespan the replayed one is longer."""
        return self.replayed.makespan_seconds / self.published_seconds - 1


def scenario(name: str, folder: Path = TABLES) -> Scenario:
    """The experiment `batch` or `oscar` as it was done.

    Raises:
        InvalidInput: If its files are wrong.
    """
    return read(folder / f"{name}.yaml")


def replays(folder: Path = TABLES) -> tuple[Replay, ...]:
    """Both experiments.

    Raises:
        InvalidInput: If their files are wrong.
    """
    found: list[Replay] = []
    for name in PUBLISHED:
        told = scenario(name, folder)
        found.append(Replay(name, simulate(told), simulate(told, "needed"), simulate(_bound(told))))
    return tuple(found)


def second_node_gain(jobs: int, told: Scenario) -> float:
    """How many seconds earlier the last of `jobs` ends if our policy may boot a second node.

    Args:
        jobs: How many come at once, each as long as the experiment's are on average, with no pause between them.
        told: The experiment, whose first node is on and has to fetch the image.
    """
    alike = replace(
        told,
        work=tuple(Work(0.0, told.mean_run_seconds) for _ in range(jobs)),
        instances=replace(told.instances, between_seconds=0.0, expected_seconds=told.mean_run_seconds),
    )
    alone = replace(alike, nodes=replace(_nodes(alike), most=1))
    return simulate(alone, "needed").makespan_seconds - simulate(alike, "needed").makespan_seconds


def gains(folder: Path = TABLES) -> dict[int, float]:
    """Jobs -> seconds that the second node gains, for OSCAR's experiment."""
    told = scenario("oscar", folder)
    return {jobs: second_node_gain(jobs, told) for jobs in GAINS_AT}


def values(folder: Path = TABLES) -> dict[str, Any]:
    """Everything for machines; seconds."""
    told: dict[str, Any] = {
        one.name: {
            "simulated": round(one.replayed.makespan_seconds, 1),
            "published": one.published_seconds,
            "difference": round(one.difference, 4),
            "two_slots": round(one.two_slots.makespan_seconds, 1),
            "replayed": one.replayed.values(),
            "needed": one.needed.values(),
        }
        for one in replays(folder)
    }
    told["second_node_gain"] = {str(jobs): round(gained, 1) for jobs, gained in gains(folder).items()}
    return {"paper": told}


def _bound(told: Scenario) -> Scenario:
    nodes = replace(_nodes(told), least=2, most=2, at_start=2)
    return replace(told, pull_seconds=0.0, instances=replace(told.instances, between_seconds=0.0), nodes=nodes)


def _nodes(told: Scenario) -> Nodes:
    if told.nodes is None:
        raise ValueError(f"{told.name} has no nodes")
    return told.nodes
