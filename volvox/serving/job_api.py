"""Jobs over HTTP: what `/v2/jobs/` answers, and predictions that are asked for with `?mode=async`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from volvox.errors import InvalidInput, VolvoxError
from volvox.serving.job_store import FINISHED, STATES, Job, Store
from volvox.serving.job_stream import Follower
from volvox.serving.jobs import Jobs
from volvox.serving.reading import received

_LIMIT, _MOST = 100, 1000
_PIECE = 1 << 18


class NotFinished(VolvoxError):
    """A job has no result yet, or will never have one."""

    status = 409


def routes() -> list[Route]:
    """Everything under `/v2/jobs/`."""
    return [
        Route("/v2/jobs", _with_slash),
        Route("/v2/jobs/", _list),
        Route("/v2/jobs/{uuid}", _job, methods=["GET", "DELETE"]),
        Route("/v2/jobs/{uuid}/result", _result),
        Route("/v2/jobs/{uuid}/log", _log),
        Route("/v2/jobs/{uuid}/output/", _output),
        Route("/v2/jobs/{uuid}/output/{path:path}", _output_file),
    ]


def is_job(request: Request) -> bool:
    """Whether a prediction is to be made without its client waiting: `?mode=async`."""
    return "async" in request.query_params.getlist("mode")


async def predict_later(request: Request) -> Response:
    """Take a prediction on as a job; the answer is the job, and where to find it.

    Raises:
        NotFound: If the model is not served.
        Busy: If too many jobs wait.
    """
    jobs = _jobs(request)
    services, name = jobs.services, request.path_params["name"]
    async with received(request, services.uploads, services.limits, services.get(name).forwarded) as asked:
        modes = [mode for mode in asked["query"].pop("mode", []) if mode != "async"]
        if modes:  # an argument of the module's own
            asked["query"]["mode"] = modes
        job = await jobs.add("predict", services.get(name), asked)
    told = await jobs.told(job)
    return JSONResponse(told, 202, {"Location": request.scope.get("root_path", "") + told["links"]["self"]})


async def _list(request: Request) -> Response:
    jobs, asked = _jobs(request), request.query_params
    state, limit = asked.get("state", "").upper(), asked.get("limit", str(_LIMIT))
    if state and state not in STATES:
        raise InvalidInput(f"there is no state {asked['state']!r}; a job is {', '.join(STATES)}")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= _MOST:
        raise InvalidInput(f"limit={limit!r} is not a number from 1 to {_MOST}")
    kind = asked.get("kind", "")
    if kind not in ("", "predict", "train"):
        raise InvalidInput(f"there is no kind {kind!r} of job; it is predict or train")
    found = await jobs.ask(Store.newest, model=asked.get("model", ""), state=state, kind=kind, limit=int(limit))
    return JSONResponse({"jobs": [await jobs.told(job) for job in found]})


async def _job(request: Request) -> Response:
    jobs, job = _jobs(request), await _asked(request)
    if request.method == "DELETE":
        if job.state not in FINISHED:
            job = await jobs.cancel(job.uuid)
        else:
            await jobs.remove(job.uuid)
    return JSONResponse(await jobs.told(job))


async def _result(request: Request) -> Response:
    jobs, job = _jobs(request), await _asked(request)
    if job.state == "CANCELLED":
        raise NotFinished(f"job {job.uuid} was cancelled and has no result; ask again for a new one")
    if job.state not in FINISHED or job.status is None:
        raise NotFinished(f"job {job.uuid} is {job.state} and has no result yet; its page is /v2/jobs/{job.uuid}")
    # A failed one is answered as whoever had waited would have been; but that is no reason to ask this server again.
    status = 500 if job.status in (502, 503, 504) else job.status
    kept = jobs.files.result(job.uuid, job.content_type)
    if job.state == "FAILED" and not (job.content_type and kept.is_file()):
        return Response(f"{status}: {job.reason}", status, media_type="text/plain")
    return FileResponse(kept, status, {"Content-Type": job.content_type})


async def _log(request: Request) -> Response:
    jobs, job = _jobs(request), await _asked(request)
    follow = request.query_params.get("follow", "").lower() in ("1", "true", "yes")
    if follow or "text/event-stream" in request.headers.get("accept", ""):
        follower = Follower(jobs, job.uuid, request.headers.get("last-event-id", ""))
        if await follower.at_end():
            return Response(status_code=204)  # tells a browser's EventSource not to come back
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(follower.events(), media_type="text/event-stream", headers=headers)
    return StreamingResponse(_until_now(jobs.files.log(job.uuid)), media_type="text/plain")


async def _output(request: Request) -> Response:
    jobs, job = _jobs(request), await _asked(request)
    root = jobs.files.of(job.uuid) / "output"
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    told = [{"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size} for path in files]
    return JSONResponse({"files": told})


async def _output_file(request: Request) -> Response:
    jobs, job = _jobs(request), await _asked(request)
    root = (jobs.files.of(job.uuid) / "output").resolve()
    name = request.path_params["path"]
    path = root if "\0" in name else (root / name).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        return Response(f"404: job {job.uuid} has no file {name!r}; /v2/jobs/{job.uuid}/output/ lists them", 404,
                        media_type="text/plain")  # fmt: skip
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


async def _with_slash(request: Request) -> Response:
    return RedirectResponse("/v2/jobs/" + (f"?{request.url.query}" if request.url.query else ""), 308)


async def _until_now(path: Path) -> AsyncIterator[bytes]:
    """What is in a file that may grow."""
    try:
        with path.open("rb") as stream:
            left = path.stat().st_size
            while left > 0 and (piece := stream.read(min(_PIECE, left))):
                left -= len(piece)
                yield piece
    except FileNotFoundError:
        return


async def _asked(request: Request) -> Job:
    return await _jobs(request).get(request.path_params["uuid"])


def _jobs(request: Request) -> Jobs:
    return request.app.state.jobs
