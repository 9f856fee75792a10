"""How many instances a function should have: one rule, for real and in a simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from volvox.functions.definition import Scaling


@dataclass(frozen=True, slots=True)
class Demand:
    """What is known when it is decided.

    Attributes:
        waiting: Jobs that may run and have no instance.
        at_work: Jobs that an instance is at.
        instances: Instances there are, ready or on their way.
        idle_seconds: How long nothing has waited and fewer were at work than there are instances.
        job_seconds: What a job takes, from the last ones; 0 if none was done.
        start_seconds: What starting an instance takes, from the last ones; 0 if none was started.
        warm: Whether its schedule wants it warm now.
    """

    waiting: int
    at_work: int
    instances: int
    idle_seconds: float = 0.0
    job_seconds: float = 0.0
    start_seconds: float = 0.0
    warm: bool = False


def wanted(demand: Demand, scaling: Scaling) -> int:
    """The number of instances that there should be.

    The first job starts the first instance. Another one is started only if what waits would keep the present ones busy
    for longer than the start takes: else it would come too late to help. One is ended after `idle_seconds` of nothing
    to do, and never while it is at work.
    """
    least = max(scaling.min_scale, 1 if demand.warm else 0)
    jobs = demand.waiting + demand.at_work
    if jobs == 0:
        kept = demand.instances if demand.idle_seconds < scaling.idle_seconds else 0
        return min(max(least, kept), scaling.max_scale)
    together = scaling.concurrency * scaling.batch
    useful = math.ceil(jobs / together)
    target = max(1, demand.instances)
    while target < useful and target < scaling.max_scale:
        queued_seconds = demand.waiting * demand.job_seconds / (target * scaling.concurrency)
        if demand.job_seconds and queued_seconds <= demand.start_seconds:
            break
        target += 1
    if demand.instances > useful and demand.idle_seconds >= scaling.idle_seconds:
        target = max(useful, 1)
    return min(max(least, target), scaling.max_scale)
