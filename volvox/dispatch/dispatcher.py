"""The dispatcher of a home: what came is looked at, what may run is taken, what is done is published.

Nothing here polls a bucket or a worker. The inbox is asked whether another process has written (a number in memory),
and every end of work, every retry that is due and every signal wakes the same loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from volvox.dispatch.doing import Applied, Doing
from volvox.dispatch.matching import Split
from volvox.dispatch.policy import Demand, wanted
from volvox.dispatch.publishing import Open
from volvox.dispatch.resolving import Resolver
from volvox.dispatch.work import forget
from volvox.errors import VolvoxError
from volvox.inbox import Inbox, Job
from volvox.runtimes.interface import Outcome, Runtime, Status
from volvox.runtimes.opening import runtime_of
from volvox.settings import Home

_LOOK_SECONDS = 0.01  # between two looks at whether somebody else wrote to the inbox
_REST_SECONDS = 0.05  # the same, when nothing came for a while
_BEAT_SECONDS = 3.0
_SILENT_SECONDS = 15.0  # a dispatcher that was not heard of for so long is gone
_TIDY_SECONDS = 600.0
_SCALE_SECONDS = 1.0
_END_SECONDS = 30.0  # what is under way may take so long when the dispatcher is asked to end
_AHEAD = 2  # shares of an instance: while it is at one, the next is fetched
_THREADS = 8

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass
class Lane:
    """A function that is deployed, and what is under way for it.

    Attributes:
        applied: The function and its version.
        runtime: Where it runs.
        groups: What is under way: the task, and the jobs that it does.
        instances: How many instances were asked for last.
        idle_since: Since when there was less to do than the instances could; `time.monotonic`.
        job_seconds: What a job takes, smoothed.
        start_seconds: What a start takes, smoothed.
    """

    applied: Applied
    runtime: Runtime
    groups: dict[asyncio.Task[list[Outcome]], list[Job]] = field(default_factory=dict)
    instances: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    job_seconds: float = 0.0
    start_seconds: float = 0.0

    @property
    def at_work(self) -> int:
        """Jobs that are under way."""
        return sum(map(len, self.groups.values()))

    @property
    def share(self) -> int:
        """How many jobs one instance is given together."""
        return self.applied.function.scaling.batch if self.applied.function.model else 1

    @property
    def room(self) -> int:
        """How many more groups may be under way."""
        scaling = self.applied.function.scaling
        ahead = _AHEAD if self.applied.function.model else 1
        return scaling.max_scale * scaling.concurrency * ahead - len(self.groups)

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Remember what jobs and starts take."""
        for one in outcomes:
            if not one.kind:
                self.job_seconds += (0.2 if self.job_seconds else 1.0) * (one.seconds - self.job_seconds)
            if one.started_seconds:
                self.start_seconds += (0.3 if self.start_seconds else 1.0) * (one.started_seconds - self.start_seconds)


class Dispatcher:
    """Takes the jobs of one inbox and has them done."""

    def __init__(
        self,
        home: Home,
        inbox: Inbox,
        *,
        runtimes: Mapping[str, Runtime],
        open_place: Open,
        split: Split,
        alone: bool = True,
        warm_now: Callable[[Applied], bool] = lambda _: False,
    ) -> None:
        """`alone`: no other dispatcher uses this inbox, so that what another holds is nobody's."""
        self.home = home
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{time.time():.3f}"
        self._inbox, self._runtimes, self._alone, self._warm_now = inbox, runtimes, alone, warm_now
        self._lanes: dict[str, Lane] = {}
        self._inbox_thread = ThreadPoolExecutor(1, "inbox")
        self._threads = ThreadPoolExecutor(_THREADS, "places")
        self._askers = ThreadPoolExecutor(_THREADS, "arrivals")
        self._resolver = Resolver(inbox, open_place, self._askers)
        self._doing = Doing(home, inbox, self.holder, open_place, split, self._threads, self._in_turn)
        self._wake, self._arrived = asyncio.Event(), asyncio.Event()
        self._ending = False
        self._last_scale = 0.0

    # -- functions -----------------------------------------------------------------------------------------------

    async def deploy(self, applied: Applied) -> None:
        """Have jobs of this function answered by this version from now on.

        Raises:
            InvalidInput: If its runtime is not here, or cannot run it.
            ModuleFailed: If it does not start; the version before goes on.
            Unavailable: If the runtime's engine does not answer.
        """
        name = applied.function.name
        runtime = self._runtime(applied)
        before = self._lanes.get(name)
        if before and before.applied == applied and before.runtime is runtime:
            return
        await runtime.deploy(applied.function, version=applied.version)
        if before and before.runtime is runtime:
            before.applied = applied
        else:
            self._lanes[name] = Lane(applied, runtime)
            if before:
                await self._drained(before)
                await before.runtime.remove(name)
        self._wake.set()
        self._arrived.set()

    async def remove(self, name: str) -> None:
        """Do no more jobs of this function; those under way are finished, those that wait go on waiting."""
        lane = self._lanes.pop(name, None)
        if lane:
            await self._drained(lane)
            await lane.runtime.remove(name)

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """What is deployed, by name."""
        return self._lanes

    def _runtime(self, applied: Applied) -> Runtime:
        from volvox.errors import InvalidInput

        name = runtime_of(applied.function)
        if name not in self._runtimes:
            there = ", ".join(sorted(self._runtimes))
            raise InvalidInput(
                f"function {applied.function.name!r} runs on {name}, which is not here; here are {there}"
            )
        return self._runtimes[name]

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what there is to do until `end` is called."""
        silent = 0.0 if self._alone else _SILENT_SECONDS
        reclaimed = await self._in_turn(lambda: self._inbox.reclaim(self.holder, silent_seconds=silent))
        if reclaimed:
            log.warning("%d jobs of a dispatcher that is gone are begun again", len(reclaimed))
        helpers = [asyncio.create_task(one()) for one in (self._listen, self._resolve, self._beat, self._tidy)]
        try:
            while not self._ending:
                self._wake.clear()
                try:
                    due = await self._round()
                except VolvoxError as error:  # the inbox does not answer, or its disk is full
                    log.error("%s", error)
                    due = time.time() + 1.0
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, min(_SCALE_SECONDS, due - time.time()))):
                        await self._wake.wait()
        finally:
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self._finish()

    def end(self) -> None:
        """Take nothing more, finish what is under way, and leave `run`."""
        self._ending = True
        self._wake.set()

    async def _finish(self) -> None:
        tasks = [task for lane in self._lanes.values() for task in lane.groups]
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS)
        for lane in self._lanes.values():
            if (let_go := getattr(lane.runtime, "let_go", None)) is not None:
                let_go()  # what goes on elsewhere need not end with us
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for runtime in {id(lane.runtime): lane.runtime for lane in self._lanes.values()}.values():
            await runtime.close()
        self._askers.shutdown(wait=False, cancel_futures=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._inbox_thread.shutdown()

    # -- what wakes the loop -------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        pause = _LOOK_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                changed = await self._in_turn(self._inbox.changed)
            except VolvoxError:
                changed = False
            pause = _LOOK_SECONDS if changed else min(pause * 1.1, _REST_SECONDS)
            if changed:
                await self._look_for_cancelled()
                self._wake.set()
                self._arrived.set()

    async def _resolve(self) -> None:
        """Arrivals become jobs, beside the jobs: a place that does not answer holds up nothing else."""
        while True:
            self._arrived.clear()
            functions = [lane.applied.function for lane in self._lanes.values()]
            try:
                looked_at = await asyncio.to_thread(self._resolver.resolve, functions) if functions else 0
            except VolvoxError as error:
                log.error("%s", error)
                looked_at = 0
            if looked_at:
                self._wake.set()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SCALE_SECONDS):
                    await self._arrived.wait()

    async def _look_for_cancelled(self) -> None:
        if not any(lane.groups for lane in self._lanes.values()):
            return
        for job_id in await self._in_turn(lambda: self._inbox.cancelled(self.holder)):
            self._doing.cancelled.add(job_id)
            for lane in self._lanes.values():
                for task, jobs in lane.groups.items():
                    if [job.id for job in jobs] == [job_id]:
                        task.cancel(job_id)  # alone with its instance: ended now, else when the others are done

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(VolvoxError):
                await self._in_turn(lambda: self._inbox.beat(self.holder))
                if not self._alone and await self._in_turn(
                    lambda: self._inbox.reclaim(self.holder, silent_seconds=_SILENT_SECONDS)
                ):
                    self._wake.set()
            await asyncio.sleep(_BEAT_SECONDS)

    async def _tidy(self) -> None:
        while True:
            for lane in [*self._lanes.values()]:
                function = lane.applied.function
                with contextlib.suppress(VolvoxError):
                    gone = await self._in_turn(lambda f=function: self._inbox.expire(f.name, f.keep_days))
                    await asyncio.to_thread(forget, self.home, gone)
            await asyncio.sleep(_TIDY_SECONDS)

    # -- one round -----------------------------------------------------------------------------------------------

    async def _round(self) -> float:
        """Do everything that can be done now; until when there is nothing more, seconds since the epoch."""
        await self._in_turn(self._inbox.wake)
        for name, lane in self._lanes.items():
            while lane.room > 0 and not self._ending:
                function = lane.applied.function
                waiting = await self._in_turn(lambda n=name, most=lane.share * 64: self._inbox.runnable(n, most))
                if not waiting:
                    break
                count = min(lane.share, math.ceil(waiting / max(1, lane.room)))
                jobs: list[Job] = await self._in_turn(
                    lambda n=name, c=count, u=function.per_user: self._inbox.take(n, c, self.holder, per_user=u)
                )
                if not jobs:
                    break
                self._begin(lane, jobs)
        if time.monotonic() - self._last_scale >= _SCALE_SECONDS:
            self._last_scale = time.monotonic()
            await self._scale()
        due = await self._in_turn(self._inbox.next_wake)
        return due if due is not None else time.time() + _SCALE_SECONDS

    def _begin(self, lane: Lane, jobs: list[Job]) -> None:
        task = asyncio.create_task(self._doing.do(lane.applied, lane.runtime, jobs))
        lane.groups[task] = jobs

        def done(task: asyncio.Task[list[Outcome]]) -> None:
            del lane.groups[task]
            if not task.cancelled() and task.exception() is None:
                lane.learn(task.result())
            self._wake.set()

        task.add_done_callback(done)

    async def _scale(self) -> None:
        now = time.monotonic()
        for name, lane in self._lanes.items():
            scaling = lane.applied.function.scaling
            waiting = await self._in_turn(lambda n=name: self._inbox.runnable(n, 10_000))
            busy = math.ceil(lane.at_work / max(1, scaling.concurrency * lane.share))
            if waiting or busy >= max(1, lane.instances):
                lane.idle_since = now
            demand = Demand(
                waiting=waiting, at_work=lane.at_work, instances=lane.instances, idle_seconds=now - lane.idle_since,
                job_seconds=lane.job_seconds, start_seconds=lane.start_seconds, warm=self._warm_now(lane.applied),
            )  # fmt: skip
            target = wanted(demand, scaling)
            if target != lane.instances:
                try:
                    await lane.runtime.scale(name, target)
                    lane.instances = target
                except VolvoxError as error:
                    log.error("function %r cannot be scaled to %d: %s", name, target, error)

    async def _drained(self, lane: Lane) -> None:
        if lane.groups:
            await asyncio.wait([*lane.groups])

    async def _in_turn(self, do: Callable[[], T]) -> T:
        """Ask the inbox, from its one thread."""
        return await asyncio.get_running_loop().run_in_executor(self._inbox_thread, do)


async def as_told(lane: Lane) -> dict[str, Any]:
    """A lane for people and programs."""
    try:
        status = await lane.runtime.status(lane.applied.function.name)
    except VolvoxError as error:
        status = Status("failed", reason=str(error))
    return {
        "function": lane.applied.function.name,
        "version": lane.applied.version,
        "runtime": lane.runtime.name,
        "at_work": lane.at_work,
        "state": status.state,
        "reason": status.reason,
        "instances": [
            {"id": one.id, "state": one.state, "since": one.since, "version": one.version} for one in status.instances
        ],
        "wanted": lane.instances,
        "idle_seconds": lane.applied.function.scaling.idle_seconds,
        "job_seconds": round(lane.job_seconds, 4),
        "cold_start_seconds": round(status.cold_start_seconds or lane.start_seconds, 3),
    }
