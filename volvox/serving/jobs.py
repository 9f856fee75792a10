"""Predictions and trainings that nobody waits for, and that survive a restart of the server.

A prediction goes to the workers that answer every request, but only when nothing else waits for them, and never to all
of them at once where there are several. A training has a process of its own, which gives way to others, and a slot of
its own: `Limits.training_slots` run at once.

After a restart a prediction that had begun is made again: at least once, its answer written as a whole or not at all.
A training that had begun goes on if it left checkpoints (it finds them, and what it wrote, in the same places), else it
has failed: "the server ended while it ran". A job during which the server was killed `Limits.job_deaths` times is not
tried again: it may be what kills it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid as uuids
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from volvox.errors import NotFound, Unavailable
from volvox.serving import job_files, job_runs
from volvox.serving.asking import Busy
from volvox.serving.job_files import JobFiles
from volvox.serving.job_store import FINISHED, OPEN, Job, Kind, Store
from volvox.serving.served import ServedModel
from volvox.serving.services import JOBS, Services

_LOOK_SECONDS = 0.5  # how often to look whether a model that jobs wait for has become ready
_SWEEP_SECONDS = 600.0
_RETRY_SECONDS = 10
_ENDED = "the server ended while it ran"
_JSON = "application/json"
_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Jobs:
    """The jobs of one server; its database and files lie in `<services.folder>/jobs/`.

    Attributes:
        files: The folders of the jobs.
        services: The models they are asked of.
    """

    def __init__(self, services: Services) -> None:
        """Nothing is touched before `open`."""
        self.services = services
        self.files = JobFiles(services.folder / JOBS)
        self._store: Store | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._running: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closing = False

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the jobs of before, and go on with them; the server's folder must have been claimed."""
        self.files.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # One thread has the database: it writes to disk, for which no request shall wait.
        self._threads = ThreadPoolExecutor(1, "jobs")
        self._store = await asyncio.get_running_loop().run_in_executor(
            self._threads, Store, self.files.folder / "jobs.sqlite"
        )
        for job in await self.ask(Store.running):
            await self._put_back(job, deaths=job.deaths + 1)
        self.files.remove_strangers(await self.ask(Store.uuids))
        for forever in (self._schedule(), self._sweep()):
            self._work.add(asyncio.create_task(forever))
        self._changed.set()

    async def close(self) -> None:
        """End what runs; the next start goes on with it."""
        self._closing = True
        running = [*self._running.values()]
        for task in (*self._work, *(task for _, task in running)):
            task.cancel()
        await asyncio.gather(*self._work, *(task for _, task in running), return_exceptions=True)
        if self._store is not None and self._threads is not None:
            for job, _ in running:
                await self._put_back(job, deaths=job.deaths)
            await self.ask(Store.close)
            self._threads.shutdown()
            self._store = None

    async def _put_back(self, job: Job, deaths: int) -> None:
        """Have a job that ran when the server ended wait again, or say why it does not."""
        if (await self.get(job.uuid)).state != "RUNNING":
            return
        await asyncio.to_thread(job_files.end_processes, job.uuid)
        if deaths >= self.services.limits.job_deaths:
            failed = f"{_ENDED}, {deaths} times; it is not tried again"
        elif job.kind == "train" and not self.files.has_checkpoints(job.uuid):
            failed = f"{_ENDED}, and it had left no checkpoint to go on from"
        else:
            again = f"{_ENDED}; it goes on from its checkpoints" if job.kind == "train" else f"{_ENDED}; it runs again"
            await self.ask(Store.move, job.uuid, "PENDING", of=("RUNNING",), reason=again, deaths=deaths)
            return
        await self.fail(job, failed, deaths=deaths)

    # -- jobs ----------------------------------------------------------------------------------------------------

    async def ask(self, do: Callable[..., _T], *arguments: Any, **keywords: Any) -> _T:
        """Call a method of `Store` in the thread that has the database."""
        if self._store is None or self._threads is None:
            raise Unavailable("this server is ending: it takes and tells of no more jobs")
        store = self._store
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: do(store, *arguments, **keywords)
        )

    async def add(
        self, kind: Kind, model: ServedModel, request: dict[str, Any], arguments: str = "{}", weights: bool = False
    ) -> Job:
        """Take a job on: it is on disk when this returns, and its uploads are moved there.

        Args:
            kind: What to do.
            model: The served model it is asked of.
            request: One of `volvox.worker.answering`.
            arguments: What the job shows as its arguments, JSON.
            weights: Whether it may start from the model's weights.

        Raises:
            Busy: If too many jobs wait already.
            Unavailable: If the server is ending.
        """
        waiting, most = await self.ask(Store.count, "PENDING"), self.services.limits.jobs_waiting
        if waiting >= most:
            raise Busy(f"{waiting} jobs wait already, as many as may; come back when some are done", _RETRY_SECONDS)
        uuid, deployed = uuids.uuid4().hex, model.deployed
        start = model.weights if weights else None
        keep = start is not None and start.is_relative_to(self.services.folder)
        try:
            kept = await asyncio.to_thread(self.files.create, uuid, request, start, keep_weights=keep)
            told = {"version": deployed.version, "model_version": deployed.model_version, "arguments": arguments}
            job = await self.ask(
                Store.add, uuid, kind=kind, model=deployed.name, module=deployed.module, weights=kept, **told
            )
        except BaseException:
            self.files.remove(uuid)
            raise
        self._changed.set()
        return job

    async def get(self, uuid: str) -> Job:
        """The job `uuid`.

        Raises:
            NotFound: If there is none.
        """
        return await self.ask(Store.get, uuid)

    async def cancel(self, uuid: str) -> Job:
        """Cancel an open job; when this returns nothing of it runs any more.

        Returns:
            The job: CANCELLED, or as it finished meanwhile.

        Raises:
            NotFound: If there is none.
        """
        await self.get(uuid)
        if running := self._running.get(uuid):
            running[1].cancel()
            await asyncio.wait({running[1]})
        await self.ask(Store.move, uuid, "CANCELLED", of=OPEN, reason="it was cancelled")
        job = await self.get(uuid)
        if job.state == "CANCELLED":
            await asyncio.to_thread(self.files.tidy, uuid)
        self._changed.set()
        return job

    async def remove(self, uuid: str) -> None:
        """Forget a finished job, and remove its files."""
        if await self.ask(Store.remove, uuid):
            await asyncio.to_thread(self.files.remove, uuid)

    async def told(self, job: Job) -> dict[str, Any]:
        """A job as `/v2/jobs/` shows it."""
        reason, position = job.reason, None
        if job.state == "PENDING":
            before, running = await self.ask(Store.before, job)
            position = before + 1
            reason = "; ".join(filter(None, (reason, self._why(job, before, running))))
        place = f"/v2/jobs/{job.uuid}"
        told: dict[str, Any] = {
            "uuid": job.uuid, "kind": job.kind, "model": job.model, "version": job.version,
            "model_version": job.model_version, "module": job.module, "state": job.state, "reason": reason,
            "position": position, "created": job.created, "started": job.started, "finished": job.finished,
            "runs": job.runs, "progress": None,
            "links": {"self": place, "result": f"{place}/result", "log": f"{place}/log"},
        }  # fmt: skip
        if job.kind == "train":
            told["args"] = job.given
            told["progress"] = await asyncio.to_thread(self.files.progress, job.uuid)
        return told

    def _why(self, job: Job, before: int, running: int) -> str:
        if job.kind == "train":
            slots = self.services.limits.training_slots
            taken = f"{running} of {slots} training slot{'s' if slots > 1 else ''} taken"
            return f"{before} training{'s' if before != 1 else ''} before it, {taken}"
        try:
            model = self.services.get(job.model)
        except NotFound as error:
            return str(error)
        if model.state == "ready":
            return f"{before} job{'s' if before != 1 else ''} before it, {running} running"
        return model.reason or f"model {job.model!r} is {model.state}"

    # -- running -------------------------------------------------------------------------------------------------

    async def finish(self, job: Job, status: int, content_type: str, body: bytes) -> None:
        """A job has its answer."""
        if not (content_type.isascii() and content_type.isprintable()):  # a module may name any; it becomes a header
            content_type = "application/octet-stream"
        await asyncio.to_thread(self.files.write_result, job.uuid, content_type, body)
        await self.ask(Store.move, job.uuid, "SUCCEEDED", of=("RUNNING",), status=status, content_type=content_type)
        await asyncio.to_thread(self.files.tidy, job.uuid)

    async def fail(
        self,
        job: Job,
        reason: str,
        *,
        status: int = 500,
        trace: str = "",
        message: str = "",
        body: bytes | None = None,
        **more: Any,
    ) -> None:
        """A job has failed; its answer is what a client that had waited would have got.

        Args:
            job: One that has not finished.
            reason: Why, one sentence.
            status: HTTP status of the answer.
            trace: The module's own; goes into the log.
            message: What the module's exception says (default: `reason`).
            body: The answer as JSON, where it is not the reason.
            **more: Columns of `Job`.
        """
        with contextlib.suppress(OSError):  # a full disk is most likely why it failed
            if body is not None:
                await asyncio.to_thread(self.files.write_result, job.uuid, _JSON, body)
            if trace:
                await asyncio.to_thread(self.files.add_to_log, job.uuid, trace)
        kind = "" if body is None else _JSON
        columns = {"message": message or reason, "status": status, "content_type": kind, **more}
        await self.ask(Store.move, job.uuid, "FAILED", of=OPEN, reason=reason, **columns)
        await asyncio.to_thread(self.files.tidy, job.uuid)

    async def begin(self, job: Job, **columns: Any) -> None:
        """A job runs from now on."""
        if await self.ask(Store.move, job.uuid, "RUNNING", of=("PENDING",), **columns) is None:
            raise asyncio.CancelledError  # it was cancelled in this very moment

    async def _schedule(self) -> None:
        """Start what can be started, whenever something has changed."""
        while True:
            waits = False
            try:
                await self._start_trainings()
                waits = await self._start_predictions()
            except Exception as error:  # a full disk, most likely: it may pass, and nothing else would start jobs again
                log.error("jobs cannot be started: %s", error)
                waits = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_SECONDS if waits else None)
            self._changed.clear()

    async def _start_trainings(self) -> None:
        slots = self.services.limits.training_slots - self._count("train")
        for job in await self.ask(Store.waiting, "train", limit=max(0, slots) + len(self._running)):
            if slots > 0 and job.uuid not in self._running:
                self._start(job, job_runs.train(self, job))
                slots -= 1

    async def _start_predictions(self) -> bool:
        """Whether jobs wait for a model that is not ready."""
        waits = False
        for name in await self.ask(Store.models_waited_for):
            try:
                model = self.services.get(name)
            except NotFound as error:
                for job in await self.ask(Store.waiting, "predict", name):
                    if job.uuid not in self._running:
                        await self.fail(job, str(error))
                continue
            if model.state != "ready":
                waits = True
                continue
            # Where there are several workers, one is always left to those who wait for their answer.
            slots = max(1, self.services.limits.workers - 1) - self._count("predict", name)
            for job in await self.ask(Store.waiting, "predict", name, limit=max(0, slots) + len(self._running)):
                if slots > 0 and job.uuid not in self._running:
                    self._start(job, job_runs.predict(self, job, model))
                    slots -= 1
        return waits

    def _count(self, kind: Kind, model: str = "") -> int:
        return sum(job.kind == kind and model in ("", job.model) for job, _ in self._running.values())

    def _start(self, job: Job, work: Any) -> None:
        async def run() -> None:
            try:
                await work
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.error("job %s failed in the server", job.uuid, exc_info=error)
                with contextlib.suppress(Exception):
                    await self.fail(job, f"{type(error).__name__} in the server: {error}; its log says more")
            finally:
                self._running.pop(job.uuid, None)
                self._changed.set()

        self._running[job.uuid] = (job, asyncio.create_task(run()))

    # -- keeping -------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        """Remove finished jobs that are too old or too many, again and again."""
        limits = self.services.limits
        while True:
            try:
                for uuid in await self.ask(Store.expired, limits.jobs_days, limits.jobs_kept):
                    await self.remove(uuid)
            except Exception as error:
                log.error("old jobs cannot be removed: %s", error)
            await asyncio.sleep(_SWEEP_SECONDS)


def finished(job: Job) -> bool:
    """Whether a job will not change any more."""
    return job.state in FINISHED
