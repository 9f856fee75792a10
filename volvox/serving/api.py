"""The model API: DEEPaaS V2 as version 2.6.0 speaks it, health, and the OpenAPI document."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from volvox.serving import job_api, openapi, outcome, swagger
from volvox.serving.asking import Answer
from volvox.serving.reading import received, until_gone
from volvox.serving.routing import with_and_without_slash
from volvox.serving.served import ServedModel
from volvox.serving.services import Services


def routes() -> list[Route]:
    """Everything under `/v2/`, `/health/` and `/openapi.json`; a missing last slash is answered 308."""
    return [
        *with_and_without_slash("/v2/", _version),
        *with_and_without_slash("/v2/models/", _models),
        *with_and_without_slash("/v2/models/{name}/", _model),
        *with_and_without_slash("/v2/models/{name}/predict/", _predict, ["POST"]),
        Route("/openapi.json", _openapi),
        Route("/swagger.json", _swagger),
        Route("/health/live", _live),
        Route("/health/ready", _ready),
    ]


def base_of(request: Request) -> str:
    """What stands before every path of the server: nothing, or `/x`."""
    return request.scope.get("root_path", "")


def versions(request: Request) -> dict[str, Any]:
    """What the root answers to a program."""
    base = base_of(request)
    links = [{"rel": "describedby", "type": "application/json", "href": f"{base}/swagger.json"}]
    if request.app.state.offered.docs:
        links.insert(0, {"rel": "help", "type": "text/html", "href": f"{base}/api"})
    return {"versions": [_version_of(base)], "links": links}


def metadata(model: ServedModel, base: str = "") -> dict[str, Any]:
    """A model as the DEEPaaS API lists it; what the module says of itself comes on top."""
    name = model.deployed.name
    told = dict(model.description.get("metadata") or {})
    if told and name != model.deployed.entry_point:  # served under a name of its own: the module's would lead nowhere
        told |= {"id": name, "name": name}
    if not told:
        missing = f"Could not load description from underlying model (loaded '{model.deployed.entry_point}')"
        told = {"id": "0", "description": missing}
    return {"id": name, "name": name, "links": [{"rel": "self", "href": f"{base}/v2/models/{name}"}], **told}


def response(answer: Answer, name: str) -> Response:
    """What a worker said, as HTTP."""
    return plain(outcome.said(answer.header, answer.body, name))


def plain(told: outcome.Outcome) -> Response:
    """An outcome as a response of the web framework."""
    return Response(told.body, told.status, told.headers, media_type=told.content_type)


def text(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An error as DEEPaaS words it: `404: Not Found`."""
    return plain(outcome.text(status, message, headers))


async def _version(request: Request) -> Response:
    return JSONResponse(_version_of(base_of(request)))


def _version_of(base: str) -> dict[str, Any]:
    link = {"rel": "self", "type": "application/json", "href": f"{base}/v2/"}
    return {"version": "stable", "id": "v2", "links": [link]}


async def _models(request: Request) -> Response:
    return JSONResponse({"models": [metadata(model, base_of(request)) for model in _services(request)]})


async def _model(request: Request) -> Response:
    return JSONResponse(metadata(_services(request).get(request.path_params["name"]), base_of(request)))


async def _predict(request: Request) -> Response:
    if job_api.is_job(request):
        return await job_api.predict_later(request)
    services, name = _services(request), request.path_params["name"]
    forwarded = services.get(name).forwarded
    async with received(request, services.uploads, services.limits, forwarded) as asked, until_gone(request):
        began = time.monotonic()
        # Asked for again: while the files came in another version may have taken over.
        answer = await services.get(name).predict(asked)
        seconds = time.monotonic() - began
    told = response(answer, name)
    told.headers["Server-Timing"] = f"predict;dur={1000 * seconds:.1f}"
    return told


async def _openapi(request: Request) -> Response:
    wanted = request.query_params.get("model")
    services = _services(request)
    models = [services.get(wanted)] if wanted else list(services)
    guarded = services.guard.described() if services.guard else {}
    return JSONResponse(openapi.document(models, str(request.base_url).rstrip("/")) | guarded)


async def _swagger(request: Request) -> Response:
    offered = request.app.state.offered
    told = swagger.document(
        _services(request), base_path=offered.base_path, predict=offered.predict, train=offered.train
    )
    return JSONResponse(told)


async def _live(_: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    """200 while every model can answer; 503 names those that are on their way, and those that do not start."""
    services = _services(request)
    starting = [model.deployed.name for model in services if model.state == "starting"]
    failed = {model.deployed.name: model.reason for model in services if model.state == "failed"}
    ready = [model.deployed.name for model in services if model.state == "ready"]
    good = not starting and not failed
    told: dict[str, Any] = {"ready": good, "models": ready, "starting": starting, "failed": failed}
    if services.trouble:
        told["trouble"] = services.trouble
    return JSONResponse(told, 200 if good else 503, None if good else {"Retry-After": "1"})


def _services(request: Request) -> Services:
    return request.app.state.services
