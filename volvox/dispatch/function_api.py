"""Functions over HTTP: what there is, files for one, a call that is answered, notifications of buckets."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from volvox.dispatch import calls, job_api, route_api
from volvox.dispatch.job_api import asked, inbox_of
from volvox.dispatch.matching import job_for, match_of
from volvox.dispatch.opening import opener
from volvox.dispatch.state import deployed
from volvox.dispatch.telling import as_json
from volvox.errors import InvalidInput
from volvox.events import Sender, SenderFile, webhooks
from volvox.events.writing import notification
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import ENDED, Arrival, Job
from volvox.places import split
from volvox.serving.reading import received
from volvox.settings import Home

SENDERS = "senders.yaml"
_WAIT_SECONDS, _LONGEST_WAIT = 30.0, 600.0
_LOOK_SECONDS = 0.01


def routes() -> list[BaseRoute]:
    """Everything under `/v1/functions/`, `/v1/jobs/` and `/v1/apis/`."""
    return [
        Route("/v1/functions/", _list),
        Route("/v1/functions/{name}", _one),
        Route("/v1/functions/{name}/files", _files, methods=["POST"]),
        Route("/v1/functions/{name}/call", _call, methods=["POST"]),
        *job_api.routes(),
        *route_api.routes(),
    ]


def hooks(home: Home) -> list[BaseRoute]:
    """Where buckets send their notifications; who may is in `dispatch/senders.yaml`."""
    from volvox.inbox import open_inbox

    opened: list[Any] = []

    async def record(arrivals: Sequence[Arrival]) -> None:
        def keep() -> None:
            if not opened:
                opened.append(open_inbox(home))
            opened[0].record(arrivals)

        await asyncio.to_thread(keep)

    return webhooks.create(record, _senders(home.root / "dispatch" / SENDERS)).routes


def _senders(path: Path) -> Callable[[], Iterable[Sender]]:
    """Who may send, also once the file is made while the server runs."""
    opened: list[SenderFile] = []

    def senders() -> Iterable[Sender]:
        if not opened and path.exists():
            opened.append(SenderFile(path))
        return opened[0]() if opened else ()

    return senders


async def _list(request: Request) -> Response:
    def find() -> list[dict[str, Any]]:
        home = Home(request.app.state.home)
        counts = inbox_of(request).counts()
        return [_told(home, one, counts) for one in registry.functions(home).values()]

    return JSONResponse({"functions": await asyncio.to_thread(find)})


async def _one(request: Request) -> Response:
    def find() -> dict[str, Any]:
        home = Home(request.app.state.home)
        one = registry.get(home, request.path_params["name"])
        return {**_told(home, one, inbox_of(request).counts()), "definition": one.function.model_dump(mode="json")}

    return JSONResponse(await asyncio.to_thread(find))


async def _files(request: Request) -> Response:
    """Put uploaded files into the function's input place; each is a job, whose id is told."""
    home = Home(request.app.state.home)
    function = registry.get(home, request.path_params["name"]).filled
    if not function.inputs:
        raise InvalidInput(f"function {function.name!r} has no input place; call it: POST .../call")
    folder = request.query_params.get("folder", "").strip("/")
    services = request.app.state.services
    async with received(request, services.uploads, services.limits) as sent:
        found = _uploads(sent)
        jobs = await asyncio.to_thread(_put, request, function, folder, found)
    return JSONResponse({"jobs": [as_json(job) for job in jobs]}, 202)


async def _call(request: Request) -> Response:
    """Ask about one file and answer what the function answers; 202 with the job if that takes longer than `wait`."""
    home = Home(request.app.state.home)
    name = request.path_params["name"]
    wait = _wait(request.query_params.get("wait", ""))
    services = request.app.state.services
    async with received(request, services.uploads, services.limits) as sent:
        found = _uploads(sent)
        if len(found) != 1:
            raise InvalidInput(f"a call is about one file, and {len(found)} were sent; POST .../files takes many")

        def begin() -> Job:
            handed = calls.place_for(home, found[0][0])
            Path(found[0][1]).rename(handed.path)
            return calls.call(home, inbox_of(request), name, handed)

        job = await asyncio.to_thread(begin)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while job.state not in ENDED and loop.time() < deadline:
        await asyncio.sleep(_LOOK_SECONDS)
        job = await asked(request, lambda inbox, one=job.id: inbox.job(one))
    if job.state not in ENDED:
        return JSONResponse(as_json(job), 202, headers={"Location": f"/v1/jobs/{job.id}"})
    answers = await asyncio.to_thread(calls.answers, home, job)
    headers = {"X-Volvox-Job": job.id}
    if len(answers) == 1:
        kind = mimetypes.guess_type(answers[0].name)[0] or "application/octet-stream"
        return FileResponse(answers[0], media_type=kind, headers=headers)
    return JSONResponse(as_json(job), headers=headers)


def _put(request: Request, function: Function, folder: str, files: Sequence[tuple[str, str]]) -> list[Job]:
    given = function.inputs[0]
    root, inside = split(given.url)
    place = opener()(root, function, given.provider)
    inbox = inbox_of(request)
    jobs: list[Job] = []
    for name, path in files:
        key = "/".join(part for part in (inside, folder, name) if part)
        place.put(key, Path(path), once=False)
        found = place.find(key)
        if found is None:
            raise InvalidInput(f"{key} was written to {root} and is not there; somebody else removes files there")
        event = notification(root, key, size=found.size)
        arrival = Arrival(root, key, source="upload", event=event, function=function.name)
        below = "/".join(part for part in (folder, name) if part)
        new = job_for(match_of(function, given, below), arrival, found)
        inbox.enter([new])
        jobs.append(inbox.job(new.id))
    return jobs


def _uploads(sent: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and path of every file that was sent."""
    found = [(one["name"], one["path"]) for several in sent.get("files", {}).values() for one in several]
    if not found:
        raise InvalidInput("no file was sent; send one as a form's file: curl -F file=@photo.png URL")
    return [(name.replace("\\", "/").rpartition("/")[2] or "object", path) for name, path in found]


def _told(home: Home, one: registry.Registered, counts: dict[str, Any]) -> dict[str, Any]:
    name = one.filled.name
    state = deployed(home)
    lane = next((lane for lane in state["functions"] if lane["function"] == name), {})
    return {
        "name": name,
        "description": one.filled.description,
        "model": one.filled.model,
        "image": one.filled.image,
        "runtime": lane.get("runtime", one.filled.runtime),
        "version": one.version,
        "inputs": [place.url for place in one.filled.inputs],
        "outputs": [place.url for place in one.filled.outputs],
        "trouble": state["troubles"].get(name, ""),
        "instances": lane.get("instances", []),
        "at_work": lane.get("at_work", 0),
        "job_seconds": lane.get("job_seconds", 0.0),
        "cold_start_seconds": lane.get("cold_start_seconds", 0.0),
        "jobs": counts.get(name, {}),
    }


def _wait(text: str) -> float:
    try:
        seconds = float(text or _WAIT_SECONDS)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise InvalidInput(f"wait is {text!r}; give seconds from 0 to {_LONGEST_WAIT:g}")
    return seconds
