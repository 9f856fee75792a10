"""What is simulated: jobs, instances, nodes and prices, as plain values that are right once they are made."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

PolicyName = Literal["needed", "eager", "always"]
POLICY_NAMES: tuple[PolicyName, ...] = ("needed", "eager", "always")

MOST_JOBS = 100_000
MOST_NODES = 1_000


@dataclass(frozen=True, slots=True)
class Work:
    """One job that comes.

    Attributes:
        at_seconds: When, from the beginning of the simulation.
        run_seconds: How long the model or script is at it.
    """

    at_seconds: float
    run_seconds: float


@dataclass(frozen=True, slots=True)
class Instances:
    """What does a job: a process, a container, a pod; it takes one slot of a node.

    Attributes:
        kept: Whether it stays for the next job; otherwise each job has one of its own.
        start_seconds: From taking a slot until it can do its first job.
        between_seconds: From the end of one job until the next can begin on the same slot; negative where a container
            is started while the last one still puts its files away.
        least: So many are kept warm always; of instances that are kept.
        most: Never more than so many.
        idle_seconds: One that had nothing to do for so long is ended; of instances that are kept.
        expected_seconds: What the policy takes a job for before it has seen one; 0: it has to learn that.
    """

    kept: bool = False
    start_seconds: float = 0.0
    between_seconds: float = 0.0
    least: int = 0
    most: int = 1_000
    idle_seconds: float = 300.0
    expected_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Nodes:
    """The machines that instances run on.

    Attributes:
        least: So many are on always.
        most: Never more than so many.
        at_start: So many are on when the simulation begins.
        slots: Instances that one has room for.
        boot_seconds: From asking for one until it is on.
        idle_seconds: One that had nothing to do for so long is powered off.
        policy: Who decides: `needed` is ours, the others are there to compare with.
    """

    least: int = 0
    most: int = 1
    at_start: int = 0
    slots: int = 1
    boot_seconds: float = 0.0
    idle_seconds: float = 300.0
    policy: PolicyName = "needed"


@dataclass(frozen=True, slots=True)
class Prices:
    """What is paid.

    Attributes:
        node_hour: An hour of one node, from asking for it until it is off.
        gb_second: A second of one GB (2**30 bytes) of an instance's memory while it starts or runs.
        request: One job.
        memory_mb: Memory of an instance.
        currency: What the prices are in.
    """

    node_hour: float = 0.0
    gb_second: float = 0.0
    request: float = 0.0
    memory_mb: int = 0
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a simulation is given.

    Attributes:
        name: What it is called in tables and pictures.
        work: The jobs, in the order they come.
        instances: What does them.
        pull_seconds: What a node takes to fetch the image; 0: it is on every node.
        nodes: What instances run on; None: the platform has room for all of them, as AWS Lambda has.
        prices: What is paid.
    """

    name: str
    work: tuple[Work, ...]
    instances: Instances = Instances()
    pull_seconds: float = 0.0
    nodes: Nodes | None = None
    prices: Prices = field(default_factory=Prices)

    @property
    def mean_run_seconds(self) -> float:
        """What the jobs take on average."""
        return sum(one.run_seconds for one in self.work) / len(self.work)


def at_random(count: int, per_hour: float, seed: int) -> list[float]:
    """When `count` jobs come that know nothing of each other: `per_hour` of them on average; the same for one seed."""
    source, now, found = random.Random(seed), 0.0, list[float]()  # noqa: S311 - a simulation is to be repeatable
    for _ in range(count):
        now += source.expovariate(per_hour / 3600.0)
        found.append(round(now, 6))
    return found
