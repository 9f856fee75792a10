"""The time of a simulation: what happens when, in whole microseconds, so that it is the same on every machine."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

_SECOND = 1_000_000


def micro(seconds: float) -> int:
    """Seconds as whole microseconds."""
    return round(seconds * _SECOND)


def seconds(micros: int) -> float:
    """Microseconds as seconds."""
    return micros / _SECOND


class Clock:
    """Moments at which something happens, in order; what happens at one moment happens in the order it was told."""

    def __init__(self) -> None:
        self.now = 0
        self._events: list[tuple[int, int, Callable[[], object] | None]] = []
        self._told = 0
        self._looks: set[int] = set()

    def at(self, time: int, happen: Callable[[], object] | None) -> None:
        """Let something happen at `time`, which is never before now."""
        self._told += 1
        heapq.heappush(self._events, (max(time, self.now), self._told, happen))

    def look(self, time: int) -> None:
        """Let `time` be a moment, though nothing happens then; a time that has passed is none."""
        if time > self.now and time not in self._looks:
            self._looks.add(time)
            self.at(time, None)

    def moments(self) -> Iterator[int]:
        """Every moment, after all that happens at it has happened."""
        while self._events:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] == self.now:
                happen = heapq.heappop(self._events)[2]
                if happen is not None:
                    happen()
            self._looks.discard(self.now)
            yield self.now
