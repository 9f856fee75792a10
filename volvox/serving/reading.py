"""Read a request's arguments: query, form, JSON body, and files streamed to disk."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from volvox.errors import InvalidInput, Unavailable
from volvox.serving.limits import Limits

_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


class Malformed(InvalidInput):
    """The body is not what its content type says.

    Attributes:
        messages: `{part: [message]}`, as the DEEPaaS API words them.
    """

    status = 400

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.messages = {part: [message]}


class TooLarge(InvalidInput):
    """The body is larger than the server takes."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"Maximum request body size {limit} exceeded.")


@contextlib.asynccontextmanager
async def received(request: Request, uploads: Path, limits: Limits) -> AsyncIterator[dict[str, Any]]:
    """The request's arguments, in the form that `volvox.worker.answering` takes, and `folder`.

    Files lie in `folder`, which is this request's own below `uploads`, until the block ends, however it ends.

    Raises:
        TooLarge: If the body, or a part of it that is held in memory, exceeds its limit.
        Malformed: If the body cannot be parsed.
        Unavailable: If the disk is full.
    """
    folder = Path(tempfile.mkdtemp(dir=uploads))
    try:
        asked: dict[str, Any] = {
            "folder": folder,
            "query": _lists(request.query_params.multi_items()),
            "headers": {"accept": request.headers["accept"]} if "accept" in request.headers else {},
        }
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        if kind == b"multipart/form-data":
            form = _Form(folder, options.get(b"boundary", b""), limits)
            await form.read(_limited(request, limits.upload_bytes))
            asked |= {"form": form.fields, "files": form.files}
        elif kind == b"application/x-www-form-urlencoded":
            text = await _text(request, limits)
            asked["form"] = parse_qs(text, keep_blank_values=True, max_num_fields=limits.fields)
        elif kind == b"application/json" or kind.endswith(b"+json"):
            asked["json"] = _json(await _text(request, limits))
        yield asked
    except ClientDisconnect as error:
        raise Malformed("body", "The request ended before its body did.") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable("the server's disk is full: it cannot take the upload") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Form:
    """A multipart form as it comes in: files go to disk, fields to memory."""

    def __init__(self, folder: Path, boundary: bytes, limits: Limits) -> None:
        if not boundary:
            raise Malformed("form", "The multipart body has no boundary.")
        self.fields: dict[str, list[str]] = {}
        self.files: dict[str, list[dict[str, str]]] = {}
        self._folder, self._limits = folder, limits
        self._parts = 0
        self._ended = False
        self._header = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._value = bytearray()
        self._name = ""
        self._target: IO[bytes] | None = None
        self._text = bytearray()
        self._text_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_goes_on,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                self._parser.write(chunk)
            self._parser.finalize()
        except FormParserError as error:
            raise Malformed("form", f"The multipart body cannot be read: {error}") from error
        finally:
            if self._target is not None:
                self._target.close()
        if not self._ended:
            raise Malformed("form", "The multipart body ends before its last boundary.")

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > self._limits.fields:
            raise Malformed("form", f"The form has more than {self._limits.fields} parts.")
        self._headers, self._text = {}, bytearray()

    def _header_ends(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise Malformed("form", "A part of the form has no name.")
        self._name = options[b"name"].decode(errors="replace")
        self._target = None
        if b"filename" not in options:
            return
        name = options[b"filename"].decode(errors="replace")
        suffix = Path(name.replace("\0", "")).suffix
        # The sender's name is told to the module and never used as a path; its suffix helps libraries that go by it.
        path = self._folder / f"{self._parts}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        self._target = path.open("wb")
        content_type = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1")
        self._file = {"path": str(path), "content_type": content_type, "name": name}

    def _part_goes_on(self, data: bytes, start: int, end: int) -> None:
        if self._target is not None:
            self._target.write(data[start:end])
            return
        self._text_bytes += end - start
        if self._text_bytes > self._limits.text_bytes:
            raise TooLarge(self._limits.text_bytes)
        self._text += data[start:end]

    def _part_ends(self) -> None:
        if self._target is None:
            self.fields.setdefault(self._name, []).append(self._text.decode(errors="replace"))
            return
        size = self._target.tell()
        self._target.close()
        if size or self._file["name"]:  # a browser sends an empty part without a name where no file was chosen
            self.files.setdefault(self._name, []).append(self._file)

    def _end(self) -> None:
        self._ended = True


async def _limited(request: Request, limit: int) -> AsyncIterator[bytes]:
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(limit)
    received_bytes = 0
    async for chunk in request.stream():
        received_bytes += len(chunk)
        if received_bytes > limit:
            raise TooLarge(limit)
        yield chunk


async def _text(request: Request, limits: Limits) -> str:
    body = bytearray()
    async for chunk in _limited(request, min(limits.text_bytes, limits.upload_bytes)):
        body += chunk
    return body.decode(errors="replace")


def _json(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed("json", "Invalid JSON body.") from error


def _lists(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return lists
