"""The Open Inference Protocol v2 under `/oip/v2`: what KServe's and Triton's clients speak.

Its paths begin with `/v2`, which the DEEPaaS API has already: a client is given `HOST:PORT/oip` as the address.
Errors are `{"error": MESSAGE}`.

Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and Triton's extensions
"binary tensor data" and "model repository" (of the latter the index).
"""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import volvox
from volvox.errors import NotFound, Unavailable, VolvoxError
from volvox.serving import access, outcome, tensors
from volvox.serving.reading import until_gone
from volvox.serving.refusals import TooLarge
from volvox.serving.served import ServedModel
from volvox.serving.services import Services

ROOT = "/oip/v2"
_HEADER_LENGTH = "Inference-Header-Content-Length"
_STATES = {"ready": "READY", "starting": "LOADING", "failed": "UNAVAILABLE", "ended": "UNAVAILABLE"}
_ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

log = logging.getLogger(__name__)
_Endpoint = Callable[[Request], Awaitable[Response]]


def routes() -> list[Route]:
    """Everything under `/oip/v2`."""
    model = f"{ROOT}/models/{{name}}"
    found: list[tuple[str, str, _Endpoint]] = [
        ("GET", ROOT, _server),
        ("GET", f"{ROOT}/health/live", _live),
        ("GET", f"{ROOT}/health/ready", _ready),
        ("POST", f"{ROOT}/repository/index", _index),
    ]
    for path in (model, f"{model}/versions/{{version}}"):
        found += [("GET", path, _model), ("GET", f"{path}/ready", _model_ready), ("POST", f"{path}/infer", _infer)]
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [
        *(Route(path, _answered(endpoint), methods=[method]) for method, path, endpoint in found),
        *(Route(path, functools.partial(_wrong_method, method), methods=every) for method, path, _ in found),
        Route(f"{ROOT}/{{rest:path}}", _answered(_nowhere), methods=every),
    ]


def paths(models: list[ServedModel]) -> dict[str, Any]:
    """What the OpenAPI document says of this protocol."""
    told: dict[str, Any] = {
        ROOT: _operation("get", "The server, for clients of the Open Inference Protocol"),
        f"{ROOT}/health/live": _operation("get", "Whether the server runs"),
        f"{ROOT}/health/ready": _operation("get", "Whether every model can answer", "503"),
        f"{ROOT}/repository/index": _operation("post", "The served models and their states"),
    }
    for model in models:
        path = f"{ROOT}/models/{model.deployed.name}"
        told[path] = _operation("get", f"The tensors of {model.deployed.name}")
        told[f"{path}/ready"] = _operation("get", f"Whether {model.deployed.name} can answer", "503")
        if "tensors" in model.description:
            infer = _operation(
                "post", f"Ask {model.deployed.name} with tensors", "400", "413", "422", "429", "500", "503", "504"
            )
            body = {"schema": {"type": "object", "required": ["inputs"]}}
            infer["post"]["requestBody"] = {"required": True, "content": {"application/json": body}}
            told[f"{path}/infer"] = infer
    return told


def _operation(method: str, summary: str, *errors: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object", "properties": {"error": {"type": "string"}}}}}
    responses = {"200": {"description": "OK", "content": {"application/json": {}}}}
    responses |= {status: {"description": "An error, in words.", "content": content} for status in errors}
    return {method: {"summary": summary, "tags": ["open inference protocol"], "responses": responses}}


# -- what is there ---------------------------------------------------------------------------------------------------


async def _server(_: Request) -> Response:
    return JSONResponse({"name": "volvox", "version": volvox.__version__, "extensions": ["binary_tensor_data"]})


async def _live(_: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    ready = all(model.state == "ready" for model in _services(request))
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _index(request: Request) -> Response:
    asked = {}
    if body := await _body(request, _services(request).limits.text_bytes):
        asked = tensors.json_object(body)
    return JSONResponse(
        [
            {
                "name": model.deployed.name,
                "version": model.deployed.version,
                "state": _STATES[model.state],
                "reason": model.reason,
            }
            for model in _services(request)
            if model.state == "ready" or not asked.get("ready")
        ]
    )


async def _model(request: Request) -> Response:
    model = _asked(request)
    version, declared = model.deployed.version, model.description.get("tensors", {"inputs": [], "outputs": []})
    return JSONResponse(
        {
            "name": model.deployed.name,
            **({"versions": [version]} if version else {}),
            "platform": "volvox_module",
            **declared,
        }
    )


async def _model_ready(request: Request) -> Response:
    model = _asked(request)
    ready = model.state == "ready"
    return JSONResponse({"name": model.deployed.name, "ready": ready}, 200 if ready else 503)


# -- inference -------------------------------------------------------------------------------------------------------


async def _infer(request: Request) -> Response:
    model, limits = _asked(request), _services(request).limits
    declared = model.description.get("tensors")
    if declared is None:
        name = model.deployed.name
        if not model.description:
            raise Unavailable(f"model {name!r} cannot answer: {model.reason or 'its worker is still starting'}")
        raise tensors.BadRequest(f"model {name!r} declares no tensors; ask POST /v2/models/{name}/predict/")
    body = await _body(request, limits.tensor_bytes)
    wanted = tensors.read(body, request.headers.get(_HEADER_LENGTH), declared, limits.text_bytes)
    async with until_gone(request):
        answer = await _asked(request).predict(wanted.request, wanted.payload)
    if "error" in answer.header:
        return _told(outcome.said(answer.header, answer.body, model.deployed.name))
    version = model.deployed.version
    told = {"model_name": model.deployed.name, **({"model_version": version} if version else {})}
    content, length = tensors.write(told, answer.header["tensors"], answer.body, wanted)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, headers={_HEADER_LENGTH: str(length)}, media_type="application/octet-stream")


async def _body(request: Request, limit: int) -> bytes:
    """The request's body, unpacked.

    Raises:
        TooLarge: If it is longer than `limit`, packed or unpacked.
        BadRequest: If it is packed in another way than gzip or deflate, or ends too early.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise TooLarge(limit)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", *_ENCODINGS):
        raise tensors.BadRequest(f"Content-Encoding is {encoding!r}; gzip and deflate are taken")
    unpack = zlib.decompressobj(_ENCODINGS[encoding]) if encoding in _ENCODINGS else None
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            taken = unpack.decompress(piece, limit + 1) if unpack else piece
            pieces.append(taken)
            size += len(taken)
            if size > limit:
                raise TooLarge(limit)
    except ClientDisconnect as error:
        raise tensors.BadRequest("the request ended before its body did") from error
    except zlib.error as error:
        raise tensors.BadRequest(f"the body is not {encoding} ({error})") from error
    if unpack is not None and size and not unpack.eof:
        raise tensors.BadRequest(f"the {encoding} body ends before its end")
    return b"".join(pieces)


# -- errors ----------------------------------------------------------------------------------------------------------


def _answered(endpoint: _Endpoint) -> _Endpoint:
    """The endpoint, with its errors as this protocol words them."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except VolvoxError as error:
            return _error(error.status, str(error), outcome.failed(error).headers)
        except Exception as error:
            number = access.current.get()
            log.exception("%s %s failed (request %s)", request.method, request.url.path, number)
            return _error(500, f"{type(error).__name__} in the server; its log says more (request {number})")

    return answer


def _told(said: outcome.Outcome) -> Response:
    """An error of the worker; the body is `500: MESSAGE`, or the module's own messages."""
    message = said.body.decode(errors="replace").removeprefix(f"{said.status}: ")
    return _error(said.status, message, said.headers)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


async def _nowhere(request: Request) -> Response:
    raise NotFound(f"there is no {request.url.path}; GET {ROOT} answers, and /docs lists what else does")


async def _wrong_method(method: str, request: Request) -> Response:
    return _error(405, f"{request.url.path} is asked with {method}", {"Allow": method})


def _asked(request: Request) -> ServedModel:
    """The model that the path names.

    Raises:
        NotFound: If it, or this version of it, is not served.
    """
    model = _services(request).get(request.path_params["name"])
    version = request.path_params.get("version", model.deployed.version)
    if version != model.deployed.version:
        there = f"version {model.deployed.version} is" if model.deployed.version else "it has no versions, and is"
        raise NotFound(f"model {model.deployed.name!r} is not served in version {version!r}; {there} served")
    return model


def _services(request: Request) -> Services:
    return request.app.state.services
