"""HTTP routes of functions, as an API Gateway of AWS has them: `/v1/apis/NAME/STAGE/PATH` calls the function NAME.

What SCAR's `api_gateway` says counts here as it does on AWS (`volvox.runtimes.aws.api_gateway`): stage, path, method
and time limit are the same, and so are what the function gets and what is answered. The body is the file, the query its
arguments; a caller waits 29 s at most and is told 504 then, while the job goes on.
"""

from __future__ import annotations

import asyncio
import base64
import json
import mimetypes
import shutil
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from volvox.dispatch import calls
from volvox.dispatch.job_api import asked, inbox_of
from volvox.dispatch.work import work_of
from volvox.errors import NotFound
from volvox.functions import registry
from volvox.functions.routes import METHODS, HttpRoute, route_of
from volvox.inbox import ENDED, Job
from volvox.serving.reading import announced
from volvox.serving.refusals import Malformed, TooLarge
from volvox.settings import Home

_STATUS = {"refused": 422, "transient": 503, "gone": 503, "timeout": 504}
_PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization"})  # a script has no business with them
_LOOK_SECONDS = 0.01


def routes() -> list[Route]:
    """Everything under `/v1/apis/`."""
    return [Route("/v1/apis/{name}/{stage}/{path:path}", _request, methods=[*METHODS])]


async def _request(request: Request) -> Response:
    """Call the function and answer what it answers."""
    home, name = Home(request.app.state.home), request.path_params["name"]
    route = await asyncio.to_thread(_route, home, name, request.path_params["stage"], request.path_params["path"])
    if not route.takes(request.method):
        said = {"kind": "refused", "reason": f"this route of function {name!r} takes {route.method} only"}
        return JSONResponse(said, 405, headers={"Allow": route.method})
    handed = await asyncio.to_thread(calls.place_for, home, _file_name(request))
    try:
        await _received(request, handed.path)
    except BaseException:
        shutil.rmtree(handed.folder, ignore_errors=True)
        raise

    def begin() -> Job:
        return calls.call(home, inbox_of(request), name, handed, event=json.dumps(_event(request, route)))

    loop = asyncio.get_running_loop()
    deadline = loop.time() + route.seconds
    job = await asyncio.to_thread(begin)
    while job.state not in ENDED:
        if loop.time() >= deadline:
            said = {"kind": "timeout", "reason": f"no answer after {route.seconds:g} s; job {job.id[:8]} goes on"}
            return JSONResponse(said, 504, headers={"Location": f"/v1/jobs/{job.id}", "X-Volvox-Job": job.id})
        await asyncio.sleep(_LOOK_SECONDS)
        job = await asked(request, lambda inbox, one=job.id: inbox.job(one))
    return await asyncio.to_thread(_answer, home, job)


def _route(home: Home, name: str, stage: str, path: str) -> HttpRoute:
    """The route that is meant.

    Raises:
        NotFound: If there is no such function, or it has no such route.
    """
    route = route_of(registry.get(home, name).filled)
    if route is None:
        raise NotFound(f"function {name!r} has no HTTP route: say api_gateway.name in its file, or POST .../call")
    if stage != route.stage or not route.leads(path):
        raise NotFound(f"function {name!r} has no route {stage}/{path}; it has {route.stage}/{route.path_part}")
    return route


def _file_name(request: Request) -> str:
    """What the body is called: as X-File-Name says, else by its media type."""
    if name := request.headers.get("x-file-name", "").replace("\\", "/").rpartition("/")[2]:
        return name
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return f"request{mimetypes.guess_extension(kind) or ''}"


async def _received(request: Request, path: Path) -> None:
    """Write the body to `path`."""
    limits, size = request.app.state.services.limits, 0
    announced(request.headers.get("content-length", "").encode(), limits)
    with path.open("wb") as stream:
        try:
            async for piece in request.stream():
                size += len(piece)
                if 0 < limits.upload_bytes < size:
                    raise TooLarge(limits.upload_bytes)
                await asyncio.to_thread(stream.write, piece)
        except ClientDisconnect as error:
            raise Malformed("body", "The request ended before its body did.") from error


def _event(request: Request, route: HttpRoute) -> dict[str, Any]:
    """The request as API Gateway tells it to a function, without its body, which is the file."""
    headers = {name: text for name, text in request.headers.items() if name not in _PRIVATE}
    return {
        "resource": f"/{route.path_part}",
        "path": f"/{request.path_params['path']}",
        "httpMethod": request.method,
        "headers": headers,
        "queryStringParameters": dict(request.query_params) or None,
        "pathParameters": {"proxy": request.path_params["path"]},
        "requestContext": {"apiId": request.path_params["name"], "stage": route.stage, "httpMethod": request.method},
        "isBase64Encoded": False,
    }


def _answer(home: Home, job: Job) -> Response:
    """What the function answered: its file, several as JSON, of one that wrote none what it printed."""
    headers = {"X-Volvox-Job": job.id}
    if job.state != "SUCCEEDED":
        kind = str(job.error.get("kind", ""))
        return JSONResponse({"kind": kind, "reason": job.reason}, _STATUS.get(kind, 500), headers=headers)
    found = calls.answers(home, job)
    if not found:
        log = work_of(home, job.id).log
        return PlainTextResponse(log.read_bytes() if log.exists() else b"", headers=headers)
    if len(found) == 1:
        kind = mimetypes.guess_type(found[0].name)[0] or "application/octet-stream"
        return FileResponse(found[0], media_type=kind, headers=headers)
    files = [{"path": path.name, "content": base64.b64encode(path.read_bytes()).decode()} for path in found]
    return JSONResponse({"files": files}, headers=headers)
