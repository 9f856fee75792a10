"""How many instances a function should have, and how many nodes they need: one rule, for real and in a simulation.

Numbers in, a number out: nothing here has a clock, an engine or a memory, so that what a simulation shows is what a
dispatcher does. The rule is the same for both. The first job starts the first one. Another is started only if the jobs
that wait would still be waiting when it is ready, for it would come too late to help else. One that has nothing to do
is ended after a while, and one that is at work never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from volvox.functions.definition import Scaling

JOB_WEIGHT, START_WEIGHT = 0.2, 0.3  # of the newest among those that a job's or a start's time is learned from


@dataclass(frozen=True, slots=True)
class Demand:
    """What is known when it is decided how many instances there should be.

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


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """What is allowed of the nodes of a pool.

    Attributes:
        least: So many are on always.
        most: Never more than so many.
        slots: Instances that one node has room for.
        idle_seconds: One that had no instance for so long is powered off, down to `least`.
    """

    least: int = 0
    most: int = 1
    slots: int = 1
    idle_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class NodeDemand:
    """What is known when it is decided how many nodes there should be.

    Attributes:
        waiting: Jobs that may run and have no slot.
        at_work: Jobs that are on a slot.
        nodes: Nodes there are, on or booting.
        job_seconds: How long a job takes its slot; 0 if none was done.
        boot_seconds: From asking for a node until it can begin its first job: its boot, and its pull of the image.
        ready_seconds: In how long the first slot of the present nodes becomes free; 0: one is.
        idle_seconds: Of each node that is on and has nothing to do, since when.
        most_instances: Jobs that may be under way at a time, whatever room there is; 0: any.
    """

    waiting: int
    at_work: int
    nodes: int
    job_seconds: float = 0.0
    boot_seconds: float = 0.0
    ready_seconds: float = 0.0
    idle_seconds: tuple[float, ...] = ()
    most_instances: int = 0


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
    useful = math.ceil(jobs / (scaling.concurrency * scaling.batch))

    def late(instances: int) -> bool:
        # One of so many becomes free every job_seconds / slots: that is when the first of those that wait begins.
        slots = instances * scaling.concurrency
        begins = last_begins_in(demand.waiting, slots, demand.job_seconds, demand.job_seconds / slots)
        return not demand.job_seconds or begins > demand.start_seconds

    target = _grown(demand.instances, min(useful, scaling.max_scale), late)
    if demand.instances > useful and demand.idle_seconds >= scaling.idle_seconds:
        target = max(useful, 1)
    return min(max(least, target), scaling.max_scale)


def wanted_nodes(demand: NodeDemand, limits: NodeLimits) -> int:
    """The number of nodes that should be on or booting.

    As for instances: the first job starts the first node; another is booted only if the last of the jobs that wait
    would begin later on the present ones than it takes to boot.
    """

    def late(nodes: int) -> bool:
        slots = nodes * limits.slots
        begins = last_begins_in(demand.waiting, slots, demand.job_seconds, demand.ready_seconds)
        return not demand.job_seconds or begins > demand.boot_seconds

    return _nodes(demand, limits, lambda useful: _grown(demand.nodes, useful, late))


def eager_nodes(demand: NodeDemand, limits: NodeLimits) -> int:
    """What CLUES and AWS Batch do, to compare with: a node for whatever waits, however late it comes."""
    return _nodes(demand, limits, lambda useful: max(demand.nodes, useful))


def all_nodes(demand: NodeDemand, limits: NodeLimits) -> int:  # noqa: ARG001 - one of the policies
    """Every node is on all the time: no wait for a boot, and the highest price."""
    return limits.most


NodePolicy = Callable[[NodeDemand, NodeLimits], int]
POLICIES: Mapping[str, NodePolicy] = {"needed": wanted_nodes, "eager": eager_nodes, "always": all_nodes}


def last_begins_in(waiting: int, slots: int, job_seconds: float, ready_seconds: float) -> float:
    """In how many seconds the last of `waiting` jobs begins, if `slots` take them in turn.

    Args:
        waiting: How many.
        slots: How many are done at a time.
        job_seconds: What each takes.
        ready_seconds: When the first of them begins.
    """
    return ready_seconds + max(0, waiting - 1) * job_seconds / slots if waiting else 0.0


def learned(before: float, seen: float, weight: float) -> float:
    """What something takes, after it was seen to take `seen`: smoothed, so that one odd case decides nothing."""
    return before + (weight if before else 1.0) * (seen - before)


def _grown(present: int, useful: int, late: Callable[[int], bool]) -> int:
    """So many more than `present` as come in time, at least one and `useful` at most.

    Args:
        present: How many there are.
        useful: More would have nothing to do.
        late: Whether so many would keep jobs waiting for longer than another takes; the more, the less.
    """
    low, high = max(1, present), useful
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if late(middle) else (low, middle)
    return low


def _nodes(demand: NodeDemand, limits: NodeLimits, grown: Callable[[int], int]) -> int:
    jobs = demand.waiting + demand.at_work
    at_once = min(jobs, demand.most_instances or jobs)
    useful = min(math.ceil(at_once / limits.slots), limits.most)
    target = grown(useful) if jobs else demand.nodes
    if not demand.waiting or demand.nodes > useful:
        over = sum(seconds >= limits.idle_seconds for seconds in demand.idle_seconds)
        target = max(useful if demand.waiting else 0, min(target, demand.nodes - over))
    return min(max(target, limits.least), limits.most)
