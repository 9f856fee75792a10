"""Which of the server's endpoints are there, and below which path."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from volvox.errors import InvalidInput
from volvox.serving import outcome

_PREDICT = re.compile(r"/v2/models/[^/]+/predict/")
_TRAIN = re.compile(r"/v2/models/[^/]+/train/.*")
_DOCS = {"/api", "/api/", "/docs", "/docs/", "/ui", "/ui/"}
_HEALTH = "/health/"  # asked by what runs the server, which need not know what the server is called outside


@dataclass(frozen=True)
class Offered:
    """What a server is told to offer, in the words of DEEPaaS.

    Attributes:
        predict: Whether predictions are answered; else 402.
        train: Whether trainings are; else 402.
        docs: Whether there are pages that document the API.
        debug: Whether what the modules print is shown at `/v2/debug/`.
        base_path: What stands before every path, `/x`, or nothing.
    """

    predict: bool = True
    train: bool = True
    docs: bool = True
    debug: bool = False
    base_path: str = ""


def checked_base_path(text: str) -> str:
    """`text` as a base path: with a slash before it and none behind; empty for `/`.

    Raises:
        InvalidInput: If it does not begin with a slash, or holds what a path cannot.
    """
    path = text.rstrip("/")
    if text and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise InvalidInput(
            f"--base-path {text!r} is no path; it begins with / and holds letters, digits and ._~-: /x/y"
        )
    return path


class Gate:
    """Answers for what is not offered; all else goes on, with the base path as the application's root."""

    def __init__(self, app: ASGIApp, offered: Offered) -> None:
        self.app, self.offered = app, offered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        base, path = self.offered.base_path, scope["path"]
        if base and not path.startswith(_HEALTH):
            below = path.removeprefix(base)
            if not path.startswith(base) or (below and below[0] != "/") or below == "/":
                await _refuse(404, "Not Found", send)
                return
            scope = {**scope, "root_path": base, "path": path if below else f"{base}/"}
            path = below or "/"
        if path in _DOCS and not self.offered.docs:
            await _refuse(404, "Not Found", send)
        elif (not self.offered.predict and scope["method"] == "POST" and _PREDICT.fullmatch(path)) or (
            not self.offered.train and _TRAIN.fullmatch(path)
        ):
            await _refuse(402, "Payment Required", send)
        else:
            await self.app(scope, receive, send)


async def _refuse(status: int, reason: str, send: Send) -> None:
    told = outcome.text(status, reason)
    headers = [(b"content-type", told.content_type.encode()), (b"content-length", str(len(told.body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": told.body})
