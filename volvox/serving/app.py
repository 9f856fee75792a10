"""The web server of one machine: model API, pages, catalogue, deploying."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from volvox.errors import NotFound, VolvoxError
from volvox.serving import access, admin, api, debugging, job_api, metrics, oip, outcome, pages, trainings
from volvox.serving.guard import Guard, Guarded, GuardSettings
from volvox.serving.jobs import Jobs
from volvox.serving.limits import Limits
from volvox.serving.offered import Gate, Offered
from volvox.serving.refusals import Malformed
from volvox.serving.routing import single_slashes
from volvox.serving.services import Services
from volvox.settings import Home

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

log = logging.getLogger(__name__)


def create_app(
    home: Path,
    limits: Limits | None = None,
    services: Services | None = None,
    offered: Offered | None = None,
    guard: GuardSettings | None = None,
    *,
    functions: bool = False,
) -> Starlette:
    """The application; its models start when it does, and end with it.

    Args:
        home: The folder that holds all state (VOLVOX_HOME): `serving/`, `catalogue/`, `stack/`.
        limits: How much it takes on.
        services: The models to serve (default: those that `home` remembers).
        offered: Which endpoints there are, and below which path.
        guard: Whom it answers (default: everybody).
        functions: Whether it also answers for the home's functions, their jobs and notifications of buckets.

    Raises:
        InvalidInput: If the guard's settings cannot be used.
    """
    limits, offered = limits or Limits(), offered or Offered()
    services = services or Services(home / "serving", limits)
    jobs = Jobs(services)

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        services.open()
        try:
            await jobs.open()
            yield
        finally:
            await jobs.close()
            await services.close()

    parts = (api, debugging, job_api, trainings, admin, metrics, oip, pages)
    app = _App(
        routes=[*(route for part in parts for route in part.routes()), *(_functions(home) if functions else ())],
        lifespan=life,
        exception_handlers={VolvoxError: _failed, HTTPException: _refused, Exception: _broken},
    )
    app.router.redirect_slashes = False  # it answers 307, DEEPaaS 308
    app.state.home, app.state.services, app.state.jobs, app.state.offered = home, services, jobs, offered
    if guard:
        services.guard = Guard(guard)
        app.add_middleware(Guarded, guard=services.guard)
    app.add_middleware(Gate, offered=offered)
    app.add_middleware(_Headers)
    return app


def _functions(home: Path) -> list[BaseRoute]:
    from volvox.dispatch import function_api  # a serving image has no use for it

    return [*function_api.routes(), *function_api.hooks(Home(home))]


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, VolvoxError)
    if isinstance(error, NotFound) and pages.wanted(request):
        return pages.not_found(request, str(error))
    told = outcome.failed(error)
    if pages.wanted(request) and not isinstance(error, Malformed):
        return pages.failed(request, str(error), error.status, told.headers)
    return api.plain(told)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and (redirect := single_slashes(request)):
        return redirect
    if error.status_code == 404 and pages.wanted(request):
        return pages.not_found(request, f"there is no page {request.url.path}")
    return api.text(error.status_code, error.detail, dict(error.headers or {}))


async def _broken(request: Request, error: Exception) -> Response:
    number = access.current.get()
    log.error("%s %s failed (request %s)", request.method, request.url.path, number, exc_info=error)
    return api.text(500, f"{type(error).__name__} in the server; its log says more")


class _App(Starlette):
    """Answers what goes wrong inside of `Requests`, so that this too has an id and is counted."""

    def build_middleware_stack(self) -> ASGIApp:
        return access.Requests(super().build_middleware_stack(), self.state.services)


class _Headers:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)
