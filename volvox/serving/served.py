"""A served model: its warm workers, and their replacement when they die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from volvox.errors import InvalidInput, ModuleFailed
from volvox.modules import interpreter
from volvox.serving.asking import Answer, Ask, AwaitedAsk
from volvox.serving.deployed import Deployed
from volvox.serving.limits import Limits
from volvox.serving.pool import Pool
from volvox.serving.worker import Worker

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 30.0
_ACCEPT = frozenset({b"accept"})
_PATIENCE = 4  # starts in a row that may fail before a model that was ready once is said to have failed

log = logging.getLogger(__name__)


class ServedModel:
    """One version of one model, answering.

    Attributes:
        deployed: What it is.
        folder: Its own folder: the worker's log and the samples of the try page.
        description: What the module says of itself; empty until its worker was ready once.
        state: `starting`, `ready`, `failed` (its worker does not start; tried again), or `ended`.
        reason: Why it failed, one sentence; `trace` is the module's own.
        restarts: How many workers were replaced.
        forwarded: The headers that the module asks for, lower case.
    """

    def __init__(self, deployed: Deployed, folder: Path, weights: Path | None, limits: Limits) -> None:
        """A model that does not run yet; `weights` is what its workers find as VOLVOX_WEIGHTS."""
        self.deployed = deployed
        self.folder = folder
        self.description: dict[str, Any] = {}
        self.state: Literal["starting", "ready", "failed", "ended"] = "starting"
        self.reason = self.trace = ""
        self.since = time.time()
        self.restarts = 0
        self.forwarded = _ACCEPT
        self.pool = Pool(deployed.name, limits, on_stuck=self._replace)
        self._weights = weights
        self._limits = limits
        self._settled = asyncio.Event()  # ready or failed: not on its way
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start and warm the workers.

        Raises:
            ModuleFailed: If the module cannot be imported or warmed.
        """
        starting = [asyncio.create_task(self._started()) for _ in range(self._limits.workers)]
        try:
            started = await asyncio.gather(*starting)
        except BaseException as error:
            for task in starting:
                task.cancel()
            for other in await asyncio.gather(*starting, return_exceptions=True):
                if isinstance(other, Worker):
                    await other.end()
            if isinstance(error, ModuleFailed):
                self._failed(error)
            raise
        for worker in started:
            self._ready(worker)

    def start_until_ready(self) -> None:
        """Start in the background, again and again with growing pauses until it works."""
        for _ in range(self._limits.workers):
            self._spawn(self._start_until_ready())

    async def settled(self) -> None:
        """Wait until the model is ready, or its worker has failed to start."""
        await self._settled.wait()

    def submit(self, ask: Ask) -> None:
        """Have `ask` answered.

        Raises:
            Busy: If too many wait already.
            Unavailable: If the model is not there to answer.
        """
        self.pool.submit(ask)

    async def predict(self, request: Mapping[str, Any], payload: bytes = b"") -> Answer:
        """Ask the module to predict; `request` is one of `volvox.worker.answering`, `payload` what goes with it.

        Raises:
            Busy: If too many wait already.
            TooSlow: If the module does not answer in time; what it is at is interrupted.
            Unavailable: If there is no worker, its turn does not come in time, or it dies meanwhile.
        """
        ask = AwaitedAsk(request, payload)
        self.submit(ask)
        try:
            return await ask.future
        except asyncio.CancelledError:
            self.pool.abandon(ask)
            raise

    async def retire(self) -> None:
        """Let the requests that came in be answered, then end the workers."""
        await self.pool.idle.wait()
        await self.end()

    async def end(self) -> None:
        """End the workers now."""
        self.state = "ended"
        self.reason = self.reason or f"model {self.deployed.name!r} is no longer served"
        self.pool.refuse_all(self.reason)
        self._settled.set()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        workers, self.pool.workers = self.pool.workers, []
        await asyncio.gather(*(worker.end() for worker in workers))

    @property
    def weights(self) -> Path | None:
        """What its workers find as VOLVOX_WEIGHTS."""
        return self._weights

    @property
    def worker_pids(self) -> list[int]:
        """The processes that answer."""
        return [worker.pid for worker in self.pool.workers]

    # -- workers -------------------------------------------------------------------------------------------------

    async def _started(self) -> Worker:
        environment = {"VOLVOX_WEIGHTS": str(self._weights)} if self._weights else {}
        try:
            python = (await asyncio.to_thread(interpreter.inspect, self.deployed.python)).path
        except InvalidInput as error:
            raise ModuleFailed(f"module {self.deployed.module!r} did not start: {error}") from error
        return await Worker.start(
            self.deployed.module,
            environment=environment,
            log=self.folder / "log",
            seconds=self._limits.start_seconds,
            batch=self._limits.batch,
            python=python,
            warm=self._limits.warm,
        )

    def _ready(self, worker: Worker) -> None:
        self.description, self.state = worker.description, "ready"
        self.forwarded = _ACCEPT | {
            told["name"].lower().encode()
            for told in worker.description.get("predict", [])
            if told.get("location") in ("headers", "header")
        }
        self.reason = self.trace = ""
        self.pool.add(worker)
        self._settled.set()
        self._spawn(self._watch(worker))

    def _failed(self, error: ModuleFailed) -> None:
        if not self.pool.workers:
            self.state, self.reason, self.trace = "failed", str(error), error.trace
            self.pool.refuse_all(self.reason)
            self._settled.set()

    async def _watch(self, worker: Worker) -> None:
        await worker.exited()
        if worker in self.pool.workers:
            how = await worker.how_it_ended()
            log.warning("%s; starting another for model %r", how, self.deployed.name)
            self._replace(worker, how)

    def _replace(self, worker: Worker, how: str = "it was stuck") -> None:
        if worker not in self.pool.workers or self.state == "ended":
            return
        self.restarts += 1
        self.pool.lose(worker, how)
        if not self.pool.workers:
            self.state = "starting"
            self._settled.clear()
        self._spawn(self._start_until_ready(instead_of=worker))

    async def _start_until_ready(self, instead_of: Worker | None = None) -> None:
        if instead_of is not None:
            await asyncio.shield(instead_of.end())  # it may be stuck in the module: nothing else would end it
        pause, patience = _FIRST_PAUSE_SECONDS, _PATIENCE if self.description else 1
        while True:
            try:
                return self._ready(await self._started())
            except ModuleFailed as error:
                patience -= 1
                if patience <= 0:  # a module that worked before may have met with an accident; the next start may do
                    self._failed(error)
                log.error("model %r cannot be served: %s\n%s", self.deployed.name, error, error.trace)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
