"""What a worker said, or why it did not, as HTTP: one mapping for every way a request comes in."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from volvox.errors import VolvoxError
from volvox.serving import access
from volvox.serving.asking import Busy
from volvox.serving.refusals import Malformed, TooLarge

log = logging.getLogger(__name__)

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"


@dataclass(frozen=True)
class Outcome:
    """A response, before any framework."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def said(header: dict[str, Any], body: bytes, name: str, number: str = "") -> Outcome:
    """The answer of model `name` to the request with the id `number` (default: the one that is being answered)."""
    error = header.get("error")
    if error is None:
        return Outcome(200, header["content_type"], body)
    kind, message = error["kind"], error["message"]
    if kind == "refused":
        return Outcome(422, _JSON, json.dumps(error["messages"], default=str).encode())
    if kind == "missing":
        return text(501, message)
    if kind == "http" and 400 <= error["status"] < 600:
        return Outcome(error["status"], _TEXT, message.encode())
    if kind == "interrupted":
        return text(503, message, {"Retry-After": "1"})
    log.error("model %r failed: %s (request %s)", name, message, number or access.current.get())
    return text(500, message)


def failed(error: VolvoxError) -> Outcome:
    """Why there is no answer."""
    if isinstance(error, Malformed):
        return Outcome(error.status, _JSON, json.dumps(error.messages).encode())
    if isinstance(error, TooLarge):
        return Outcome(error.status, _TEXT, str(error).encode())
    headers = {"Retry-After": "1"} if error.status == 503 else {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after_seconds)
    return text(error.status, str(error), headers)


def text(status: int, message: str, headers: dict[str, str] | None = None) -> Outcome:
    """An error as DEEPaaS words it: `404: Not Found`."""
    return Outcome(status, _TEXT, f"{status}: {message}".encode(), headers or {})
