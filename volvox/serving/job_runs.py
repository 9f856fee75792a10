"""One job from its first moment to its last: a prediction by the workers, a training by a process of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from volvox.errors import ModuleFailed, NotFound, VolvoxError
from volvox.modules.calling import ArgumentsRefused, FunctionFailed, call_module
from volvox.serving import job_files, outcome
from volvox.serving.asking import AwaitedAsk
from volvox.worker import finding

if TYPE_CHECKING:
    from volvox.serving.job_store import Job
    from volvox.serving.jobs import Jobs
    from volvox.serving.served import ServedModel
    from volvox.serving.worker import Worker

_NICE = 10
_LOOK_SECONDS = 0.02


class _JobAsk(AwaitedAsk):
    """A request that waits for a worker which has nothing else to do.

    Attributes:
        begun: Set when a worker has it.
    """

    patient = True

    __slots__ = ("_worker", "begun")

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._worker: Worker | None = None
        self.begun = asyncio.Event()
        super().__init__(request)

    @property
    def worker(self) -> Worker | None:
        return self._worker

    @worker.setter
    def worker(self, worker: Worker | None) -> None:
        self._worker = worker
        if worker is not None:
            self.begun.set()


async def predict(jobs: Jobs, job: Job, model: ServedModel) -> None:
    """Have `model` answer a job; where it cannot yet, the job waits on."""
    deployed, seconds = model.deployed, jobs.services.limits.job_seconds
    ask = _JobAsk(await asyncio.to_thread(jobs.files.request, job.uuid))
    begun = asyncio.ensure_future(ask.begun.wait())
    try:
        model.submit(ask)
        await asyncio.wait((begun, ask.future), return_when=asyncio.FIRST_COMPLETED)
        if not ask.begun.is_set():
            ask.future.exception()  # no worker took it before the model became unavailable
            return
        await jobs.begin(job, version=deployed.version, model_version=deployed.model_version)
        async with asyncio.timeout(seconds):
            answer = await ask.future
    except TimeoutError:
        await _left(model, ask)
        await jobs.fail(job, f"model {job.model!r} did not answer within {seconds:g} s: it was interrupted")
    except asyncio.CancelledError:
        await asyncio.shield(_left(model, ask))
        raise
    except VolvoxError as error:
        if ask.begun.is_set():
            await jobs.fail(job, str(error))
    else:
        said = outcome.said(answer.header, answer.body, job.model)
        if said.status == 200:
            await jobs.finish(job, 200, said.content_type, said.body)
            return
        told = answer.header["error"]
        as_json = said.body if said.content_type == "application/json" else None
        await jobs.fail(job, told["message"], status=said.status, trace=told.get("trace") or "", body=as_json)
    finally:
        begun.cancel()


async def _left(model: ServedModel, ask: _JobAsk) -> None:
    """Take a request back, and wait until no worker is at it any more."""
    worker = ask.worker
    model.pool.abandon(ask)
    if worker is None:
        return
    while worker in model.pool.workers and worker.is_at(ask.number):
        await asyncio.sleep(_LOOK_SECONDS)
    if worker not in model.pool.workers:
        await worker.exited()


async def train(jobs: Jobs, job: Job) -> None:
    """Train in a process of its own, which gives way to others; nothing of it runs when this ends, however it ends."""
    files = jobs.files
    await jobs.begin(job)
    try:
        request = await asyncio.to_thread(files.request, job.uuid)
        module, python = _place(jobs, job)
        returned = await call_module(
            module, "train", python=python, request=request, places=files.places(job.uuid, job.weights),
            environment=job_files.marked(job.uuid), log=files.log(job.uuid), nice=_NICE,
        )  # fmt: skip
    except ArgumentsRefused as error:
        body = json.dumps(error.messages, default=str).encode()
        await jobs.fail(job, str(error), status=422, body=body, message=str(error.messages))
    except NotFound:
        await jobs.fail(job, f"Not implemented by underlying model (loaded '{job.module}')", status=501)
    except FunctionFailed as error:
        await jobs.fail(job, str(error), trace=error.trace, message=error.said)
    except ModuleFailed as error:  # what it printed is in the log already
        await jobs.fail(job, str(error))
    except VolvoxError as error:
        await jobs.fail(job, str(error))
    else:
        body = json.dumps(job_files.finite(returned), ensure_ascii=False).encode()
        await jobs.finish(job, 200, "application/json", body)
    finally:
        await asyncio.shield(asyncio.to_thread(job_files.end_processes, job.uuid))


def _place(jobs: Jobs, job: Job) -> tuple[str, str]:
    """Where the job's module lies, and its interpreter: as it is served now, for a server may have moved it since."""
    try:
        deployed = jobs.services.get(job.model).deployed
    except NotFound:
        return job.module, ""
    then, now = finding.parse(job.module), finding.parse(deployed.module)
    same = (then.name, then.module, then.object) == (now.name, now.module, now.object)
    return (deployed.module, deployed.python) if same else (job.module, "")
