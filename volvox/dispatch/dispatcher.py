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
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from volvox.dispatch.bulks import Bulks
from volvox.dispatch.doing import Applied, Doing
from volvox.dispatch.foreseeing import foreseen
from volvox.dispatch.lane import Lane
from volvox.dispatch.matching import Split
from volvox.dispatch.publishing import Open
from volvox.dispatch.resolving import Resolver
from volvox.dispatch.work import forget
from volvox.elasticity.policy import Demand, wanted
from volvox.errors import InvalidInput, VolvoxError
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import Inbox, Job
from volvox.pricing.charges import Charge
from volvox.pricing.placing import charge_of
from volvox.runtimes.bulk import Way
from volvox.runtimes.interface import Outcome, Runtime
from volvox.runtimes.opening import runtime_of
from volvox.settings import Home

_LOOK_SECONDS = 0.01  # between two looks at whether somebody else wrote to the inbox
_REST_SECONDS = 0.05  # the same, when nothing came for a while
_BEAT_SECONDS = 3.0
_SILENT_SECONDS = 15.0  # a dispatcher that was not heard of for so long is gone
_TIDY_SECONDS = 600.0
_SCALE_SECONDS = 1.0
_END_SECONDS = 30.0  # what is under way may take so long when the dispatcher is asked to end
_THREADS = 64  # of which one function has a few, see `Doing`

log = logging.getLogger(__name__)

T = TypeVar("T")


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
        bulk: Way | None = None,
    ) -> None:
        """Take no jobs yet.

        Args:
            home: Where the work lies meanwhile.
            inbox: Whose jobs.
            runtimes: Where functions run, by name.
            open_place: Opens a place by URL, for a function and by the name of its credentials.
            split: URL of a folder in a place -> the place's URL, and the folder.
            alone: No other dispatcher uses this inbox, so that what another holds is nobody's.
            warm_now: Whether an instance is wanted now, whatever there is to do.
            bulk: How many files that wait together are answered; None: as single ones are.
        """
        self.home = home
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{time.time():.3f}"
        self._inbox, self._runtimes, self._alone, self._warm_now = inbox, runtimes, alone, warm_now
        self._lanes: dict[str, Lane] = {}
        self._expected: dict[str, Function] = {}
        self.deploying: dict[str, str] = {}  # functions whose version is started and tried, and their runtimes
        self._inbox_thread = ThreadPoolExecutor(1, "inbox")
        self._threads = ThreadPoolExecutor(_THREADS, "places")
        self._resolver = Resolver(inbox, open_place, self._foreseen, self._applied)
        self._doing = Doing(home, inbox, self.holder, open_place, split, self._threads, self._in_turn)
        self._wake, self._arrived = asyncio.Event(), asyncio.Event()
        self._bulks = Bulks(home, inbox, self.holder, way=bulk, doing=self._doing, wake=self._wake.set)
        self._ending = False
        self._last_scale = 0.0

    # -- functions -----------------------------------------------------------------------------------------------

    def expect(self, functions: Iterable[Function]) -> None:
        """Know of every function that is applied: what comes for one that is not deployed yet, or cannot be, waits."""
        self._expected = {one.name: one for one in functions}
        self._arrived.set()

    async def deploy(self, applied: Applied) -> None:
        """Have jobs of this function answered by this version from now on.

        Raises:
            InvalidInput: If its runtime is not here, or cannot run it.
            ModuleFailed: If it does not start; the version before goes on.
            Unavailable: If the runtime's engine does not answer.
        """
        name = applied.function.name
        before = self._lanes.get(name)
        if before and before.applied == applied:
            return
        runtime, charge = await asyncio.to_thread(self._runtime, applied)
        self.deploying[name] = runtime.name
        try:
            await runtime.deploy(applied.function, version=applied.version)
        finally:
            self.deploying.pop(name, None)
        if before and before.runtime is runtime:
            before.applied, before.charge = applied, charge
        else:
            self._lanes[name] = Lane(applied, runtime, charge)
            if before:
                await self._drained(before)
                await before.runtime.remove(name)
        self._wake.set()
        self._arrived.set()

    async def remove(self, name: str) -> None:
        """Do no more jobs of this function; those under way are finished, those that wait go on waiting."""
        lane = self._lanes.pop(name, None)
        self._bulks.forget(name)
        if lane:
            await self._drained(lane)
            await lane.runtime.remove(name)

    async def clear(self, name: str, runtimes: Iterable[str]) -> None:
        """Remove a function where it was deployed before, by an earlier dispatcher.

        Raises:
            VolvoxError: If an engine does not answer or refuses; what is left is found again.
        """
        for runtime in runtimes:
            await self._runtimes[runtime].remove(name)

    @property
    def runtimes(self) -> Collection[str]:
        """Where functions run, by name."""
        return self._runtimes.keys()

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """What is deployed, by name."""
        return self._lanes

    def _runtime(self, applied: Applied) -> tuple[Runtime, Charge | None]:
        """Where a function runs, and what that costs; files are read."""
        name = runtime_of(applied.function, self.home, self._runtimes)
        if name not in self._runtimes:
            there = ", ".join(sorted(self._runtimes))
            raise InvalidInput(
                f"function {applied.function.name!r} runs on {name}, which is not here; here are {there}"
            )
        try:
            return self._runtimes[name], charge_of(name, applied.function, self.home)
        except VolvoxError as error:  # jobs are done all the same
            log.error("function %r: nobody knows what it costs: %s", applied.function.name, error)
            return self._runtimes[name], None

    # -- life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what there is to do until `end` is called."""
        silent = 0.0 if self._alone else _SILENT_SECONDS
        await self._bulks.adopt()
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
        await self._bulks.finish()
        tasks = [task for lane in self._lanes.values() for task in lane.groups]
        if tasks:
            await asyncio.wait(tasks, timeout=_END_SECONDS)
        for lane in self._lanes.values():
            if (let_go := getattr(lane.runtime, "let_go", None)) is not None:
                let_go()  # what goes on elsewhere need not end with us
        scaling = [lane.scaling for lane in self._lanes.values() if lane.scaling is not None]
        for task in (*tasks, *scaling):
            task.cancel()
        await asyncio.gather(*tasks, *scaling, return_exceptions=True)
        for runtime in {id(lane.runtime): lane.runtime for lane in self._lanes.values()}.values():
            await runtime.close()
        self._resolver.close()
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
        """Arrivals become jobs, beside the jobs."""

        def functions() -> list[Function]:
            deployed = {name: lane.applied.function for name, lane in self._lanes.items()}
            return [*{**deployed, **self._expected}.values()]

        await self._resolver.run(functions, self._arrived, self._wake.set)

    def _applied(self) -> list[Function]:
        return [one.filled for one in registry.functions(self.home).values()]

    async def _look_for_cancelled(self) -> None:
        if not self._bulks.any and not any(lane.groups for lane in self._lanes.values()):
            return
        asked = await self._in_turn(lambda: self._inbox.cancelled(self.holder))
        in_runs = await self._bulks.cancel(asked)
        for job_id in asked:
            if job_id in in_runs:
                continue
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
        for name, lane in [*self._lanes.items()]:  # others may come and go meanwhile
            crowd_from = 0 if self._ending else await self._bulks.gather(lane.applied)
            while lane.room > 0 and not self._ending:
                function = lane.applied.function
                waiting = await self._in_turn(lambda n=name, most=lane.share * 64: self._inbox.runnable(n, most))
                if not waiting:
                    break
                count = min(lane.share, math.ceil(waiting / max(1, lane.room)))
                jobs: list[Job] = await self._in_turn(
                    lambda n=name, c=count, u=function.per_user, g=crowd_from: self._inbox.take(
                        n, c, self.holder, per_user=u, crowd_from=g
                    )
                )
                if not jobs:
                    break
                if self._lanes.get(name) is not lane:  # it was removed, or runs elsewhere now
                    ids = [job.id for job in jobs]
                    await self._in_turn(lambda i=ids: self._inbox.give_back(i, self.holder, "its function has moved"))
                    break
                self._begin(lane, jobs)
        if time.monotonic() - self._last_scale >= _SCALE_SECONDS:
            self._last_scale = time.monotonic()
            await self._scale()
        due = await self._in_turn(self._inbox.next_wake)
        return min(due if due is not None else time.time() + _SCALE_SECONDS, time.time() + self._bulks.next_look)

    def _foreseen(self, function: Function, ahead: int) -> dict[str, Any]:
        lane = self._lanes.get(function.name)
        return foreseen(function, lane.seen, ahead) if lane else {}

    def _begin(self, lane: Lane, jobs: list[Job]) -> None:
        task = asyncio.create_task(self._doing.do(lane.applied, lane.runtime, jobs, lane.charge))
        lane.groups[task], lane.begun[task] = jobs, time.monotonic()

        def done(task: asyncio.Task[list[Outcome]]) -> None:
            del lane.groups[task], lane.begun[task]
            if not task.cancelled() and task.exception() is None:
                lane.learn(task.result())
            self._wake.set()

        task.add_done_callback(done)

    async def _scale(self) -> None:
        now = time.monotonic()
        for function in [one for name, one in self._expected.items() if name not in self._lanes]:
            if function.deadline_seconds:
                await self._in_turn(lambda n=function.name: self._inbox.overdue(n))
        for name, lane in [*self._lanes.items()]:
            scaling = lane.applied.function.scaling
            waiting = await self._in_turn(lambda n=name: self._inbox.runnable(n, 10_000))
            lane.waiting = waiting = max(0, waiting - self._bulks.gathering(name))
            lane.warm = self._warm_now(lane.applied)
            busy = math.ceil(lane.at_work / max(1, scaling.concurrency * lane.share))
            if waiting or busy >= max(1, lane.instances):
                lane.idle_since = now
            demand = Demand(
                waiting=waiting, at_work=lane.at_work, instances=lane.instances, idle_seconds=now - lane.idle_since,
                job_seconds=lane.job_seconds, start_seconds=lane.start_seconds, warm=lane.warm,
            )  # fmt: skip
            target = wanted(demand, scaling)
            if target != lane.instances and (lane.scaling is None or lane.scaling.done()):
                lane.scaling = asyncio.create_task(self._scaled(name, lane, target))

    async def _scaled(self, name: str, lane: Lane, target: int) -> None:
        """Beside the jobs: instances that take long to start hold up no other function, nor what has some already."""
        try:
            await lane.runtime.scale(name, target)
            lane.instances = target
        except VolvoxError as error:
            log.error("function %r cannot be scaled to %d: %s", name, target, error)
        except Exception:
            log.exception("function %r cannot be scaled to %d", name, target)

    async def _drained(self, lane: Lane) -> None:
        if lane.scaling is not None:
            lane.scaling.cancel()
        if lane.groups:
            await asyncio.wait([*lane.groups])

    async def _in_turn(self, do: Callable[[], T]) -> T:
        """Ask the inbox, from its one thread."""
        return await asyncio.get_running_loop().run_in_executor(self._inbox_thread, do)
