"""What was made to hold a function's data: it goes with the function only where that is asked for.

The room that makes it says so by an entry point of the group `volvox.function_data` that names a `Data`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from typing import Protocol

from volvox.functions.definition import Function
from volvox.settings import Home

GROUP = "volvox.function_data"


class Data(Protocol):
    """Knows what was made for a function's data, as people call it: `bucket films`."""

    def __call__(self, function: Function, home: Home, *, remove: bool) -> Iterable[str]:
        """Say what there is, and `remove` it with all that is in it; what was there before the function is not told.

        Raises:
            InvalidInput: If that is refused.
            Unavailable: If whoever has it does not answer.
        """
        ...


def made_for(function: Function, home: Home, *, remove: bool = False) -> list[str]:
    """What was made for the data of a function; with `remove` it is gone then.

    Raises:
        InvalidInput: If that is refused.
        Unavailable: If whoever has it does not answer.
    """
    try:
        points = distribution("volvox").entry_points.select(group=GROUP)
    except PackageNotFoundError:
        return []
    found: list[str] = []
    for point in sorted(points, key=lambda point: point.name):
        known: Data = point.load()
        found += known(function, home, remove=remove)
    return found
