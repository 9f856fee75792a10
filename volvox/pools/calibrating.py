"""How a module is timed at places where it never ran: where, how often and how long. Pure.

The start of a training and the time of an image are told apart by trainings of different size. The first one is small;
how much larger the next may be follows from it, so that none takes long on a slow machine and all of them say something
on a fast one.
"""

from __future__ import annotations

from collections.abc import Mapping

from volvox.pools.definition import HERE, PoolDefinition
from volvox.pools.needs import Needs
from volvox.pools.placement import PoolState, candidates

IMAGES = 256
TRIES = 3
FIRST_SECONDS = 180.0  # for one pass over the images, the start of its job included
LATER_SECONDS = 180.0  # for each later training, likewise
_AIMED_SECONDS = 90.0
_EXACT = 2.0  # how much longer than the first one the last shall take


def places(
    needs: Needs, pools: Mapping[str, PoolDefinition], states: Mapping[str, PoolState], stated: str = ""
) -> list[str]:
    """Where to time: the stated pool, else this process and each pool that fits and has a worker.

    A pool of processes is as fast as this process is, so that it is not timed beside it.

    Args:
        needs: As for `volvox.pools.placement.place`.
        pools: As there.
        states: As there.
        stated: The only pool that counts, if somebody chose one.
    """
    usable = [one.pool for one in candidates(needs, pools, states) if one.usable]
    if stated not in ("", "auto"):
        return [HERE if pools[stated].type == "process" else stated] if stated in usable else []
    return [name for name in usable if name == HERE or pools[name].type != "process"]


def announced(module: str, needs: Needs, pools: Mapping[str, PoolDefinition], stated: str = "") -> str:
    """What will be done, for who is about to pay for it."""
    up = {name: PoolState(online=True) for name in pools}
    names = [
        f"{name} ({pools[name].cost_per_hour:.2f} an hour)" if pools[name].cost_per_hour else name
        for name in places(needs, pools, up, stated)
    ]
    minutes = (FIRST_SECONDS + (TRIES - 1) * LATER_SECONDS) / 60
    return (
        f"calibrating: {module} is trained up to {TRIES} times on at most {IMAGES} of the images, at each of these "
        f"places that has a worker: {', '.join(names) or 'none fits'}; at most {minutes:.0f} minutes a place"
    )


def next_size(first: float, last: float, size: int, most: int | None = None) -> int | None:
    """How many times the first training's work the next one shall do; None if it is not needed, or would take too long.

    Args:
        first: Seconds that the first training took.
        last: Seconds that the last one took.
        size: How many times the first one's work that was.
        most: The most that there is to do.
    """
    if size > 1 and last >= _EXACT * first:
        return None
    larger = int(_AIMED_SECONDS / (last / size))  # it takes less than that: a start is in what is divided by
    if size == 1 and 2 * last <= LATER_SECONDS:
        larger = max(larger, 2)  # of one training alone nobody knows what of it was the start
    if most is not None:
        larger = min(larger, most)
    return larger if larger >= 2 * size else None
