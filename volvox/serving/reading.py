"""Read a request's arguments: query, form, JSON body, and files streamed to disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from volvox.errors import Unavailable, VolvoxError
from volvox.serving.limits import Limits
from volvox.serving.multipart import Form
from volvox.serving.refusals import Malformed, TooLarge

ACCEPT = frozenset({b"accept"})


class _Parser(Protocol):
    def feed(self, piece: bytes) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


class Body:
    """A request's body as it comes in, whatever its kind.

    Attributes:
        paths: Files that were made of it; `remove` removes them.
        size: How many bytes came.
    """

    def __init__(self, content_type: bytes, uploads: Path, limits: Limits) -> None:
        """A body of `content_type`, its header's value; files go into the folder `uploads`.

        Raises:
            Malformed: If it is a form without a boundary.
        """
        kind, options = _kind(content_type)
        self.size, self._limits = 0, limits
        self._form = self._text = None
        self._parser: _Parser
        if kind == b"multipart/form-data":
            self._form = self._parser = Form(uploads, options.get(b"boundary", b""), limits)
        else:
            as_json = kind == b"application/json" or kind.endswith(b"+json")
            kept = as_json or kind == b"application/x-www-form-urlencoded"
            self._text = self._parser = _Text(as_json, kept, limits)
        self.paths = self._form.paths if self._form else []

    def feed(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            TooLarge: If the body, or a part of it that is held in memory, exceeds its limit.
            Malformed: If it cannot be parsed.
            Unavailable: If the disk is full.
        """
        self.size += len(piece)
        if 0 < self._limits.upload_bytes < self.size:
            raise TooLarge(self._limits.upload_bytes)
        try:
            self._parser.feed(piece)
        except OSError as error:
            raise _disk(error) from error

    def finish(self) -> dict[str, Any]:
        """The arguments in it, in the form that `volvox.worker.answering` takes: `form`, `files`, `json`.

        Raises:
            Malformed: If it cannot be parsed, or ends too early.
        """
        self._parser.finish()
        if self._form:
            return {"form": self._form.fields, "files": self._form.files}
        return self._text.asked if self._text else {}

    def remove(self) -> None:
        """Remove its files."""
        self._parser.close()
        for path in self.paths:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(path)  # noqa: PTH108 - it is called for every upload


class _Text:
    """A body that is held in memory: JSON, an encoded form, or one that nobody asks for."""

    def __init__(self, as_json: bool, kept: bool, limits: Limits) -> None:
        self.asked: dict[str, Any] = {}
        self._json, self._kept, self._limits = as_json, kept, limits
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> None:
        if not self._kept:
            return
        self._size += len(piece)
        if self._size > self._limits.text_bytes:
            raise TooLarge(self._limits.text_bytes)
        self._pieces.append(piece)

    def finish(self) -> None:
        text = b"".join(self._pieces)
        if not self._kept or not text:
            return
        if self._json:
            self.asked = {"json": _json(text)}
            return
        try:
            form = parse_qs(text.decode(errors="replace"), keep_blank_values=True, max_num_fields=self._limits.fields)
        except ValueError as error:
            raise Malformed("form", f"The form has more than {self._limits.fields} fields.") from error
        self.asked = {"form": form}

    def close(self) -> None:
        self._pieces.clear()


def query(text: str, limits: Limits) -> dict[str, list[str]]:
    """The values of a query string.

    Raises:
        Malformed: If there are too many.
    """
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=limits.fields) if text else {}
    except ValueError as error:
        raise Malformed("query", f"The query has more than {limits.fields} values.") from error


def announced(length: bytes, limits: Limits) -> None:
    """Refuse a body whose Content-Length alone says that it is too large.

    Raises:
        TooLarge: If it is.
    """
    if length.isdigit() and 0 < limits.upload_bytes < int(length):
        raise TooLarge(limits.upload_bytes)


@contextlib.asynccontextmanager
async def received(
    request: Request, uploads: Path, limits: Limits, forwarded: frozenset[bytes] = ACCEPT
) -> AsyncIterator[dict[str, Any]]:
    """The request's arguments, in the form that `volvox.worker.answering` takes, with the headers named `forwarded`.

    Files lie in the folder `uploads` until the block ends, however it ends.

    Raises:
        TooLarge: If the body, or a part of it that is held in memory, exceeds its limit.
        Malformed: If the body cannot be parsed.
        Unavailable: If the disk is full.
    """
    announced(request.headers.get("content-length", "").encode(), limits)
    body = Body(request.headers.get("content-type", "").encode("latin-1"), uploads, limits)
    try:
        async for piece in request.stream():
            if piece:
                body.feed(piece)
        asked = body.finish()
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in request.headers.raw if key in forwarded
        }
        yield {"query": query(request.url.query, limits), "headers": headers, **asked}
    except ClientDisconnect as error:
        raise Malformed("body", "The request ended before its body did.") from error
    finally:
        body.remove()


@contextlib.asynccontextmanager
async def until_gone(request: Request) -> AsyncIterator[None]:
    """Cancel the block when the client has left."""
    task = asyncio.current_task()
    left = False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        if task is not None:
            task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not left:
            raise
        raise ClientLeft from None
    finally:
        watching.cancel()


class ClientLeft(VolvoxError):
    """Nobody reads the answer any more."""

    status = 499

    def __init__(self) -> None:
        super().__init__("the client left before it was answered")


def _disk(error: OSError) -> VolvoxError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("the server's disk is full: it cannot take the upload")
    return VolvoxError(f"the server cannot keep the upload: {error.strerror or error}")


def _kind(content_type: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The media type and its options; plain ones, which are nearly all, without a full parse."""
    kind, semicolon, rest = content_type.partition(b";")
    kind = kind.strip().lower()
    if not semicolon:
        return kind, {}
    name, _, value = rest.strip().partition(b"=")
    if name.lower() == b"boundary" and value and not value.startswith(b'"') and b";" not in value:
        return kind, {b"boundary": value}
    return kind, parse_options_header(content_type)[1]


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("json", "Invalid JSON body.") from error
