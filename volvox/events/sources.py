"""What every source of events is: a task that tells the inbox of arrivals until it is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from volvox.inbox import Arrival

Record = Callable[[Sequence[Arrival]], Awaitable[None]]
"""Keeps arrivals durably; it has when it returns. It may raise Unavailable, and is then asked again with the same."""


class Source(Protocol):
    """Where arrivals are told from."""

    async def run(self, record: Record) -> None:
        """Tell of arrivals until it is cancelled; what `record` could not keep is told again."""
        ...
