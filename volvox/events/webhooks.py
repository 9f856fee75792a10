"""Notifications by HTTP: a sub-application that answers 200 when what it was told is kept, and not before."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from volvox.errors import Unavailable, VolvoxError
from volvox.events import senders as known
from volvox.events.parsing import Notification, parse
from volvox.events.senders import Sender
from volvox.events.sources import Record

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20
_READ_SECONDS = 20.0
_AGAIN_SECONDS = 5
_CONFIRM_SECONDS = 10.0
_SIGNATURE = "x-hub-signature-256"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="volvox", Basic realm="volvox"'}


def create(
    record: Record,
    senders: Callable[[], Iterable[Sender]],
    *,
    most_bytes: int = MOST_BYTES,
    confirm: Callable[[str], Any] | None = None,
) -> Starlette:
    """The application, to be mounted at `/`: `POST /events/` and `POST /events/{name}`.

    `name` is the function that the files are for, or the sender's token, for senders that cannot send a header. Else
    the sender shows its token as a bearer token (MinIO's `auth_token`), as the password of basic authentication
    (`https://NAME:TOKEN@...` in Ceph and SNS), or signs the body (`X-Hub-Signature-256: sha256=...`).

    Args:
        record: Keeps arrivals; a notification is answered 200 when it has returned, 503 if it raises Unavailable.
        senders: Who may send, asked for each request (`SenderFile`, say).
        most_bytes: The largest body.
        confirm: Opens the address by which a subscription of SNS begins; none: by an HTTP request.
    """
    hooks = _Hooks(record, senders, most_bytes, confirm or _opened)
    return Starlette(
        routes=[
            Route("/events", hooks.answer, methods=["POST"]),
            Route("/events/", hooks.answer, methods=["POST"]),
            Route("/events/{name}", hooks.answer, methods=["POST"]),
        ]
    )


class _Hooks:
    def __init__(
        self,
        record: Record,
        senders: Callable[[], Iterable[Sender]],
        most_bytes: int,
        confirm: Callable[[str], Any],
    ) -> None:
        self._record, self._senders, self._most_bytes, self._confirm = record, senders, most_bytes, confirm

    async def answer(self, request: Request) -> Response:
        name = request.path_params.get("name", "")
        if name.startswith(known.TOKEN):  # so that it stands in no access log
            request.scope["path"] = request.scope["path"].replace(name, "...")
        try:
            return await self._answered(request, name)
        except Unavailable as error:
            log.warning("a notification was not kept, and will be sent again: %s", error)
            return _told(503, str(error), {"Retry-After": str(_AGAIN_SECONDS)})
        except VolvoxError as error:
            return _told(error.status, str(error))

    async def _answered(self, request: Request, name: str) -> Response:
        senders = tuple(self._senders())
        sender, signed = _shown(request, name, senders), request.headers.get(_SIGNATURE, "")
        if sender is None and not signed:
            return _told(401, "send the sender's token, or a signature of the body", _CHALLENGE)
        body = await self._body(request)
        if body is None:
            return _told(413, f"the notification has more than {self._most_bytes:,} bytes")
        if sender is None:
            sender = known.signer(senders, body, signed)
        if sender is None:
            return _told(401, "the signature is no known sender's", _CHALLENGE)
        function = "" if name.startswith(known.TOKEN) else name
        if function and sender.function not in ("", function):
            return _told(403, f"the sender {sender.name!r} may not speak to the function {function!r}")
        return await self._kept(parse(body, replace(sender, function=function or sender.function)), sender)

    async def _kept(self, notification: Notification, sender: Sender) -> Response:
        if notification.confirm:
            await asyncio.to_thread(self._confirm, notification.confirm)
            log.info("the subscription of %s to a topic has begun", sender.name)
        if notification.arrivals:
            await self._record(notification.arrivals)
        return JSONResponse({"recorded": len(notification.arrivals)})

    async def _body(self, request: Request) -> bytes | None:
        """The body, or None if it is too long.

        Raises:
            Unavailable: If it does not come.
        """
        pieces, size = [], 0
        try:
            async with asyncio.timeout(_READ_SECONDS):
                async for piece in request.stream():
                    size += len(piece)
                    if size > self._most_bytes:
                        return None
                    pieces.append(piece)
        except (TimeoutError, ClientDisconnect):
            raise Unavailable("the notification did not come to its end") from None
        return b"".join(pieces)


def _shown(request: Request, name: str, senders: tuple[Sender, ...]) -> Sender | None:
    """Whose token the request shows, in its path or its header."""
    if name.startswith(known.TOKEN):
        return known.holder(senders, name)
    given = request.headers.getlist("authorization")
    if len(given) != 1:
        return None
    scheme, _, token = given[0].strip().partition(" ")
    token = token.strip()
    if scheme.lower() == "basic":
        try:
            user, _, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return known.holder(senders, password, user)
    if scheme.lower() == "bearer" and token:
        return known.holder(senders, token)
    return None if token else known.holder(senders, scheme)  # MinIO sends one as it was configured


def _opened(address: str) -> None:
    import httpx

    try:
        httpx.get(address, timeout=_CONFIRM_SECONDS, follow_redirects=False).raise_for_status()
    except httpx.HTTPError as error:
        raise Unavailable(f"the subscription could not be confirmed ({type(error).__name__}); send it again") from None


def _told(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
