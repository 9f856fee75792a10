"""What a job is thought to wait, take and cost, before it is begun; and the bill of those that were done together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from volvox.elasticity.policy import Demand, last_begins_in, wanted
from volvox.functions.definition import Function
from volvox.pricing.charges import Charge
from volvox.runtimes.interface import Outcome


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
    demand = Demand(ahead + 1, seen.at_work, seen.instances, job_seconds=run, start_seconds=seen.start_seconds)
    instances = max(1, seen.instances, wanted(demand, scaling))
    slots = instances * scaling.concurrency * (scaling.batch if function.model else 1)
    cold = 0.0 if seen.instances else seen.start_seconds
    over = ahead + 1 - max(0, slots - seen.at_work)  # of it and those before it, so many find no free slot
    wait = cold + last_begins_in(max(0, over), slots, run, run / slots)
    return {
        "wait_seconds": round(wait, 3),
        "run_seconds": round(run, 3),
        "cost": None if seen.charge is None else seen.charge.cost(run + cold),
        "currency": seen.charge.currency if seen.charge else "",
        "said": "from its last jobs" if seen.job_seconds else "as placement.call_seconds says",
    }


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
