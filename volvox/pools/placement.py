"""Which pool a stage goes to: those that fit, then by wait, start-up time and cost. Pure, and it gives its reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from volvox.errors import NoPoolFits, PoolDown
from volvox.pools.definition import HERE, Offers, PoolDefinition
from volvox.pools.files import known_pool
from volvox.pools.needs import Needs


@dataclass(frozen=True)
class PoolState:
    """What is true of a pool now.

    Attributes:
        online: Whether a worker of it is alive and the pool is not paused.
        queued: Runs that wait for it.
        running: Runs that it has begun.
        limit: How many it runs at a time, or None.
        exists: Whether the Prefect server knows it.
        paused: Whether an operator paused it there.
    """

    online: bool
    queued: int = 0
    running: int = 0
    limit: int | None = None
    exists: bool = True
    paused: bool = False

    @property
    def free(self) -> int | None:
        """How many more runs would start at once; None: as many as come."""
        return None if self.limit is None else max(0, self.limit - self.running - self.queued)

    @property
    def expected_wait(self) -> float:
        """How many lengths of a run a new one waits: 0 where a place is free, 1 where `limit` runs are before it."""
        if self.limit is None:
            return 0.0
        before = self.running + self.queued + 1 - self.limit
        return max(0, before) / max(self.limit, 1)


@dataclass(frozen=True)
class Candidate:
    """One pool, as the choice saw it.

    Attributes:
        pool: Its name.
        lacks: What it lacks of what is needed, one phrase each; empty: it fits.
        down: Why no run would start there, and how to mend it; empty: one would.
        reason: All of that in a sentence that begins with the pool's name.
        shortfall: How much it lacks, to know the nearest: whole numbers count what is missing.
        order: What it is compared by, the smallest first: wait, start-up seconds, cost.
        enabled: Whether this installation uses it.
    """

    pool: str
    lacks: tuple[str, ...]
    down: str
    reason: str
    shortfall: float
    order: tuple[float, float, float]
    enabled: bool = True

    @property
    def usable(self) -> bool:
        """Whether a run could start there."""
        return not self.lacks and not self.down


@dataclass(frozen=True)
class Placement:
    """Where a stage goes.

    Attributes:
        pool: The pool's name; `here`: this very process.
        reasons: One sentence a pool, the chosen one first.
        stated: Whether somebody said so, rather than the needs.
        candidates: The same pools as values.
    """

    pool: str
    reasons: tuple[str, ...]
    stated: bool = False
    candidates: tuple[Candidate, ...] = field(default=(), repr=False)


def place(
    needs: Needs, pools: Mapping[str, PoolDefinition], states: Mapping[str, PoolState], stated: str = ""
) -> Placement:
    """Choose the pool of one run.

    Args:
        needs: What the run must have.
        pools: The pools there are, `here` among them if it may run in this process.
        states: What is true of them now; a pool without one is taken for down, `here` for free.
        stated: A pool that somebody chose; it must be able to take the run all the same.

    Returns:
        The pool, with one reason a pool.

    Raises:
        NotFound: If the stated pool does not exist.
        PoolDown: If the stated pool, or every pool that fits, has no worker.
        NoPoolFits: If the stated pool, or every pool, lacks something.
    """
    found = {name: _seen(needs, pool, states.get(name)) for name, pool in pools.items()}
    if stated:
        return _stated(found[known_pool(stated, pools).name], found)
    best = _ordered(found.values())
    if not best or not best[0].usable:
        raise _refusal(needs, found)
    return _placement(best[0], found, stated=False)


def candidates(
    needs: Needs, pools: Mapping[str, PoolDefinition], states: Mapping[str, PoolState]
) -> tuple[Candidate, ...]:
    """Every pool as `place` would see it, the best first and those that cannot be used last."""
    return _ordered(_seen(needs, pool, states.get(name)) for name, pool in pools.items())


def lacks(needs: Needs, offers: Offers) -> dict[str, tuple[str, float]]:
    """What an offer lacks: the need's name -> the phrase, and what part of the need is missing, up to 1."""
    found: dict[str, tuple[str, float]] = {}

    def compare(name: str, needed: float, offered: float | None, said: str) -> None:
        if offered is not None and offered < needed:
            found[name] = (said, 1 - offered / needed)

    gpus = offers.gpus
    if needs.gpus and gpus == 0:
        return {"gpus": (f"no GPU (needs {needs.gpus})", 1.0), **lacks(_without_gpu(needs), offers)}
    compare("cpu", needs.cpu, offers.cpu, f"{_number(offers.cpu)} CPU (needs {_number(needs.cpu)})")
    compare(
        "memory_mb", needs.memory_mb, offers.memory_mb, f"{offers.memory_mb} MB of memory (needs {needs.memory_mb})"
    )
    compare(
        "storage_mb", needs.storage_mb, offers.storage_mb, f"{offers.storage_mb} MB of disk (needs {needs.storage_mb})"
    )
    if needs.gpus:  # what a GPU must be matters only where one is asked for
        compare("gpus", needs.gpus, gpus, f"{gpus} {'GPU' if gpus == 1 else 'GPUs'} (needs {needs.gpus})")
        compare(
            "gpu_memory_mb", needs.gpu_memory_mb, offers.gpu_memory_mb,
            f"{offers.gpu_memory_mb} MB of GPU memory (needs {needs.gpu_memory_mb})",
        )  # fmt: skip
        compare(
            "gpu_compute_capability", needs.gpu_compute_capability, offers.gpu_compute_capability,
            f"GPU compute capability {_number(offers.gpu_compute_capability)} "
            f"(needs {_number(needs.gpu_compute_capability)})",
        )  # fmt: skip
    return found


def _without_gpu(needs: Needs) -> Needs:
    return needs.model_copy(update={"gpus": 0, "gpu_memory_mb": 0, "gpu_compute_capability": 0.0})


def _seen(needs: Needs, pool: PoolDefinition, state: PoolState | None) -> Candidate:
    missing = lacks(needs, pool.offers)
    phrases = tuple(phrase for phrase, _ in missing.values())
    state = state or PoolState(online=pool.name == HERE, exists=pool.name == HERE)
    down = _down(pool, state)
    if phrases:
        reason = f"{pool.name}: {', '.join(phrases)}" + (f"; {down}" if not pool.enabled else "")
    elif down:
        reason = f"{pool.name}: fits, but {down}"
    else:
        reason = f"{pool.name}: fits{_waiting(state)}{_terms(pool)}"
    return Candidate(
        pool=pool.name,
        lacks=phrases,
        down=down,
        reason=reason,
        shortfall=sum(1 + part for _, part in missing.values()),
        order=(state.expected_wait, pool.startup_seconds, pool.cost_per_hour),
        enabled=pool.enabled,
    )


def _down(pool: PoolDefinition, state: PoolState) -> str:
    if not pool.enabled:
        return f"it is off; `volvox pools enable {pool.name}` switches it on"
    if not state.exists:
        return "the Prefect server does not know it; `volvox apply` tells it"
    if state.paused:
        return f"it is paused; `prefect work-pool resume {pool.name}` lets it go on"
    if not state.online:
        return f"its worker is down; `volvox up` starts it, and `volvox pools check {pool.name}` finds out why not"
    return ""


def _waiting(state: PoolState) -> str:
    if state.expected_wait == 0 and not state.queued:
        return ""
    if state.queued:
        return f", {state.queued} waiting"
    return f", all {state.limit} {'place' if state.limit == 1 else 'places'} taken"


def _terms(pool: PoolDefinition) -> str:
    if pool.name == HERE:
        return ", starts at once, costs nothing"
    cost = f", {pool.cost_per_hour:.2f}/h" if pool.cost_per_hour else ", costs nothing"
    return f", about {_number(pool.startup_seconds)} s to start{cost}"


def _stated(chosen: Candidate, found: Mapping[str, Candidate]) -> Placement:
    if chosen.lacks:
        others = [one.pool for one in _ordered(found.values()) if one.usable]
        fits = f"; {' and '.join(others)} would fit" if others else ""
        raise NoPoolFits(
            f"pool {chosen.pool!r} cannot take this run: it has {', '.join(chosen.lacks)}{fits}",
            _reasons(chosen, found),
        )
    if chosen.down:
        raise PoolDown(f"pool {chosen.pool!r} cannot take this run: {chosen.down}")
    return _placement(chosen, found, stated=True)


def _refusal(needs: Needs, found: Mapping[str, Candidate]) -> NoPoolFits | PoolDown:
    """Why there is no pool, and which came nearest."""
    if not found:
        return NoPoolFits("there is no pool at all; `volvox pools` shows those that can be switched on")
    if fitting := [one for one in _ordered(found.values()) if not one.lacks]:
        if told := "; ".join(one.reason for one in fitting if one.enabled):
            return PoolDown(f"no pool can take this run now: {told}")
        off, first = " and ".join(one.pool for one in fitting), fitting[0].pool
        return NoPoolFits(
            f"no pool that is on fits {_told(needs)}; {off} would; `volvox pools enable {first}` switches it on",
            _reasons(fitting[0], found),
        )
    nearest = min(found.values(), key=lambda one: (one.shortfall, bool(one.down), one.pool))
    return NoPoolFits(
        f"no pool fits {_told(needs)}; the nearest is {nearest.pool}, which has {', '.join(nearest.lacks)}; "
        "ask for less, or add a pool (`volvox pools`)",
        _reasons(nearest, found),
    )


def _told(needs: Needs) -> str:
    """What is needed, in a line."""
    parts = [
        f"{_number(needs.cpu)} CPU" if needs.cpu else "",
        f"{needs.memory_mb} MB" if needs.memory_mb else "",
        f"{needs.storage_mb} MB of disk" if needs.storage_mb else "",
        f"{needs.gpus} {'GPU' if needs.gpus == 1 else 'GPUs'}" if needs.gpus else "",
        f"{needs.gpu_memory_mb} MB a GPU" if needs.gpus and needs.gpu_memory_mb else "",
        f"compute capability {_number(needs.gpu_compute_capability)}"
        if needs.gpus and needs.gpu_compute_capability
        else "",
    ]
    return ", ".join(filter(None, parts)) or "a run that needs nothing"


def _placement(chosen: Candidate, found: Mapping[str, Candidate], *, stated: bool) -> Placement:
    return Placement(chosen.pool, _reasons(chosen, found), stated, _ordered(found.values()))


def _reasons(first: Candidate, found: Mapping[str, Candidate]) -> tuple[str, ...]:
    return (first.reason, *(one.reason for one in _ordered(found.values()) if one.pool != first.pool))


def _ordered(found: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The best first; what is equally good in this process needs no other place, else the name decides."""
    return tuple(sorted(found, key=lambda one: (not one.usable, one.shortfall, one.order, one.pool != HERE, one.pool)))


def _number(value: float | None) -> str:
    """Without the zeros that say nothing."""
    return "any" if value is None else f"{value:g}"
