"""Which runtime a function goes to: one that it fits, by predicted time and cost. Pure, and it gives its reasons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from volvox.functions.definition import Function, Preference
from volvox.pricing.charges import Charge

ASSUMED_SECONDS = 10.0  # of a call where nobody says what it takes, only to compare places by
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may have; None: whatever there is.

    Attributes:
        memory_mb, storage_mb, image_mb, payload_mb: In MB of 2**20 bytes.
        cpu: Cores.
        gpus: How many.
        timeout_seconds: How long a call may take.
    """

    memory_mb: float | None = None
    cpu: float | None = None
    gpus: int | None = None
    storage_mb: float | None = None
    image_mb: float | None = None
    payload_mb: float | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A runtime that a function might go to.

    Attributes:
        runtime: Its name.
        limits: What it allows.
        charge: What it costs for this function.
        cold_seconds: What a call waits that finds no instance.
        keep_seconds: How long an instance waits for the next call.
        cannot: Why it cannot run such a function whatever it needs; empty: it can.
        closed: Why it cannot be used now, and how to mend that; empty: it can.
    """

    runtime: str
    limits: Limits = Limits()
    charge: Charge = field(default_factory=Charge)
    cold_seconds: float = 0.0
    keep_seconds: float = 0.0
    cannot: str = ""
    closed: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a call is thought to take and cost.

    Attributes:
        wait_seconds: From its coming until the model or script begins.
        call_seconds: How long that is at it.
        cost: In the currency of the charge.
        cold_share: Part of the calls that find no instance.
    """

    wait_seconds: float
    call_seconds: float
    cost: float
    cold_share: float

    @property
    def seconds(self) -> float:
        """From its coming to its answer."""
        return self.wait_seconds + self.call_seconds


@dataclass(frozen=True, slots=True)
class Candidate:
    """One runtime, as the choice saw it.

    Attributes:
        place: The runtime.
        lacks: What the function needs and it has not, a phrase each.
        prediction: Where it fits.
        reason: All of that in a sentence that begins with its name.
    """

    place: Place
    lacks: tuple[str, ...]
    prediction: Prediction | None
    reason: str

    @property
    def usable(self) -> bool:
        """Whether the function could go there now."""
        return not self.lacks and not self.place.closed


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a function goes.

    Attributes:
        runtime: Its name; empty: nowhere.
        candidates: Every runtime, the chosen one first, those that cannot be used last.
        call_seconds: What a call was taken for.
        assumed: Whether nobody had said that.
    """

    runtime: str
    candidates: tuple[Candidate, ...]
    call_seconds: float
    assumed: bool

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence a runtime."""
        return tuple(one.reason for one in self.candidates)

    @property
    def chosen(self) -> Candidate | None:
        """The runtime that it goes to."""
        return self.candidates[0] if self.runtime else None


def choose(function: Function, places: Sequence[Place]) -> Choice:
    """Choose the runtime of a function.

    Args:
        function: What it needs, and in `placement` what its owner expects and prefers.
        places: The runtimes there are; of equally good ones the first is taken.
    """
    told = function.placement
    seconds = told.call_seconds or ASSUMED_SECONDS
    found = [_seen(function, place, seconds) for place in places]
    fitting = [one.prediction for one in found if one.prediction is not None and one.usable]
    dearest = max((one.cost for one in fitting), default=0.0)
    slowest = max((one.seconds for one in fitting), default=0.0)
    order = {one.place.runtime: index for index, one in enumerate(found)}

    def rank(one: Candidate) -> tuple[bool, bool, tuple[float, ...], int]:
        score = (math.inf,) if one.prediction is None else _score(one.prediction, told.prefer, dearest, slowest)
        return not one.usable, bool(one.lacks), score, order[one.place.runtime]

    ranked = tuple(sorted(found, key=rank))
    runtime = ranked[0].place.runtime if ranked and ranked[0].usable else ""
    return Choice(runtime, ranked, seconds, not told.call_seconds)


def lacks(function: Function, limits: Limits) -> tuple[str, ...]:
    """What a function needs beyond the limits, a phrase each."""
    needs, told = function.resources, function.placement
    longest = max(function.timeout_seconds, told.call_seconds)
    asked: Iterable[tuple[float | None, float | None, str]] = (
        (needs.memory_mb, limits.memory_mb, "memory over {} MB (needs {})"),
        (needs.cpu, limits.cpu, "more than {} CPU (needs {})"),
        (needs.storage_mb, limits.storage_mb, "disk over {} MB (needs {})"),
        (told.image_mb, limits.image_mb, "image over {} MB (it has {})"),
        (told.payload_mb, limits.payload_mb, "payload over {} MB (it has {})"),
    )
    found = [
        phrase.format(f"{limit:,g}", f"{needed:,g}")
        for needed, limit, phrase in asked
        if needed and limit is not None and needed > limit
    ]
    if needs.gpus and limits.gpus is not None and needs.gpus > limits.gpus:
        there = f"{limits.gpus} {'GPU' if limits.gpus == 1 else 'GPUs'}" if limits.gpus else "no GPU"
        found.append(f"{there} (needs {needs.gpus})")
    if limits.timeout_seconds is not None and longest > limits.timeout_seconds:
        found.append(f"calls over {limits.timeout_seconds / 60:g} minutes (may take {longest / 60:g})")
    return tuple(found)


def predict(function: Function, place: Place, call_seconds: float) -> Prediction:
    """What a call takes and costs there on average.

    Calls are taken to come independently, `calls_per_hour` of them. One finds no instance if none came for
    `keep_seconds`. What an instance waits for the next call is paid with the call before, where waiting is charged.

    Args:
        function: Whose calls.
        place: Where.
        call_seconds: What one takes.
    """
    told, scaling = function.placement, function.scaling
    rate, keep = told.calls_per_hour / _HOUR, place.keep_seconds
    if scaling.min_scale:
        cold = 0.0
        idle = max(0.0, scaling.min_scale / rate - call_seconds) if rate else scaling.min_scale * _HOUR
    else:
        cold = math.exp(-rate * keep)
        idle = -math.expm1(-rate * keep) / rate if rate else keep
    queue = queue_seconds(rate, call_seconds, scaling.max_scale * scaling.concurrency)
    busy = call_seconds + cold * place.cold_seconds
    cost = place.charge.cost(busy) + idle * place.charge.idle_second
    return Prediction(cold * place.cold_seconds + queue, call_seconds, cost, cold)


def queue_seconds(rate: float, call_seconds: float, servers: int) -> float:
    """How long a call waits on average because all servers are at work; infinite if they cannot keep up.

    Args:
        rate: Calls a second, independent of each other.
        call_seconds: What one takes, on average.
        servers: How many are done at a time.

    Source:
        Erlang 1917, the formula of M/M/c queues known as Erlang C.
    """
    load = rate * call_seconds
    if load >= servers:
        return math.inf
    if not load:
        return 0.0
    blocked = 1.0  # Erlang's B for 0, 1, 2, ... servers, which does not overflow
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    waits = blocked / (1 - load / servers * (1 - blocked))
    return waits * call_seconds / (servers - load)


def _score(one: Prediction, prefer: Preference, dearest: float, slowest: float) -> tuple[float, ...]:
    cost = one.cost / dearest if dearest else 0.0
    time = one.seconds / slowest if slowest and math.isfinite(slowest) else float(math.isinf(one.seconds))
    late = math.isinf(one.seconds)  # what does not keep up is no choice while another does
    if prefer == "cheapest":
        return late, cost, time
    if prefer == "fastest":
        return late, time, cost
    return late, (1 - prefer) * cost + prefer * time


def _seen(function: Function, place: Place, call_seconds: float) -> Candidate:
    missing = (place.cannot,) if place.cannot else lacks(function, place.limits)
    if missing:
        said = place.cannot or f"does not fit: {', '.join(missing)}"
        return Candidate(place, missing, None, f"{place.runtime}: {said}")
    prediction = predict(function, place, call_seconds)
    terms = _terms(function, place, prediction)
    said = f"fits, but {place.closed}; {terms}" if place.closed else f"fits; {terms}"
    return Candidate(place, (), prediction, f"{place.runtime}: {said}")


def _terms(function: Function, place: Place, one: Prediction) -> str:
    if math.isinf(one.wait_seconds):
        load = function.placement.calls_per_hour / _HOUR * one.call_seconds
        there = function.scaling.max_scale * function.scaling.concurrency
        return f"{load:.1f} calls would be under way at a time and max_scale allows {there}, so that they would pile up"
    cost = f"{one.cost:.2g} {place.charge.currency}".rstrip() + " a call" if one.cost else "costs nothing"
    return f"wait {one.wait_seconds:.1f} s, answer after {one.seconds:.1f} s, {cost}"


def as_values(choice: Choice) -> dict[str, object]:
    """A choice for machines; seconds, None where something does not fit or would never end."""

    def finite(value: float) -> float | None:
        return round(value, 6) if math.isfinite(value) else None

    def of(one: Candidate) -> Mapping[str, object]:
        told = one.prediction
        return {
            "runtime": one.place.runtime, "usable": one.usable, "lacks": [*one.lacks], "reason": one.reason,
            "wait_seconds": finite(told.wait_seconds) if told else None,
            "seconds": finite(told.seconds) if told else None,
            "cost": float(f"{told.cost:.6g}") if told else None, "currency": one.place.charge.currency,
        }  # fmt: skip

    return {
        "runtime": choice.runtime or None, "call_seconds": choice.call_seconds, "assumed": choice.assumed,
        "candidates": [of(one) for one in choice.candidates],
    }  # fmt: skip
