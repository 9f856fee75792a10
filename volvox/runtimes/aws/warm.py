"""Which instances of a Lambda function there are, as far as their replies tell: Lambda itself tells nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from volvox.runtimes.interface import Instance


@dataclass
class Warm:
    """The instances of one function.

    Attributes:
        idle_seconds: How long one is counted on after its last reply.
        kept: How many shall be warm.
        cold_seconds: How long the last cold start took; None: there was none.
    """

    idle_seconds: float
    kept: int = 0
    cold_seconds: float | None = None
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)
    _calls: dict[int, tuple[str, float]] = field(default_factory=dict)
    _next: int = 0

    @contextmanager
    def at_work(self, version: str) -> Iterator[None]:
        """While an event is being answered."""
        self._next += 1
        number = self._next
        self._calls[number] = version, time.time()
        try:
            yield
        finally:
            del self._calls[number]

    def replied(self, instance: str, version: str) -> None:
        """An instance has answered."""
        self._seen[instance] = version, time.time()

    def forget(self) -> None:
        """Count on none."""
        self._seen.clear()

    @property
    def instances(self) -> list[Instance]:
        """Those that answer now, and of the others those that answered lately."""
        now = time.time()
        self._seen = {one: told for one, told in self._seen.items() if now - told[1] <= self.idle_seconds}
        busy = [
            Instance(f"call-{number}", version, "busy", since) for number, (version, since) in self._calls.items()
        ]  # fmt: skip
        free = sorted(self._seen.items(), key=lambda one: one[1][1])[len(busy) :]
        return [*busy, *(Instance(one, version, "ready", since) for one, (version, since) in free)]
