"""What a simulation came to: times, waits, node-seconds and cost; each figure by one formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volvox.elasticity.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Done:
    """A job that has ended; times are seconds from the beginning of the simulation.

    Attributes:
        number: Its place among the jobs of the scenario.
        came: When it came.
        begun: When the model or script began.
        ended: When it had ended.
        node: On which node.
    """

    number: int
    came: float
    begun: float
    ended: float
    node: int

    @property
    def run_seconds(self) -> float:
        """How long the model or script was at it."""
        return self.ended - self.begun

    @property
    def wait_seconds(self) -> float:
        """From its coming until it began."""
        return self.begun - self.came


@dataclass(frozen=True, slots=True)
class NodeLife:
    """A node; times as for `Done`, None: that did not happen.

    Attributes:
        number: Nodes are numbered as they were asked for.
        asked: When it was.
        ready: When it had booted.
        usable: When it had the image.
        off: When it was powered off.
    """

    number: int
    asked: float
    ready: float | None
    usable: float | None
    off: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a scenario.

    Attributes:
        scenario: What was played through.
        jobs: In the order of the scenario.
        nodes: Every node that was ever on.
        starts: How often an instance was started.
        most_instances: So many were there at a time at most.
    """

    scenario: Scenario
    jobs: tuple[Done, ...]
    nodes: tuple[NodeLife, ...]
    starts: int
    most_instances: int

    @property
    def makespan_seconds(self) -> float:
        """From the first job's coming to the last one's end."""
        return max(job.ended for job in self.jobs) - min(job.came for job in self.jobs)

    @property
    def waits(self) -> list[float]:
        """Of all jobs, the shortest first."""
        return sorted(job.wait_seconds for job in self.jobs)

    @property
    def mean_wait_seconds(self) -> float:
        """Of all jobs."""
        return math.fsum(self.waits) / len(self.jobs)

    @property
    def mean_total_seconds(self) -> float:
        """From a job's coming to its end, on average."""
        return math.fsum(job.ended - job.came for job in self.jobs) / len(self.jobs)

    @property
    def node_seconds(self) -> float:
        """For how long nodes were on, from asking for one until it was off.

        One that stays on is counted until `idle_seconds` after the last job, when the policy would power off another.
        """
        return math.fsum(self.off_at(one) - one.asked for one in self.nodes)

    def off_at(self, node: NodeLife) -> float:
        """When a node was off, or until when it is counted."""
        if node.off is not None:
            return node.off
        idle = self.scenario.nodes.idle_seconds if self.scenario.nodes else 0.0
        return max(node.asked, max(job.ended for job in self.jobs) + idle)

    @property
    def busy_share(self) -> float:
        """Part of the slots' time in which a job ran; 1 where there are no nodes, as nothing else is paid there."""
        if self.scenario.nodes is None:
            return 1.0
        slot_seconds = self.node_seconds * self.scenario.nodes.slots
        return math.fsum(job.run_seconds for job in self.jobs) / slot_seconds if slot_seconds else 0.0

    @property
    def cost(self) -> float:
        """Of nodes by the hour, of instances' memory by the second, of jobs each."""
        prices, starting = self.scenario.prices, self.starts * self.scenario.instances.start_seconds
        seconds = math.fsum(job.run_seconds for job in self.jobs) + starting
        return (
            self.node_seconds / 3600 * prices.node_hour
            + seconds * prices.memory_mb / 1024 * prices.gb_second
            + len(self.jobs) * prices.request
        )

    def values(self) -> dict[str, Any]:
        """Every figure, for machines."""
        return {
            "policy": self.scenario.nodes.policy if self.scenario.nodes else None,
            "jobs": len(self.jobs),
            "makespan_seconds": round(self.makespan_seconds, 3),
            "wait_seconds": {
                "mean": round(self.mean_wait_seconds, 3), "median": round(quantile(self.waits, 0.5), 3),
                "p95": round(quantile(self.waits, 0.95), 3), "max": round(self.waits[-1], 3),
            },
            "mean_total_seconds": round(self.mean_total_seconds, 3),
            "jobs_per_minute": round(60 * len(self.jobs) / self.makespan_seconds, 3),
            "instances": {"starts": self.starts, "most": self.most_instances},
            "nodes": {"started": len(self.nodes), "seconds": round(self.node_seconds, 3),
                      "busy_share": round(self.busy_share, 4)},
            "cost": round(self.cost, 6),
            "currency": self.scenario.prices.currency,
        }  # fmt: skip


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie, between two of them in a straight line."""
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
