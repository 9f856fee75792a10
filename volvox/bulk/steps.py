"""One object: found answered, or fetched, asked about, and its answer kept. And many of them, several at a time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
A = TypeVar("A")
K = TypeVar("K")


class Steps(ABC, Generic[T, A, K]):
    """How objects of one kind (`T`) are answered (`A`), and what is kept of that (`K`)."""

    async def there(self, one: T) -> K | None:  # noqa: ARG002 - for those who know
        """What was kept of an object before, if that is known without fetching it."""
        return None

    @abstractmethod
    def fetched(self, one: T) -> AbstractAsyncContextManager[Path]:
        """The object as a file of this machine, for the time of the block."""

    @abstractmethod
    async def asked(self, one: T, file: Path) -> A:
        """What the model answers."""

    @abstractmethod
    async def kept(self, one: T, file: Path, ask: Callable[[], Awaitable[A]]) -> K:
        """Keep what `ask` answers; it need not be asked where an answer to these bytes is kept."""


async def answer(one: T, steps: Steps[T, A, K]) -> K:
    """Have one object answered; raises whatever a step raises."""
    if (there := await steps.there(one)) is not None:
        return there
    async with steps.fetched(one) as file:
        return await steps.kept(one, file, lambda: steps.asked(one, file))


async def answer_each(
    objects: Iterable[T], steps: Steps[T, A, K], heard: Callable[[T, K | Exception], None], *, at_once: int
) -> None:
    """Have every object answered, `at_once` at a time; one that fails stops no other.

    Args:
        objects: Taken one by one, as there is room.
        steps: How.
        heard: Told what was kept of each, or what a step raised.
        at_once: So many are fetched, asked about or kept at a time.
    """
    waiting = iter(objects)

    async def some() -> None:
        for one in waiting:
            try:
                told = await answer(one, steps)
            except Exception as error:  # a fault of ours with one file must not lose the others
                heard(one, error)
            else:
                heard(one, told)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(some())
