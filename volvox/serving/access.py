"""Each request's id, its line in the access log, and its place in the metrics."""

from __future__ import annotations

import contextvars
import itertools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from volvox.serving.services import Services

MEASURED = ("/predict/", "/infer")  # paths that end so ask a model; their requests are counted
log = logging.getLogger("volvox.access")
current: contextvars.ContextVar[str] = contextvars.ContextVar("volvox_request_id", default="")
_numbers = itertools.count(1)
_process = os.urandom(4).hex()


def request_id(given: bytes | None) -> str:
    """The id that a client gave its request, if it is a decent one, or a new one."""
    if (
        given
        and len(given) <= 64
        and given.isascii()
        and all(letter in b"-_.:" or chr(letter).isalnum() for letter in given)
    ):
        return given.decode()
    return f"{_process}-{next(_numbers):x}"


def turn_on(stream: TextIO | None = None) -> None:
    """Write a line for each request that is answered, to `stream` (default: stdout)."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)


def told(client: str, method: str, path: str, *, status: int, seconds: float, number: str) -> None:
    """A request was answered: its line, where they are written.

    Args:
        client: Its address.
        method: Of HTTP.
        path: Without the query, which may hold what is nobody's business.
        status: Of the answer.
        seconds: From the first header to the last byte.
        number: The request's id.
    """
    if log.isEnabledFor(logging.INFO):
        log.info('%s "%s %s" %d %.1fms %s', client or "-", method, _plain(path), status, 1000 * seconds, number)


class Requests:
    """Gives each request an id, tells it to the client as `x-request-id`, and counts those that ask a model.

    Predictions that take the short way (`volvox.serving.quick`) have all this there.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self.app, self.services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number = request_id(next((value for key, value in scope["headers"] if key == b"x-request-id"), None))
        token = current.set(number)
        status, size, began = 500, 0, time.perf_counter()

        async def receive_counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", number.encode())]
            await send(message)

        try:
            await self.app(scope, receive_counted, send_with_id)
        finally:
            current.reset(token)
            seconds = time.perf_counter() - began
            name = (scope.get("path_params") or {}).get("name")
            if name and scope["path"].endswith(MEASURED):
                self.services.answered(name, status, seconds)
                self.services.metrics.received(name, size)
            client = scope.get("client")
            address = client[0] if client else ""
            told(address, scope["method"], scope["path"], status=status, seconds=seconds, number=number)


def _plain(path: str) -> str:
    """A path without what would break the line, or a terminal."""
    return path if path.isprintable() else ascii(path)[1:-1]
