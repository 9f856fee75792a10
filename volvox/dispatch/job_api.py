"""Jobs of functions over HTTP, for pages and programs: list, one, its log, its answer, live changes, retry, cancel."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from volvox.dispatch.state import trouble
from volvox.dispatch.telling import as_json, why_it_waits
from volvox.dispatch.work import work_of
from volvox.errors import InvalidInput, NotFound
from volvox.inbox import ENDED, Inbox, Job, open_inbox
from volvox.settings import Home

_LIMIT, _MOST = 50, 1000
_LOOK_SECONDS = 0.05
_QUIET_SECONDS = 10.0  # proxies close a connection on which nothing comes
_PIECE = 1 << 16

T = TypeVar("T")


def routes() -> list[Route]:
    """Everything under `/v1/jobs/`."""
    return [
        Route("/v1/jobs/", _list),
        Route("/v1/jobs/changes", _changes),
        Route("/v1/jobs/{id}", _one),
        Route("/v1/jobs/{id}/log", _log),
        Route("/v1/jobs/{id}/outputs/{path:path}", _output),
        Route("/v1/jobs/{id}/retry", _retry, methods=["POST"]),
        Route("/v1/jobs/{id}/cancel", _cancel, methods=["POST"]),
    ]


def inbox_of(request: Request) -> Inbox:
    """The home's inbox, opened once in a server."""
    state = request.app.state
    if getattr(state, "inbox", None) is None:
        state.inbox = open_inbox(Home(state.home))
    return state.inbox


async def asked(request: Request, ask: Callable[[Inbox], T]) -> T:
    """What `ask` finds in the inbox, from a thread."""
    return await asyncio.to_thread(lambda: ask(inbox_of(request)))


async def _list(request: Request) -> Response:
    query = request.query_params
    states = [state.upper() for state in query.getlist("state") if state]
    limit = _number(query.get("limit", ""), _LIMIT, "limit")
    before = _number(query.get("before", ""), 0, "before")
    found: list[Job] = await asked(
        request,
        lambda inbox: inbox.jobs(
            function=query.get("function", ""),
            states=states,  # pyright: ignore[reportArgumentType]
            user=query.get("user"),
            key=query.get("key", ""),
            before=before,
            limit=min(limit, _MOST),
        ),
    )
    more = str(found[-1].number) if len(found) == min(limit, _MOST) else None
    return JSONResponse({"jobs": [as_json(job) for job in found], "next": more})


async def _one(request: Request) -> Response:
    def ask(inbox: Inbox) -> dict[str, Any]:
        job = inbox.job(request.path_params["id"])
        why = trouble(Home(request.app.state.home), job.function)
        return {**as_json(job), "reason": why_it_waits(inbox, job, why)}

    return JSONResponse(await asked(request, ask))


async def _retry(request: Request) -> Response:
    job = await asked(request, lambda inbox: inbox.retry(_full(inbox, request)))
    return JSONResponse(as_json(job), 202)


async def _cancel(request: Request) -> Response:
    job = await asked(request, lambda inbox: inbox.cancel(_full(inbox, request)))
    return JSONResponse(as_json(job), 202)


async def _output(request: Request) -> Response:
    """What a function without an output place answered."""
    job = await asked(request, lambda inbox: inbox.job(request.path_params["id"]))
    wanted = request.path_params["path"]
    folder = work_of(Home(request.app.state.home), job.id).kept
    if not any(one["url"] == "" and one["key"] == wanted for one in job.outputs) or not (folder / wanted).is_file():
        raise NotFound(f"job {job.id} keeps no output {wanted!r} here; what it wrote elsewhere has a URL of its own")
    kind = mimetypes.guess_type(wanted)[0] or "application/octet-stream"
    headers = {"Content-Security-Policy": "sandbox", "Content-Disposition": "attachment"}
    return FileResponse(folder / wanted, media_type=kind, headers=headers)


async def _log(request: Request) -> Response:
    job = await asked(request, lambda inbox: inbox.job(request.path_params["id"]))
    path = work_of(Home(request.app.state.home), job.id).log
    follow = request.query_params.get("follow", "").lower() in ("1", "true", "yes")

    async def pieces() -> AsyncIterator[bytes]:
        position = 0
        while True:
            now = await asked(request, lambda inbox: inbox.job(job.id)) if follow else job
            while piece := await asyncio.to_thread(_read, path, position):
                position += len(piece)
                yield piece
            if not follow or now.state in ENDED or request.app.state.services.ending:
                return
            await asyncio.sleep(_LOOK_SECONDS * 4)

    return StreamingResponse(pieces(), media_type="text/plain; charset=utf-8")


async def _changes(request: Request) -> Response:
    """Server-sent events: every change of a job that fits, from now on or after `Last-Event-ID`."""
    query = request.query_params
    function, user = query.get("function", ""), query.get("user")
    told = request.headers.get("last-event-id", "")
    start = int(told) if told.isdecimal() else await asked(request, lambda inbox: inbox.last_change())

    async def events() -> AsyncIterator[bytes]:
        after, quiet = start, 0.0
        yield b": changes of jobs\n\n"
        while not request.app.state.services.ending:
            found: list[Job] = await asked(request, lambda inbox, last=after: inbox.changes(last))
            for job in found:
                after = job.change
                if (not function or job.function == function) and (user is None or job.user == user):
                    text = json.dumps(as_json(job), ensure_ascii=False)
                    yield f"id: {job.change}\nevent: job\ndata: {text}\n\n".encode()
                    quiet = 0.0
            if not found:
                await asyncio.sleep(_LOOK_SECONDS)
                quiet += _LOOK_SECONDS
                if quiet >= _QUIET_SECONDS:
                    yield b": still here\n\n"
                    quiet = 0.0

    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _full(inbox: Inbox, request: Request) -> str:
    return inbox.job(request.path_params["id"]).id


def _read(path: Path, position: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(position)
            return stream.read(_PIECE)
    except FileNotFoundError:
        return b""


def _number(text: str, default: int, name: str) -> int:
    if not text:
        return default
    if not text.isdecimal() or not 0 < int(text) < 1 << 62:
        raise InvalidInput(f"{name} is {text!r}; give a whole number of at least 1")
    return int(text)
