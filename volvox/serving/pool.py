"""The requests that wait for one model, and the workers that answer them.

Nothing here ticks: what can be sent is sent when a request comes or an answer does. A model that answers several
requests at once gets all that wait when it becomes free; one that answers quickly gets the next ones while it is still
at work, so that it never waits for us; one that is slow gets its next work when it has none, so that what waits can
still be given to another worker or be taken back.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable

from volvox.errors import Unavailable, VolvoxError
from volvox.serving.asking import Ask, Busy, TooSlow
from volvox.serving.limits import Limits
from volvox.serving.worker import Worker

_QUICK_SECONDS = 0.02  # an answer that takes longer is worth keeping the next request here
_AHEAD_SECONDS = 0.02  # how much work a quick worker has before it
_MOST_AHEAD = 32
_LOOK_SECONDS = 0.25  # how long a worker may be at what nobody waits for before it is interrupted
_GRACE_SECONDS = 2.0  # and how long it may take to react before its process is ended


def _ignore(*_: object) -> None: ...


class _Nobody(Ask):
    """In the place of a request that nobody waits for any more."""

    __slots__ = ()

    def part(self, header: dict, body: bytes) -> None: ...

    def answered(self, header: dict, body: bytes) -> None: ...

    def failed(self, error: VolvoxError) -> None: ...


class Pool:
    """Requests in the order they came, and the workers they go to.

    Attributes:
        workers: Those that are ready.
        waiting: The requests that no worker has yet.
        patient: Those of jobs, which go to a worker that has nothing else, when nothing else waits.
        idle: Set while no request is open.
        why: Why no worker is ready, one sentence; empty while one is, or is on its way.
    """

    def __init__(self, name: str, limits: Limits, on_stuck: Callable[[Worker], None]) -> None:
        """`on_stuck` is called with a worker that does not leave what nobody waits for."""
        self.workers: list[Worker] = []
        self.waiting: deque[Ask] = deque()
        self.patient: deque[Ask] = deque()
        self.idle = asyncio.Event()
        self.idle.set()
        self.why = ""
        self.observe_batch: Callable[[int], None] = _ignore
        self._name, self._limits, self._on_stuck = name, limits, on_stuck
        self._open: dict[Ask, None] = {}  # in the order of their deadlines, since all have the same time
        self._deadline: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Handle | None = None
        self._held: asyncio.TimerHandle | None = None
        self._seconds = 0.1  # an answer takes; a guess until there were some
        self._crowd = 1.0  # requests that are usually open
        self._last: dict[Worker, float] = {}

    # -- requests ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def open(self) -> int:
        """How many requests came and are not answered."""
        return len(self._open)

    def submit(self, ask: Ask) -> None:
        """Have `ask` answered; it is told when it is, or why it is not.

        Raises:
            Busy: If too many wait already.
            Unavailable: If there is no worker, and none on its way.
        """
        if self.why:
            raise Unavailable(f"model {self._name!r} cannot answer: {self.why}")
        if ask.patient:
            self._open[ask] = None
            self.idle.clear()
            self.patient.append(ask)
            self._soon()
            return
        if len(self.waiting) >= self._limits.queue:
            self._flush()
            if len(self.waiting) >= self._limits.queue:
                seconds = max(1, round(len(self.waiting) * self._seconds / max(1, len(self.workers))))
                raise Busy(f"{len(self.waiting)} requests wait for model {self._name!r} already", seconds)
        ask.arrived = self._loop.time()
        self._open[ask] = None
        self._crowd += 0.1 * (len(self._open) - self._crowd)
        self.idle.clear()
        self.waiting.append(ask)
        if self._deadline is None:
            self._deadline = self._loop.call_at(ask.arrived + self._limits.deadline_seconds, self._expire)
        self._soon()

    def abandon(self, ask: Ask) -> None:
        """Nobody waits for `ask` any more: it is taken out of the queue, or its work is interrupted."""
        if ask not in self._open:
            return
        self._close(ask)
        if ask.worker is None:
            (self.patient if ask.patient else self.waiting).remove(ask)
            return
        worker: Worker = ask.worker
        nobody = _Nobody({})
        nobody.number, nobody.worker = ask.number, worker
        worker.open[ask.number] = nobody
        worker.resume()
        self._loop.call_later(_LOOK_SECONDS, self._look_at, worker)

    def refuse_all(self, why: str) -> None:
        """Tell every open request that it will not be answered, and refuse new ones."""
        self.why = why
        for ask in [*self._open]:
            self._close(ask)
            ask.failed(Unavailable(f"model {self._name!r} cannot answer: {why}"))
        self.waiting.clear()
        self.patient.clear()

    def give_back(self) -> list[Ask]:
        """The requests that no worker has yet; they are no longer this pool's."""
        given = [*self.waiting, *self.patient]
        self.waiting.clear()
        self.patient.clear()
        for ask in given:
            self._close(ask)
        return given

    # -- workers -------------------------------------------------------------------------------------------------

    def add(self, worker: Worker) -> None:
        """`worker` is ready."""
        worker.on_answer = self._answered
        self.workers.append(worker)
        self.why = ""
        self._soon()

    def lose(self, worker: Worker, how: str) -> None:
        """`worker` is gone: what it had begun fails, the rest waits again, first in the queue."""
        if worker in self.workers:
            self.workers.remove(worker)
        self._last.pop(worker, None)
        begun = [ask for ask in worker.begun_asks() if ask in self._open]
        again = [ask for ask in worker.open.values() if ask in self._open and ask not in begun]
        if len(begun) > 1 and not any(ask.alone for ask in begun):  # one of them did it; the others are not to blame
            for ask in begun:
                ask.alone = True
            again, begun = begun + again, []
        worker.open.clear()
        for ask in reversed(again):
            ask.worker, ask.number = None, 0
            (self.patient if ask.patient else self.waiting).appendleft(ask)
        for ask in begun:
            self._close(ask)
            ask.failed(Unavailable(f"model {self._name!r} did not answer: {how}; it is being replaced"))
        self._soon()

    # -- inside --------------------------------------------------------------------------------------------------

    def _soon(self) -> None:
        """Send what can be sent when everything that has come by now was read: in one piece."""
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        for handle in (self._flushing, self._held):
            if handle is not None:
                handle.cancel()
        self._flushing = self._held = None
        while self.waiting:
            there = [worker for worker in self.workers if not worker.leaving]
            free = [(len(worker.open), room, worker) for worker in there if (room := self._room(worker)) > 0]
            if not free:
                return
            _, room, worker = min(free, key=lambda told: told[0])
            if self._holds(worker, room):
                return
            share = -(-len(self.waiting) // len(free))
            asks = [self.waiting.popleft() for _ in range(min(room, share))]
            self.observe_batch(len(asks))
            worker.send(asks)
        for worker in [one for one in self.workers if not one.open and not one.leaving][: len(self.patient)]:
            worker.send([self.patient.popleft()])

    def _room(self, worker: Worker) -> int:
        at_work = len(worker.open)
        if at_work and next(iter(worker.open.values())).patient:
            return 0  # a job may take long: what waits here can go to another worker
        if self._seconds > _QUICK_SECONDS:
            return 0 if at_work else (self._limits.batch if worker.batches else 1)
        ahead = 2 * self._limits.batch if worker.batches else int(_AHEAD_SECONDS / max(self._seconds, 1e-4))
        return min(max(2, ahead), max(_MOST_AHEAD, 2 * self._limits.batch)) - at_work

    def _holds(self, worker: Worker, room: int) -> bool:
        """Whether to wait a little for more requests to answer together: only where others are usually there."""
        delay = self._limits.batch_delay_seconds
        if not delay or not worker.batches or worker.open:
            return False
        if len(self.waiting) >= min(room, round(self._crowd)):
            return False
        due = self.waiting[0].arrived + delay
        if due <= self._loop.time():
            return False
        self._held = self._loop.call_at(due, self._flush)
        return True

    def _answered(self, worker: Worker, ask: Ask) -> None:
        now = self._loop.time()
        began = max(ask.arrived, self._last.get(worker, 0.0))
        self._last[worker] = now
        if ask in self._open:
            if not ask.patient:  # how long a job takes says nothing of the next request
                self._seconds += 0.1 * (now - began - self._seconds)
            self._close(ask)
        if self.waiting or self.patient:
            self._soon()

    def _close(self, ask: Ask) -> None:
        self._open.pop(ask, None)
        if not self._open:
            self.idle.set()

    def _expire(self) -> None:
        """Tell the requests whose time is over, and look again when the next one's is."""
        self._deadline = None
        now, limit = self._loop.time(), self._limits.deadline_seconds
        for ask in [*self._open]:
            if ask.patient:
                continue
            if ask.arrived + limit > now:
                self._deadline = self._loop.call_at(ask.arrived + limit, self._expire)
                return
            late = f"model {self._name!r} did not answer within {limit:g} s"
            if ask.worker is None:
                why = "its turn did not come" if self.workers else "its worker is still starting"
                error: VolvoxError = Unavailable(f"{late}: {why}")
            elif ask.worker.begun(ask):
                error = TooSlow(f"{late}: the module was still at work")
            else:
                error = Unavailable(f"{late}: its turn did not come")
            self.abandon(ask)
            ask.failed(error)

    def _look_at(self, worker: Worker) -> None:
        if worker not in self.workers or not any(isinstance(ask, _Nobody) for ask in worker.open.values()):
            return
        begun = worker.begun_asks()
        if begun and all(isinstance(ask, _Nobody) for ask in begun):
            self._loop.call_later(_GRACE_SECONDS, self._end_unless_left, worker, worker.interrupt())
        else:
            self._loop.call_later(_LOOK_SECONDS, self._look_at, worker)

    def _end_unless_left(self, worker: Worker, number: int) -> None:
        if worker in self.workers and worker.is_at(number):
            self._on_stuck(worker)
