"""Routes as the DEEPaaS API has them: exact methods, and addresses that are nearly right lead to the right ones."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from volvox.serving import outcome

Endpoint = Callable[[Request], Awaitable[Response]]


class Exact(Route):
    """A route that answers the methods it names and no other; Starlette's adds HEAD to GET."""

    def __init__(self, path: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",)) -> None:
        super().__init__(path, endpoint, methods=list(methods))
        self.methods = set(methods)


def with_and_without_slash(path: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",)) -> list[Route]:
    """`path`, which ends with a slash, and its form without one, which is answered 308."""
    return [Exact(path, endpoint, methods), Exact(path.rstrip("/"), _add_slash, ("GET", "POST", "PUT", "DELETE"))]


def moved(status: int, location: str) -> Response:
    """A redirect as aiohttp words it."""
    told = outcome.text(status, {302: "Found", 308: "Permanent Redirect"}[status], {"Location": location})
    return Response(told.body, told.status, told.headers, media_type=told.content_type)


def single_slashes(request: Request) -> Response | None:
    """A redirect to the same address with no slash doubled; None if none is."""
    path = request.url.path
    if "//" not in path:
        return None
    return moved(308, _with_query(request, re.sub("/{2,}", "/", path)))


async def _add_slash(request: Request) -> Response:
    if name := request.path_params.get("name"):
        request.app.state.services.get(name)  # of a model that is not there nothing is anywhere
    return moved(308, _with_query(request, request.url.path + "/"))


def _with_query(request: Request, path: str) -> str:
    return f"{path}?{request.url.query}" if request.url.query else path
