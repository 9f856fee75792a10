"""Lanes: a function that is deployed, and what is under way for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from volvox.dispatch.doing import Applied
from volvox.dispatch.foreseeing import Seen
from volvox.elasticity.policy import JOB_WEIGHT, START_WEIGHT, learned
from volvox.errors import VolvoxError
from volvox.inbox import Job
from volvox.pricing.charges import Charge
from volvox.runtimes.interface import Outcome, Runtime, Status

_AHEAD = 2  # shares of an instance: while it is at one, the next is fetched


@dataclass
class Lane:
    """A function that is deployed, and what is under way for it.

    Attributes:
        applied: The function and its version.
        runtime: Where it runs.
        charge: What that costs; None: nobody knows.
        groups: What is under way: the task, and the jobs that it does.
        begun: When each of these was begun; `time.monotonic`.
        waiting: Jobs that wait for an instance, as they were counted last.
        warm: Whether its schedule wants it warm.
        instances: How many instances were asked for last, and are there.
        scaling: While that is asked for; None: it was not yet.
        idle_since: Since when there was less to do than the instances could; `time.monotonic`.
        job_seconds: What a job takes, smoothed.
        start_seconds: What a start takes, smoothed.
        there: How many instances could answer when its runtime was asked last.
        cold_seconds: What the next cold start takes, as it said then.
    """

    applied: Applied
    runtime: Runtime
    charge: Charge | None = None
    groups: dict[asyncio.Task[list[Outcome]], list[Job]] = field(default_factory=dict)
    begun: dict[asyncio.Task[list[Outcome]], float] = field(default_factory=dict)
    waiting: int = 0
    warm: bool = False
    instances: int = 0
    scaling: asyncio.Task[None] | None = None
    idle_since: float = field(default_factory=time.monotonic)
    job_seconds: float = 0.0
    start_seconds: float = 0.0
    there: int = 0
    cold_seconds: float = 0.0

    @property
    def at_work(self) -> int:
        """Jobs that are under way."""
        return sum(map(len, self.groups.values()))

    @property
    def share(self) -> int:
        """How many jobs one instance is given together."""
        return self.applied.function.scaling.batch if self.applied.function.model else 1

    @property
    def room(self) -> int:
        """How many more groups may be under way."""
        scaling = self.applied.function.scaling
        ahead = _AHEAD if self.applied.function.model else 1
        return scaling.max_scale * scaling.concurrency * ahead - len(self.groups)

    @property
    def seen(self) -> Seen:
        """What the waits of its jobs are foreseen by."""
        return Seen(self.at_work, self.there, self.job_seconds, self.cold_seconds or self.start_seconds, self.charge)

    def look(self, status: Status) -> None:
        """Remember what its runtime says of its instances."""
        self.there = sum(one.state in ("ready", "busy") for one in status.instances)
        self.cold_seconds = status.cold_start_seconds or 0.0

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Remember what jobs and starts take."""
        for one in outcomes:
            if not one.kind:
                self.job_seconds = learned(self.job_seconds, one.seconds, JOB_WEIGHT)
            if one.started_seconds:
                self.start_seconds = learned(self.start_seconds, one.started_seconds, START_WEIGHT)


async def as_told(lane: Lane) -> dict[str, Any]:
    """A lane for people and programs."""
    try:
        status = await lane.runtime.status(lane.applied.function.name)
    except VolvoxError as error:
        status = Status("failed", reason=str(error))
    lane.look(status)
    return {
        "function": lane.applied.function.name,
        "version": lane.applied.version,
        "runtime": lane.runtime.name,
        "at_work": lane.at_work,
        "state": status.state,
        "reason": status.reason,
        "instances": [
            {"id": one.id, "state": one.state, "since": one.since, "version": one.version} for one in status.instances
        ],
        "wanted": lane.instances,
        "idle_seconds": lane.applied.function.scaling.idle_seconds,
        "job_seconds": round(lane.job_seconds, 4),
        "charge": asdict(lane.charge) if lane.charge else None,
        "cold_start_seconds": round(status.cold_start_seconds or lane.start_seconds, 3),
    }
