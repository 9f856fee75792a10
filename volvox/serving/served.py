"""A served model: one warm worker, the queue before it, and its replacement when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from volvox.errors import ModuleFailed, Unavailable
from volvox.serving.limits import Limits
from volvox.serving.worker import Answer, Worker, WorkerDied

_LONGEST_PAUSE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Busy(Unavailable):
    """As many requests wait for the model as may.

    Attributes:
        retry_after_seconds: When the queue will have moved on.
    """

    status = 429

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooSlow(Unavailable):
    """The model did not answer before the request's deadline."""

    status = 504


class Deployed(BaseModel):
    """What is served under a name.

    Attributes:
        name: The model's name in URLs.
        version: Its version number, for people.
        model_version: Digest of the model version; what a second deployment of it is recognised by.
        module: Entry-point name of the module.
        labels: The classes it may answer with; empty if that is not known.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    version: str = Field(default="", max_length=100)
    model_version: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    module: str = Field(min_length=1, max_length=200)
    labels: tuple[str, ...] = ()


class ServedModel:
    """One version of one model, answering.

    Attributes:
        deployed: What it is.
        folder: Its own folder: the worker's log and the samples of the try page.
        description: What the module says of itself; empty until its worker was ready once.
        state: `starting`, `ready`, `failed` (its worker does not start; tried again), or `ended`.
        reason: Why it failed, one sentence; `trace` is the module's own.
    """

    def __init__(self, deployed: Deployed, folder: Path, weights: Path | None, limits: Limits) -> None:
        """A model that does not run yet; `weights` is what its worker finds as VOLVOX_WEIGHTS."""
        self.deployed = deployed
        self.folder = folder
        self.description: dict[str, Any] = {}
        self.state: Literal["starting", "ready", "failed", "ended"] = "starting"
        self.reason = self.trace = ""
        self.since = time.time()
        self._weights = weights
        self._limits = limits
        self._worker: Worker | None = None
        self._settled = asyncio.Event()  # ready or failed: not on its way
        self._turn = asyncio.Lock()
        self._waiting = 0  # for their turn
        self._open = 0  # asked and not answered yet
        self._idle = asyncio.Event()
        self._idle.set()
        self._mean_seconds = 0.1
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start and warm the worker.

        Raises:
            ModuleFailed: If the module cannot be imported or warmed.
        """
        environment = {"VOLVOX_WEIGHTS": str(self._weights)} if self._weights else {}
        try:
            worker = await Worker.start(
                self.deployed.module,
                environment=environment,
                log=self.folder / "log",
                seconds=self._limits.start_seconds,
            )
        except ModuleFailed as error:
            self.state, self.reason, self.trace = "failed", str(error), error.trace
            self._settled.set()
            raise
        self._worker, self.description, self.state = worker, worker.description, "ready"
        self.reason = self.trace = ""
        self._settled.set()
        self._spawn(self._watch(worker))

    def start_until_ready(self) -> None:
        """Start in the background, again and again with growing pauses until it works."""
        self._spawn(self._start_until_ready())

    async def settled(self) -> None:
        """Wait until the model is ready, or its worker has failed to start."""
        await self._settled.wait()

    async def predict(self, request: Mapping[str, Any]) -> Answer:
        """Ask the module to predict; `request` is one of `volvox.worker.answering`.

        Raises:
            Busy: If too many wait already.
            TooSlow: If the module does not answer in time; its worker is replaced.
            Unavailable: If there is no worker, its turn does not come in time, or it dies meanwhile.
        """
        if self._waiting >= self._limits.queue:
            seconds = max(1, round(self._waiting * self._mean_seconds))
            raise Busy(f"{self._waiting} requests wait for model {self.deployed.name!r} already", seconds)
        self._open += 1
        self._idle.clear()
        try:
            return await self._in_turn(request, time.monotonic() + self._limits.deadline_seconds)
        finally:
            self._open -= 1
            if not self._open:
                self._idle.set()

    async def retire(self) -> None:
        """Let the requests that came in be answered, then end the worker."""
        await self._idle.wait()
        await self.end()

    async def end(self) -> None:
        """End the worker now."""
        self.state = "ended"
        self.reason = self.reason or f"model {self.deployed.name!r} is no longer served"
        self._settled.set()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()

    @property
    def worker_pid(self) -> int | None:
        """The process that answers, if there is one."""
        return self._worker.pid if self._worker else None

    # -- one request ---------------------------------------------------------------------------------------------

    async def _in_turn(self, request: Mapping[str, Any], deadline: float) -> Answer:
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._turn.acquire()
        except TimeoutError:
            raise Unavailable(self._late("its turn did not come")) from None
        finally:
            self._waiting -= 1
        try:
            return await self._ask(request, deadline)
        finally:
            self._turn.release()

    async def _ask(self, request: Mapping[str, Any], deadline: float) -> Answer:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._settled.wait()
        except TimeoutError:
            raise Unavailable(self._late("its worker is still starting")) from None
        worker = self._worker
        if worker is None:
            raise Unavailable(f"model {self.deployed.name!r} cannot answer: {self.reason}")
        began = time.monotonic()
        try:
            async with asyncio.timeout(deadline - began):
                answer = await worker.ask(request)
        except TimeoutError:
            self._replace(worker)
            raise TooSlow(self._late("the module was still at work; its process was ended")) from None
        except WorkerDied as error:
            self._replace(worker)
            raise Unavailable(f"model {self.deployed.name!r} did not answer: {error}; it is being replaced") from error
        except BaseException:  # nobody will read this answer, and the next request must not get it
            self._replace(worker)
            raise
        self._mean_seconds += 0.2 * (time.monotonic() - began - self._mean_seconds)
        return answer

    def _late(self, why: str) -> str:
        return f"model {self.deployed.name!r} did not answer within {self._limits.deadline_seconds:g} s: {why}"

    # -- replacement ---------------------------------------------------------------------------------------------

    def _replace(self, worker: Worker) -> None:
        if self._worker is not worker or self.state == "ended":
            return
        self._worker, self.state = None, "starting"
        self._settled.clear()
        self._spawn(self._start_until_ready(instead_of=worker))

    async def _watch(self, worker: Worker) -> None:
        await worker.exited()
        if self._worker is worker:
            log.warning("the worker of model %r has ended; starting another", self.deployed.name)
            self._replace(worker)

    async def _start_until_ready(self, instead_of: Worker | None = None) -> None:
        if instead_of is not None:
            await asyncio.shield(instead_of.end())  # it may be stuck in the module: nothing else would end it
        pause = 1.0
        while True:
            with contextlib.suppress(ModuleFailed):
                return await self.start()
            log.error("model %r cannot be served: %s\n%s", self.deployed.name, self.reason, self.trace)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
