"""Trainings as DEEPaaS 2.6.0 speaks of them; each is a job, which `/v2/jobs/` shows too.

As there, a training that waits is `running`, dates are local and without a zone, and one that was deleted is gone from
the list; cancelled, it stays with the other jobs.
"""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from volvox.errors import NotFound, Unavailable
from volvox.modules.calling import ArgumentsRefused, call_module
from volvox.serving import job_files, outcome
from volvox.serving.job_store import FINISHED, Job, Store
from volvox.serving.jobs import Jobs
from volvox.serving.reading import received, until_gone
from volvox.serving.served import ServedModel

_STATUS = {"PENDING": "running", "RUNNING": "running", "SUCCEEDED": "done", "FAILED": "error", "CANCELLED": "cancelled"}
_CHECKS = 2  # modules that are loaded at once to look at arguments


def routes() -> list[Route]:
    """Everything under `/v2/models/NAME/train/`; HEAD is refused, as there."""
    made = [
        Route("/v2/models/{name}/train/", _trainings, methods=["GET", "POST"]),
        Route("/v2/models/{name}/train", _with_slash, methods=["GET", "POST"]),
        Route("/v2/models/{name}/train/{uuid}", _training, methods=["GET", "DELETE"]),
    ]
    for route in made:
        (route.methods or set()).discard("HEAD")
    return made


def told(job: Job, returned: Any) -> dict[str, Any]:
    """A training as DEEPaaS tells of it; `returned` is what the module's `train` returned."""
    said: dict[str, Any] = {"date": _local(job.created), "args": job.given, "uuid": job.uuid}
    said["status"] = _STATUS[job.state]
    if job.state == "FAILED":
        said["message"] = job.message
    if job.state == "SUCCEEDED" and job.finished:
        duration = datetime.fromisoformat(job.finished) - datetime.fromisoformat(job.created)
        said["result"] = {"output": returned, "finish_date": _local(job.finished), "duration": str(duration)}
    return said


async def _trainings(request: Request) -> Response:
    jobs, model = _jobs(request), _model(request)
    if request.method == "POST":
        return await _begin(request, jobs, model)
    found = await jobs.ask(Store.newest, model=model.deployed.name, kind="train", listed=True)
    return JSONResponse([await _shown(jobs, job) for job in reversed(found)])


async def _begin(request: Request, jobs: Jobs, model: ServedModel) -> Response:
    """Look at the arguments, then take the training on.

    The module is loaded for it by a process of its own: its workers are for those who wait for an answer.
    """
    services, missing = (
        jobs.services,
        outcome.text(501, f"Not implemented by underlying model (loaded '{model.deployed.module}')"),
    )
    if model.description and "train" not in model.description.get("functions", ()):
        return _plain(missing)
    async with received(request, services.uploads, services.limits, _headers(model)) as asked:
        try:
            async with until_gone(request), asyncio.timeout(services.limits.start_seconds), _checks(request):
                arguments = await call_module(
                    model.deployed.module, "validate:train", request=asked, python=model.deployed.python
                )
        except ArgumentsRefused as error:
            return JSONResponse(error.messages, 422)
        except NotFound:
            return _plain(missing)
        except TimeoutError as error:
            late = f"module {model.deployed.module!r} did not say within {services.limits.start_seconds:g} s"
            raise Unavailable(f"{late} whether it takes these arguments") from error
        job = await jobs.add("train", model, asked, json.dumps(job_files.finite(arguments)), weights=True)
    return JSONResponse(told(job, None))


async def _training(request: Request) -> Response:
    jobs, model = _jobs(request), _model(request)
    try:
        job = await jobs.get(request.path_params["uuid"])
    except NotFound:
        return _plain(outcome.text(404, "Not Found"))
    if job.kind != "train" or job.model != model.deployed.name or job.unlisted:
        return _plain(outcome.text(404, "Not Found"))
    if request.method == "GET":
        return JSONResponse(await _shown(jobs, job))
    if job.state not in FINISHED:
        job = await jobs.cancel(job.uuid)
        await jobs.ask(Store.unlist, job.uuid)
        return JSONResponse(await _shown(jobs, job))
    said = await _shown(jobs, job)
    await jobs.remove(job.uuid)
    return JSONResponse(said)


async def _shown(jobs: Jobs, job: Job) -> dict[str, Any]:
    if job.state != "SUCCEEDED":
        return told(job, None)
    kept = jobs.files.result(job.uuid, job.content_type)
    return told(job, json.loads(await asyncio.to_thread(kept.read_text)))


async def _with_slash(request: Request) -> Response:
    place = request.url.path + "/" + (f"?{request.url.query}" if request.url.query else "")
    return _plain(outcome.text(308, "Permanent Redirect", {"Location": place}))


def _checks(request: Request) -> asyncio.Semaphore:
    state = request.app.state
    if not hasattr(state, "training_checks"):
        state.training_checks = asyncio.Semaphore(_CHECKS)
    return state.training_checks


def _headers(model: ServedModel) -> frozenset[bytes]:
    """The headers that arguments of `train` are read from."""
    described = model.description.get("train", [])
    return frozenset(
        argument["name"].lower().encode() for argument in described if argument.get("location") in ("headers", "header")
    )


def _local(time: str) -> str:
    """A time as DEEPaaS writes it: local, without a zone, always with microseconds."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")


def _plain(said: outcome.Outcome) -> Response:
    return Response(said.body, said.status, said.headers, media_type=said.content_type)


def _model(request: Request) -> ServedModel:
    return _jobs(request).services.get(request.path_params["name"])


def _jobs(request: Request) -> Jobs:
    return request.app.state.jobs
