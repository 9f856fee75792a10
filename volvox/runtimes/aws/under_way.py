"""Versions of functions on AWS and the calls that they are at, each of which waits for a container or for Lambda."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from volvox.errors import Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes.interface import Call, Outcome

_TURNS = 20


async def heard() -> None:
    """Let those who wait for an answer that is there hear of it first: each step up to them is a turn of the loop."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


@dataclass(eq=False)
class UnderWay:
    """One version of a function.

    Attributes:
        function: Its definition.
        version: What the dispatcher calls it.
    """

    function: Function
    version: str
    _tasks: set[asyncio.Task[list[Outcome]]] = field(default_factory=set, init=False)
    _removed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """As much at once as the definition says."""
        scaling = self.function.scaling
        self._places = asyncio.Semaphore(scaling.max_scale * scaling.concurrency)

    async def answer(self, calls: Sequence[Call], do: Callable[[], Awaitable[list[Outcome]]]) -> list[Outcome]:
        """Have calls answered together, once there is a place; cancelled, or removed with the function, `do` is, too.

        Args:
            calls: The calls.
            do: Answers them. Unavailable is a reason to try again, every other VolvoxError is not.
        """
        task = asyncio.ensure_future(self._answered(calls, do))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            if not self._removed:
                raise
            said = f"function {self.function.name!r} was removed"
            return [Outcome(call.job, "cancelled", said) for call in calls]

    async def _answered(self, calls: Sequence[Call], do: Callable[[], Awaitable[list[Outcome]]]) -> list[Outcome]:
        async with self._places:
            try:
                outcomes = await do()
            except Unavailable as error:
                return [Outcome(call.job, "transient", str(error)) for call in calls]
            except VolvoxError as error:
                return [Outcome(call.job, "refused", str(error)) for call in calls]
        return [replace(one, version=self.version) for one in outcomes]

    @property
    def busy(self) -> bool:
        """Whether it is at calls."""
        return bool(self._tasks)

    async def drained(self) -> None:
        """Wait until it has answered what it is at."""
        if self._tasks:
            await asyncio.wait([*self._tasks])
            await heard()

    async def end(self) -> None:
        """Answer nothing any more: what it is at is told to be cancelled."""
        self._removed = True
        tasks = [*self._tasks]
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
