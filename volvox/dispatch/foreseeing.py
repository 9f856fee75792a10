"""What a job is thought to wait, take and cost, before it is begun; and the bill of those that were done together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volvox.elasticity.policy import Demand, wanted
from volvox.functions.definition import Function
from volvox.pricing.charges import Charge
from volvox.runtimes.interface import Outcome

_PRECISION = 1e-6


@dataclass(frozen=True, slots=True)
class Seen:
    """A function as its dispatcher has seen it.

    Attributes:
        at_work: Jobs that are under way.
        instances: Those that can answer.
        job_seconds: What a job takes, from the last ones; 0 if none was done.
        start_seconds: What a start takes.
        charge: What it costs; None: nobody knows.
    """

    at_work: int = 0
    instances: int = 0
    job_seconds: float = 0.0
    start_seconds: float = 0.0
    charge: Charge | None = field(default_factory=Charge)


def foreseen(function: Function, seen: Seen, ahead: int) -> dict[str, Any]:
    """What a job that comes now is thought to wait, take and cost; empty if no job of it was done and nobody says.

    Args:
        function: Whose job.
        seen: How it is now.
        ahead: Jobs that wait before it.

    Returns:
        `wait_seconds`, `run_seconds`, `cost` (None: not known), `currency`, and `said`: what that was told from.
    """
    run = seen.job_seconds or function.placement.call_seconds
    if not run:
        return {}
    scaling = function.scaling
    if function.model:
        demand = Demand(ahead + 1, seen.at_work, seen.instances, job_seconds=run, start_seconds=seen.start_seconds)
        slots = scaling.concurrency * scaling.batch
        more = max(1, wanted(demand, scaling)) - seen.instances
        ready = [*_present(seen.instances * slots, seen.at_work, run), *[seen.start_seconds] * (max(0, more) * slots)]
        wait = begins_in(ahead, ready, run)
        cold = 0.0 if seen.instances else seen.start_seconds
    else:  # each job has a container of its own, which is started first
        cold = seen.start_seconds
        ready = _present(scaling.max_scale * scaling.concurrency, seen.at_work, run + cold)
        wait = cold + begins_in(ahead, ready, run + cold)
    return {
        "wait_seconds": round(wait, 3),
        "run_seconds": round(run, 3),
        "cost": None if seen.charge is None else seen.charge.cost(run + cold),
        "currency": seen.charge.currency if seen.charge else "",
        "said": "from its last jobs" if seen.job_seconds else "as placement.call_seconds says",
    }


def begins_in(ahead: int, ready: Sequence[float], job_seconds: float) -> float:
    """When the job after `ahead` others begins, if slots that are free at the times `ready` take them in turn.

    Args:
        ahead: Jobs before it.
        ready: For each slot in how many seconds it can begin its first job.
        job_seconds: What each takes; above 0.
    """
    free = sorted(ready)
    if ahead < len(free) and free[ahead] - free[0] <= job_seconds:  # nobody has a second turn before
        return free[ahead]
    low, high = free[0], free[-1] + job_seconds * (ahead // len(free) + 1)
    while high - low > _PRECISION * max(1.0, high):
        middle = (low + high) / 2
        begun = sum(int((middle - time) / job_seconds) + 1 for time in free if time <= middle)
        low, high = (low, middle) if begun > ahead else (middle, high)
    return high


def from_state(told: Mapping[str, Any], name: str) -> Seen:
    """A function as its dispatcher last told others (`volvox.dispatch.following.deployed`)."""
    found = next((one for one in told["functions"] if one["function"] == name), None)
    if found is None:
        return Seen(charge=None)
    charge = found.get("charge")
    return Seen(
        at_work=found["at_work"],
        instances=sum(one["state"] in ("ready", "busy") for one in found["instances"]),
        job_seconds=found["job_seconds"],
        start_seconds=found["cold_start_seconds"],
        charge=Charge(**charge) if charge else None,
    )


def bill(outcomes: Sequence[Outcome], charge: Charge | None, before: Mapping[str, Any]) -> dict[str, Any]:
    """What one of the jobs that an instance did together costs, with what its earlier attempts did.

    An instance that is at several jobs is paid once: each bears an equal part, and a price for each call of its own.

    Args:
        outcomes: Of all of them; those that never came to an instance cost nothing.
        charge: What it costs; None: nobody knows.
        before: The job's bill until now.

    Returns:
        `cost` and `currency`; what it was before if nothing is to be paid or known.
    """
    seconds = max((one.seconds + one.started_seconds for one in outcomes), default=0.0)
    if charge is None or not seconds:
        return dict(before)
    each = (charge.cost(seconds) - charge.call) / len(outcomes) + charge.call
    return {"cost": before.get("cost", 0.0) + each, "currency": charge.currency}


def _present(slots: int, at_work: int, job_seconds: float) -> list[float]:
    """When each of the slots there are is free: those at work one after the other, as they were begun."""
    busy = min(slots, at_work)
    return [0.0] * (slots - busy) + [job_seconds * (index + 1) / busy for index in range(busy)]
