"""Deploying, over HTTP: what `tasks/serving.py` and an operator's scripts call.

Answers only the bearer of the token in `<home>/stack/token`, and only on this machine.
"""

from __future__ import annotations

import hmac
import ipaddress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.serving.deployment import Deployment
from volvox.serving.served import ServedModel
from volvox.serving.services import Services


def routes() -> list[Route]:
    """Everything under `/admin/`."""
    return [
        Route("/admin/models", _list),
        Route("/admin/models/{name}", _deploy, methods=["PUT"]),
        Route("/admin/models/{name}", _remove, methods=["DELETE"]),
    ]


def read_token(home: Path) -> str:
    """The token that the stack made for this home.

    Raises:
        Unavailable: If there is none.
        InvalidInput: If others than its owner can read it.
    """
    path = home / "stack" / "token"
    try:
        mode, token = path.stat().st_mode, path.read_text().strip()
    except OSError as error:
        raise Unavailable(f"there is no token at {path}; `volvox up` makes one") from error
    if mode & 0o077:
        raise InvalidInput(f"others can read the token at {path}; `chmod 600 {path}` or remove it and run `volvox up`")
    if not token:
        raise Unavailable(f"the token at {path} is empty; remove the file and run `volvox up`")
    return token


def _refusal(request: Request) -> Response | None:
    host = request.client.host if request.client else ""
    if not _loopback(host):
        return JSONResponse({"error": "models are deployed from the server's own machine only"}, 403)
    try:
        token = read_token(request.app.state.home)
    except VolvoxError as error:
        return JSONResponse({"error": str(error)}, 503)
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        return JSONResponse(
            {"error": "give the token of VOLVOX_HOME/stack/token as `Authorization: Bearer TOKEN`"},
            401,
            {"WWW-Authenticate": "Bearer"},
        )
    return None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _list(request: Request) -> Response:
    if refusal := _refusal(request):
        return refusal
    return JSONResponse({"models": [_told(model) for model in _services(request)]})


async def _deploy(request: Request) -> Response:
    if refusal := _refusal(request):
        return refusal
    try:
        body = await request.json()
        asked = Deployment.model_validate({**body, "name": request.path_params["name"]})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, told['loc']))}: {told['msg']}" for told in error.errors())
        return JSONResponse({"error": f"the deployment cannot be read: {wrong}"}, 422)
    except (ValueError, TypeError):
        return JSONResponse({"error": "the body is not a JSON object"}, 400)
    try:
        model, changed = await _services(request).deploy(asked)
    except ModuleFailed as error:
        return JSONResponse({"error": str(error), "trace": error.trace}, 422)
    except (InvalidInput, Unavailable) as error:
        return JSONResponse({"error": str(error)}, error.status)
    except OSError as error:
        return JSONResponse({"error": f"the server cannot keep model {asked.name!r}: {error.strerror or error}"}, 507)
    return JSONResponse({**_told(model), "changed": changed}, 201 if changed else 200)


async def _remove(request: Request) -> Response:
    if refusal := _refusal(request):
        return refusal
    try:
        await _services(request).remove(request.path_params["name"])
    except NotFound as error:
        return JSONResponse({"error": str(error)}, error.status)
    return JSONResponse({"changed": True})


def _told(model: ServedModel) -> dict[str, Any]:
    return {
        **{key: value for key, value in model.deployed.as_json().items() if key != "labels"},
        "state": model.state,
        "reason": model.reason,
        "description": model.description,
    }


def _services(request: Request) -> Services:
    return request.app.state.services
