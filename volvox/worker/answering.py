"""Answer requests for one model module: `python -m volvox.worker.answering --module NAME --socket FD_OR_PATH`.

Both sides send frames over a local stream socket: two unsigned 32-bit lengths in network order, a JSON object of the
first length, raw bytes of the second.

* Once, from here: `{"ready": DESCRIPTION}` when the module is imported, described and warmed, or
  `{"failed": MESSAGE, "trace": TEXT}`, after which the process ends.
* A request: `{"query": {name: [text]}, "form": {name: [text]}, "json": OBJECT, "files": {name: [FILE]}, "headers":
  {name: text}}`, every key optional, FILE = `{"path", "content_type", "name"}`. Files go by path, never by socket.
* Its answer: `{"content_type": TEXT}` and the body, or `{"error": {"kind", "message", "messages", "trace", "status"}}`
  with the kinds `refused` (the arguments), `missing` (no such function), `http` (an HTTP error that the module raised)
  and `failed`.

One request is answered at a time; the environment's VOLVOX_WEIGHTS names the folder of the version's weights.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import signal
import socket
import struct
import sys
import traceback
from typing import Any

from volvox.worker import describing, loading
from volvox.worker.__main__ import as_json, describe, end_with_parent

HEAD = struct.Struct("!II")
_LOCATIONS = {"query": ("query",), "querystring": ("query",), "form": ("form",), "files": ("form",), "json": ("json",)}


def frame(header: dict[str, Any], body: bytes = b"") -> bytes:
    """One message as it goes over the socket."""
    text = json.dumps(header, default=str).encode()
    return HEAD.pack(len(text), len(body)) + text + body


def gather(fields: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Raw values by wire name, each from where its field allows: query, then form and files, then the JSON body.

    A list takes every repetition of its key; anything else takes the first. What no field asks for is ignored.
    """
    body = request.get("json")
    headers = {name.lower(): value for name, value in (request.get("headers") or {}).items()}
    files = {
        name: [loading.UploadedFile(name, told["path"], told["content_type"], told["name"]) for told in sent]
        for name, sent in (request.get("files") or {}).items()
    }
    found: dict[str, Any] = {}
    for keyword, field in fields.items():
        name = getattr(field, "data_key", None) or keyword
        location = (getattr(field, "metadata", None) or {}).get("location", "")
        if location in ("headers", "header"):
            if name.lower() in headers:
                found[name] = headers[name.lower()]
            continue
        for place in _LOCATIONS.get(location, ("query", "form", "json")):
            if place == "json":
                if isinstance(body, dict) and name in body:
                    found[name] = body[name]
                    break
                continue
            values: list[Any] = list((request.get(place) or {}).get(name, ()))
            if place == "form":
                values = files.get(name, []) + values
            if values:
                found[name] = values if describing.kind(field) == "array" else values[0]
                break
    return found


class Answering:
    """One loaded module and the requests that come for it."""

    def __init__(self, name: str) -> None:
        """Import module `name`, read its arguments and warm it; whatever it raises comes through."""
        self.name = name
        self.module = loading.load(name)
        self.description = describe(self.module)
        self.fields = loading.fields(self.module, "get_predict_args")
        self.schema = _schema(getattr(self.module, "schema", None))
        warm = getattr(self.module, "warm", None)
        if warm is not None:
            with contextlib.suppress(NotImplementedError):
                warm()

    def answer(self, request: dict[str, Any]) -> bytes:
        """The frame that answers `request`; whatever the module raises becomes an error in it."""
        try:
            return self._answer(request)
        except describing.Refused as error:
            return _error("refused", str(error), messages=error.messages)
        except Exception as error:
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            kinds = {parent.__name__ for parent in type(error).__mro__}  # neither library need be installed here
            if "ValidationError" in kinds:
                return _error("refused", told, messages=getattr(error, "messages", None) or [str(error)])
            status = getattr(error, "status", None)
            if "HTTPException" in kinds and isinstance(status, int):
                message = getattr(error, "text", None) or getattr(error, "reason", None) or str(error)
                return _error("http", str(message), status=status)
            trace = traceback.format_exc()
            print(trace, file=sys.stderr, flush=True)
            return _error("failed", told, trace=trace)

    def _answer(self, request: dict[str, Any]) -> bytes:
        predict = getattr(self.module, "predict", None)
        if predict is None:
            return self._missing()
        keywords = describing.validated(self.fields, gather(self.fields, request))
        try:
            result = predict(**keywords)
        except NotImplementedError:
            return self._missing()
        if isinstance(result, bytes | bytearray | memoryview) or hasattr(result, "read"):
            body = bytes(result) if isinstance(result, bytes | bytearray | memoryview) else result.read()
            return frame({"content_type": str(keywords.get("accept") or "application/octet-stream")}, body)
        if self.schema is None:
            result = {"status": "OK", "predictions": result}
        elif wrong := self.schema.validate(result):
            raise ValueError(f"predict() returned what the module's own schema refuses: {wrong}")
        text = json.dumps(result, default=as_json, allow_nan=False)
        return frame({"content_type": "application/json"}, text.encode())

    def _missing(self) -> bytes:
        return _error("missing", f"Not implemented by underlying model (loaded '{self.name}')")


def _schema(given: Any) -> Any:
    """The module's `schema`, a marshmallow class or a dict of fields, ready to validate; None where it has none."""
    if isinstance(given, dict):
        from marshmallow import Schema

        return Schema.from_dict(given)()
    if given is None:
        return None
    if hasattr(given, "validate"):
        return given() if inspect.isclass(given) else given
    raise TypeError(
        f"the module's schema is a {type(given).__name__}; give a dict of fields or a marshmallow Schema class"
    )


def _error(kind: str, message: str, **more: Any) -> bytes:
    return frame({"error": {"kind": kind, "message": message, **more}})


def _receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next request, or None when the other side has closed."""
    head = _exactly(connection, HEAD.size)
    if head is None:
        return None
    header, body = HEAD.unpack(head)
    text = _exactly(connection, header + body)
    return None if text is None else json.loads(text[:header])


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _connect(address: str) -> socket.socket:
    if address.isdigit():
        return socket.socket(fileno=int(address))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(address)
    return connection


def main(arguments: list[str] | None = None) -> int:
    """Load the module, say so, answer until the other side closes; 1 if the module cannot be loaded or warmed."""
    parser = argparse.ArgumentParser(prog="volvox.worker.answering")
    parser.add_argument("--module", required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--parent", type=int, default=0)
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which drains
    if asked.parent:
        end_with_parent(asked.parent)
    with _connect(asked.socket) as connection:
        try:
            answering = Answering(asked.module)
        except BaseException as error:
            message = str(error) if isinstance(error, loading.Missing) else f"{type(error).__name__}: {error}"
            connection.sendall(frame({"failed": message, "trace": traceback.format_exc()}))
            return 1
        connection.sendall(frame({"ready": answering.description, "pid": os.getpid()}))
        while (request := _receive(connection)) is not None:
            connection.sendall(answering.answer(request))
    return 0


if __name__ == "__main__":
    sys.exit(main())
