"""Containers or pods that keep a model's server: more when calls wait, fewer when there is nothing to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from volvox.errors import ModuleFailed, Unavailable, VolvoxError
from volvox.runtimes.instances import Moved, Scale
from volvox.runtimes.interface import Instance

_TICK_SECONDS = 0.1
_PATIENCE_SECONDS = 0.3
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Server:
    """A container or pod that answers.

    Attributes:
        id: The engine's id of it.
        url: Where it answers.
        name: What people call it; empty: the beginning of its id.
        since: Seconds since the epoch.
        used: When it was last at something, by the loop's clock.
        open: How many calls it is at.
        leaving: Whether it gets no more calls, and is to end when it has answered those.
    """

    id: str
    url: str
    name: str = ""
    since: float = field(default_factory=time.time)
    used: float = 0.0
    open: int = 0
    leaving: bool = False

    @property
    def called(self) -> str:
        """What people call it."""
        return self.name or self.id[:12]


class Servers:
    """Those of one version of one function.

    Attributes:
        scale: How many there may be.
        start_seconds: How long the last start took; None if there was none.
        reason: Why the last one did not start; empty since one did.
    """

    def __init__(
        self,
        name: str,
        scale: Scale,
        places: int,
        start: Callable[[], Awaitable[Server]],
        end: Callable[[Server], Awaitable[None]],
    ) -> None:
        """None is started; each may be at so many calls as it has `places`."""
        self.scale = scale
        self.start_seconds: float | None = None
        self.reason = ""
        self._name, self._places, self._start, self._end_one = name, places, start, end
        self.there: list[Server] = []
        self._waiting: deque[tuple[asyncio.Future[Server], float]] = deque()
        self._starting: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._pause, self._not_before = _FIRST_PAUSE_SECONDS, 0.0
        self.ended = False

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[Server]:
        """A server with a place for a call; one is started if there is none.

        Raises:
            Unavailable: If none starts.
            Moved: If another version answers now.
        """
        if self.ended:
            raise Moved
        waiting: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        self._waiting.append((waiting, asyncio.get_running_loop().time()))
        self.look()
        try:
            server = await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and not waiting.exception():
                self._back(waiting.result())
            raise
        try:
            yield server
        finally:
            self._back(server)

    @property
    def ready(self) -> int:
        """How many there are that take calls."""
        return sum(not server.leaving for server in self.there)

    def look(self) -> None:
        """Give places to calls that wait, start what is missing, and go on looking while there is anything to do."""
        self._assign()
        self._fill()
        if self._ticking is None or self._ticking.done():
            self._ticking = self._spawn(self._tick())

    def take_over(self, server: Server) -> None:
        """A container that was there before this process."""
        server.used = asyncio.get_running_loop().time()
        self.there.append(server)

    async def first(self) -> Server:
        """See that there is one; raises ModuleFailed if it does not start."""
        if not self.there:
            await self._started()
        return self.there[0]

    async def have(self, count: int) -> None:
        """Have so many, and no more than that; wait until those that are started are there."""
        for server in [server for server in self.there if not server.leaving][count:]:
            self.leave(server)
        self.look()
        while self._starting and self.ready < count:
            await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)

    def leave(self, server: Server) -> None:
        """Have it end when it has nothing left to do."""
        server.leaving = True
        if not server.open and server in self.there:
            self.there.remove(server)
            self._spawn(self._ending(server))

    def lost(self, server: Server) -> None:
        """It is of no use any more; what it was at fails."""
        if server in self.there:
            self.there.remove(server)
            self._spawn(self._ending(server))
            self.look()

    def told(self, version: str) -> list[Instance]:
        """The instances, as status shows them."""
        found = [
            Instance(one.called, version, "draining" if one.leaving else "busy" if one.open else "ready", one.since)
            for one in self.there
        ]
        return [*found, *(Instance("", version, "starting", time.time()) for _ in self._starting)]

    async def retire(self) -> None:
        """Have calls that wait put to another version, let the others be answered, then end."""
        self.ended = True
        while self._waiting:
            waiting, _ = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(Moved())
        while any(server.open for server in self.there):
            await asyncio.sleep(_TICK_SECONDS / 4)
        await self.end()

    async def end(self, *, containers: bool = True) -> None:
        """End them now, or only stop looking after them."""
        self.ended = True
        for waiting, _ in self._waiting:
            if not waiting.done():
                waiting.set_exception(Unavailable("it is no longer deployed"))
        self._waiting.clear()
        tasks = [task for task in self._starting if task is not asyncio.current_task()]
        tasks += [self._ticking] if self._ticking else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if containers:
            there, self.there = self.there, []
            await asyncio.gather(*(self._ending(server) for server in there))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- inside --------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        while self._waiting:
            if self._waiting[0][0].done():
                self._waiting.popleft()
                continue
            free = [server for server in self.there if not server.leaving and server.open < self._places]
            if not free:
                return
            server = min(free, key=lambda one: one.open)
            server.open += 1
            self._waiting.popleft()[0].set_result(server)

    def _back(self, server: Server) -> None:
        server.open -= 1
        server.used = asyncio.get_running_loop().time()
        if server.leaving:
            self.leave(server)
        self._assign()

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.ended or now < self._not_before:
            return
        there = self.ready + len(self._starting)
        wanted = max(self.scale.least, 1 if self._waiting and not there else 0)
        if self._waiting and not self._starting and now - self._waiting[0][1] > _PATIENCE_SECONDS:
            wanted = max(wanted, there + 1)
        for _ in range(min(wanted, max(self.scale.most, self.scale.least)) - there):
            task = asyncio.create_task(self._start_in_background())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start_in_background(self) -> None:
        try:
            await self._started()
        except VolvoxError as error:
            log.error("an instance of %r does not start: %s", self._name, error)
            self._not_before = asyncio.get_running_loop().time() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
            if not self.ready:
                for waiting, _ in self._waiting:
                    if not waiting.done():
                        waiting.set_exception(Unavailable(str(error)))
                self._waiting.clear()

    async def _started(self) -> None:
        began = asyncio.get_running_loop().time()
        try:
            server = await self._start()
        except ModuleFailed as error:
            self.reason = str(error)
            raise
        server.used = asyncio.get_running_loop().time()
        self.start_seconds, self.reason, self._pause = server.used - began, "", _FIRST_PAUSE_SECONDS
        self.there.append(server)
        self._assign()

    async def _tick(self) -> None:
        while not self.ended and (self.there or self._starting or self._waiting or self.scale.least):
            await asyncio.sleep(_TICK_SECONDS if self._waiting else 3 * _TICK_SECONDS)
            self._assign()
            self._fill()
            now, there = asyncio.get_running_loop().time(), self.ready
            for server in [*self.there]:
                idle = not server.open and now - server.used >= self.scale.idle_seconds
                if idle and not server.leaving and there > self.scale.least:
                    there -= 1
                    self.leave(server)

    async def _ending(self, server: Server) -> None:
        try:
            await self._end_one(server)
        except VolvoxError as error:
            log.warning("%s of %r could not be removed: %s", server.called, self._name, error)

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
