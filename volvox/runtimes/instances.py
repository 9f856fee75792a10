"""The warm processes of one version of one function: more when files wait, fewer when there is nothing to do."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox.errors import ModuleFailed, Unavailable
from volvox.runtimes.interface import Instance, InstanceState
from volvox.serving.asking import Answer, Ask, AwaitedAsk
from volvox.serving.limits import Limits
from volvox.serving.pool import Pool
from volvox.serving.served import Deployed
from volvox.serving.worker import Worker

_FOR_EVER_SECONDS = 30 * 86400.0  # how long a call may take is its own matter, not the pool's
_MANY = 1 << 20
_TICK_SECONDS = 0.1
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 0.3  # a call that waits so long for an instance is worth another one
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 30.0
_PAGE = 4096

log = logging.getLogger(__name__)


class Late(Exception):
    """An instance was at the call for longer than it may take."""


class Moved(Exception):
    """Another version answers now; the call is to be put to that."""


class Blameless(Exception):
    """The time of a call is over by the fault of another one; it is to be asked again.

    Attributes:
        together: Whether they were answered together, so that it is not known which of them it was.
    """

    def __init__(self, *, together: bool) -> None:
        super().__init__()
        self.together = together


class CallAsk(AwaitedAsk):
    """A call on its way.

    Attributes:
        taken: When an instance took it, by the loop's clock; 0 while none has.
        last: The instance that has it, or had it.
    """

    __slots__ = ("_on_taken", "_seconds", "_timer", "_worker", "last", "taken")

    def __init__(self, request: Mapping[str, Any], seconds: float, on_taken: Callable[[Worker], None]) -> None:
        """Once an instance took it, which `on_taken` is told, it may be at it for `seconds`."""
        self._worker: Worker | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seconds, self._on_taken = seconds, on_taken
        self.last: Worker | None = None
        self.taken = 0.0
        super().__init__(request)

    @property
    def worker(self) -> Worker | None:
        return self._worker

    @worker.setter
    def worker(self, worker: Worker | None) -> None:
        self._worker = worker
        self.done()
        if worker is not None:
            loop = asyncio.get_running_loop()
            self.last, self.taken = worker, loop.time()
            self._timer = loop.call_later(self._seconds, self._late)
            self._on_taken(worker)

    def moved(self) -> None:
        """It is to be put to another version."""
        if not self.future.done():
            self.future.set_exception(Moved())

    def done(self) -> None:
        """Its time is no longer watched."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if not self.future.done():
            self.future.set_exception(Late())


@dataclass(frozen=True, slots=True)
class Scale:
    """How many instances there may be.

    Attributes:
        least: So many are kept.
        most: Never more.
        idle_seconds: One beyond the least that had nothing to do for so long is ended.
        memory_mb: One that uses more is ended; None: it may.
    """

    least: int = 0
    most: int = 1
    idle_seconds: float = 300.0
    memory_mb: int | None = None


@dataclass(slots=True)
class _Kept:
    """What is known of an instance beside its worker."""

    since: float
    used: float
    log: Path


class Instances:
    """The instances of one version.

    Attributes:
        deployed: What they hold.
        description: What the module says of itself; empty until one was ready.
        pool: The calls that wait.
        scale: How many there may be; takes effect at once.
        start_seconds: How long the last start took; None if there was none.
        reason: Why the last one did not start; empty since one did.
    """

    def __init__(
        self, deployed: Deployed, scale: Scale, start: Callable[[], Awaitable[tuple[Worker, Path]]], batch: int
    ) -> None:
        """None is started yet; `start` starts one, and says where what it prints is kept."""
        self.deployed = deployed
        self.description: dict[str, Any] = {}
        self.start_seconds: float | None = None
        self.reason = ""
        self.scale = scale
        limits = Limits(queue=_MANY, deadline_seconds=_FOR_EVER_SECONDS, batch=batch)
        self.pool = Pool(deployed.name, limits, on_stuck=lambda worker: self._lost(worker, "did not react"))
        self._start = start
        self._kept: dict[Worker, _Kept] = {}
        self._beyond_memory = weakref.WeakSet[Worker]()
        self._starting: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._pause, self._not_before = _FIRST_PAUSE_SECONDS, 0.0
        self._ended = False

    # -- calls ---------------------------------------------------------------------------------------------------

    def submit(self, ask: Ask) -> None:
        """Have `ask` answered; an instance is started if there is none.

        Raises:
            Unavailable: If the instances were ended.
        """
        self.pool.submit(ask)
        self.look()

    async def predict(self, request: Mapping[str, Any]) -> Answer:
        """Ask as `ServedModel.predict` does."""
        ask = AwaitedAsk(request)
        self.submit(ask)
        try:
            return await ask.future
        except asyncio.CancelledError:
            self.pool.abandon(ask)
            raise

    def look(self) -> None:
        """Start what is missing now, and go on looking as long as there is anything to look after."""
        self._fill()
        if self._ticking is None or self._ticking.done():
            self._ticking = self._spawn(self._tick())

    # -- instances -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> int:
        """How many there are that take calls."""
        return sum(not worker.leaving for worker in self.pool.workers)

    @property
    def starting(self) -> int:
        """How many are on their way."""
        return len(self._starting)

    def log_of(self, worker: Worker) -> Path | None:
        """Where what an instance prints is kept."""
        kept = self._kept.get(worker)
        return kept.log if kept else None

    def beyond_memory(self, worker: Worker | None) -> bool:
        """Whether an instance was ended because it used more memory than it may."""
        return worker in self._beyond_memory

    async def late(self, ask: CallAsk) -> None:
        """Give a call up whose time is over; returns where the call itself took it.

        Raises:
            Blameless: If it waited behind another one, or was answered together with others.
        """
        worker, begun, together = ask.worker, True, False
        if worker is not None and worker in self.pool.workers:
            begun = worker.begun(ask)
            together = begun and not ask.alone and len(worker.begun_asks()) > 1
        await self.left(ask)
        if not begun or together:
            raise Blameless(together=together)

    async def left(self, ask: CallAsk) -> None:
        """Give a call up; whatever was at it has left it, or has ended, when this returns."""
        self.pool.abandon(ask)
        worker = ask.worker
        while worker is not None and worker in self.pool.workers and worker.is_at(ask.number):
            await asyncio.sleep(_LOOK_SECONDS)
        if worker is not None and worker not in self.pool.workers and worker in self._kept:
            await worker.exited()

    def give_back(self) -> None:
        """Have the calls that no instance has yet put to another version."""
        for ask in self.pool.give_back():
            if isinstance(ask, CallAsk):
                ask.moved()
            else:
                ask.failed(Unavailable("another version is deployed"))

    def told(self, version: str) -> list[Instance]:
        """The instances, as status shows them."""
        there = []
        for worker in self.pool.workers:
            state: InstanceState = "draining" if worker.leaving else "busy" if worker.open else "ready"
            kept = self._kept[worker]
            since = kept.since if state != "ready" else max(kept.since, _wall(kept.used))
            there.append(Instance(str(worker.pid), version, state, since, _memory_mb(worker.pid)))
        there += [Instance("", version, "starting", time.time()) for _ in self._starting]
        return there

    async def one(self) -> None:
        """See that there is one; wait for it.

        Raises:
            ModuleFailed: If it does not start.
        """
        if not self.ready:
            await self._started()
            self.look()

    async def have(self, count: int) -> None:
        """Have so many now, and no more than that; wait until those that are started are there."""
        for worker in [worker for worker in self.pool.workers if not worker.leaving][count:]:
            self._leave(worker)
        self.look()
        while self._starting and self.ready < count:
            await asyncio.wait(self._starting, return_when=asyncio.FIRST_COMPLETED)

    async def retire(self) -> None:
        """Let what came in be answered, then end."""
        await self.pool.idle.wait()
        await self.end()

    async def end(self) -> None:
        """End them now; nothing is left of them when this returns."""
        self._ended = True
        self.pool.refuse_all("it is no longer deployed")
        tasks = [task for task in self._tasks | self._starting if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        workers, self.pool.workers = self.pool.workers, []
        await asyncio.gather(*(worker.end() for worker in {*workers, *self._kept}))
        self._kept.clear()

    # -- inside --------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start what is missing; what waits for too long gets another instance too."""
        now = asyncio.get_running_loop().time()
        if self._ended or now < self._not_before:
            return
        waiting, there = self.pool.waiting, self.ready + len(self._starting)
        wanted = max(self.scale.least, 1 if waiting and not there else 0)
        if waiting and not self._starting and now - waiting[0].arrived > _PATIENCE_SECONDS:
            wanted = max(wanted, there + 1)
        for _ in range(min(wanted, max(self.scale.most, self.scale.least)) - there):
            task = asyncio.create_task(self._start_in_background())
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start_in_background(self) -> None:
        try:
            await self._started()
        except ModuleFailed as error:
            log.error("an instance of %r does not start: %s\n%s", self.deployed.name, error, error.trace)
            self._not_before = asyncio.get_running_loop().time() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
            if not self.ready:
                self.pool.refuse_all(str(error))
                self.pool.why = ""  # the next call has it tried again

    async def _started(self) -> None:
        began = asyncio.get_running_loop().time()
        try:
            worker, output = await self._start()
        except ModuleFailed as error:
            self.reason = str(error)
            raise
        now = asyncio.get_running_loop().time()
        self.start_seconds, self.reason, self._pause, self._not_before = now - began, "", _FIRST_PAUSE_SECONDS, 0.0
        self.description = worker.description
        self._kept[worker] = _Kept(time.time(), now, output)
        self.pool.add(worker)
        self._spawn(self._watch(worker))

    async def _watch(self, worker: Worker) -> None:
        await worker.exited()
        if worker in self.pool.workers:
            self._lost(worker, await worker.how_it_ended())

    def _lost(self, worker: Worker, how: str) -> None:
        if worker not in self.pool.workers:
            return
        if not worker.leaving or worker.open:
            log.warning("an instance of %r is gone: %s", self.deployed.name, how)
        self.pool.lose(worker, how)
        self._spawn(self._end(worker))
        self.look()

    def _leave(self, worker: Worker) -> None:
        """Have it end when it has nothing left to do."""
        worker.leaving = True
        if not worker.open:
            self.pool.workers.remove(worker)
            self._spawn(self._end(worker))
        else:
            self.look()

    async def _end(self, worker: Worker) -> None:
        await asyncio.shield(worker.end())
        self._kept.pop(worker, None)

    async def _tick(self) -> None:
        """Look after them while there is one, or a call waits for one."""
        while not self._ended and (self.pool.workers or self._starting or self.pool.open or self.scale.least):
            await asyncio.sleep(_TICK_SECONDS if self.pool.open else 5 * _TICK_SECONDS)
            now = asyncio.get_running_loop().time()
            self._fill()
            there = self.ready
            for worker in [*self.pool.workers]:
                kept = self._kept[worker]
                if worker.open:
                    kept.used = now
                elif worker.leaving:
                    self._leave(worker)
                elif now - kept.used >= self.scale.idle_seconds and there > self.scale.least:
                    there -= 1
                    self._leave(worker)
                self._look_at_memory(worker)

    def _look_at_memory(self, worker: Worker) -> None:
        limit, used = self.scale.memory_mb, _memory_mb(worker.pid) if self.scale.memory_mb else None
        if limit is not None and used is not None and used > limit:
            self._beyond_memory.add(worker)
            self._lost(worker, f"used {used:.0f} MB of memory, more than the {limit} MB it may")

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _memory_mb(pid: int) -> float | None:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / (1 << 20)
    except (OSError, ValueError, IndexError):
        return None


def _wall(used: float) -> float:
    """The loop's clock as seconds since the epoch."""
    return time.time() - (asyncio.get_running_loop().time() - used)
