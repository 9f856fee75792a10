"""What one loaded module answers to requests.

A request is `{"query": {name: [text]}, "form": {name: [text]}, "json": OBJECT, "files": {name: [FILE]}, "headers":
{name: text}}`, every key optional, FILE = `{"path", "content_type", "name"}`: files go by path. One that has `tensors`
is one of `volvox.worker.tensors`; `{"libraries": true}` asks which modules the process has imported that any may.

An answer is a header and a body. The header is `{"content_type": TEXT}`, or `{"error": {"kind", "message", "messages",
"trace", "status"}}` with the kinds `refused` (the arguments), `missing` (no such function), `http` (an HTTP error that
the module raised), `interrupted` and `failed`. The body is bytes, or an iterator of bytes where the module streams.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import traceback
from typing import Any, Callable, Dict, Iterator, Tuple, Union

from volvox.worker import accepting, describing, libraries, loading, older_fields, tensors
from volvox.worker.__main__ import as_json, describe

Answer = Tuple[Dict[str, Any], Union[bytes, Iterator[bytes]]]

_JSON = {"content_type": "application/json"}
_CHUNK = 1 << 18
_ENCODER = json.JSONEncoder(default=as_json, allow_nan=False)


class Gathering:
    """Takes the raw values of a function's arguments out of requests."""

    def __init__(self, fields: dict[str, Any]) -> None:
        """What is asked of each field is asked once: wire name, places to look in, whether it takes several."""
        self._wanted = [
            (older_fields.wire_name(keyword, field), _places(_location(field)), describing.kind(field) == "array")
            for keyword, field in fields.items()
        ]

    def __call__(self, request: dict[str, Any]) -> dict[str, Any]:
        """Raw values by wire name, each from where its field allows: query, then form and files, then the JSON body.

        A list takes every repetition of its key; anything else takes the first. What no field asks for is ignored.
        """
        found: dict[str, Any] = {}
        for name, places, several in self._wanted:
            for place in places:
                values = _PLACES[place](request, name)
                if values:
                    found[name] = values if several else values[0]
                    break
                if place == "json" and isinstance(body := request.get("json"), dict) and name in body:
                    value = body[name]
                    found[name] = [value] if several and value is not None and not isinstance(value, list) else value
        return found


def _in_form(request: dict[str, Any], name: str) -> list[Any]:
    files = (request.get("files") or {}).get(name)
    texts = (request.get("form") or {}).get(name)
    if not files:
        return texts or []
    uploaded = [loading.UploadedFile(name, told["path"], told["content_type"], told["name"]) for told in files]
    return [*uploaded, *(texts or ())]


def _in_headers(request: dict[str, Any], name: str) -> list[Any]:
    wanted = name.lower()
    return [value for key, value in (request.get("headers") or {}).items() if key.lower() == wanted]


_PLACES: dict[str, Callable[[dict[str, Any], str], list[Any]]] = {
    "query": lambda request, name: (request.get("query") or {}).get(name) or [],
    "form": _in_form,
    "json": lambda request, name: [],  # noqa: ARG005 - its values are no lists of texts
    "headers": _in_headers,
}


def _places(location: str) -> tuple[str, ...]:
    fixed = {"querystring": "query", "files": "form", "header": "headers"}.get(location, location)
    return (fixed,) if fixed in _PLACES else ("query", "form", "json")


class Answering:
    """One loaded module."""

    def __init__(self, name: str, *, warm: bool = True) -> None:
        """Import module `name`, read its arguments and `warm` it; whatever it raises comes through."""
        self.name = name
        self.module = loading.load(name)
        self.description = describe(self.module)
        self.fields = accepting.prepared(loading.fields(self.module, "get_predict_args"))
        self.arguments = describing.Arguments(self.fields)
        self.gather = Gathering(self.fields)
        self.schema = _schema(getattr(self.module, "schema", None))
        self._offered = accepting.offered(self.fields)
        self._accept_name = older_fields.wire_name("accept", self.fields["accept"]) if self._offered else ""
        self._accept_is_header = _location(self.fields.get("accept")) in ("headers", "header")
        if warm and getattr(self.module, "warm", None) is not None:
            with contextlib.suppress(NotImplementedError):
                self.module.warm()
        self.tensors = tensors.of(self.module)
        if self.tensors is not None:
            self.description["tensors"] = self.tensors.declared

    @property
    def batches(self) -> bool:
        """Whether the module answers several requests at once, of one kind or the other."""
        return self.together({}) or self.together({"tensors": {}})

    def together(self, request: dict[str, Any]) -> bool:
        """Whether the module answers several requests of the kind of `request` at once."""
        if "tensors" in request:
            return self.tensors is not None and self.tensors.batches
        return getattr(self.module, "predict_batch", None) is not None

    def answer(self, request: dict[str, Any]) -> Answer:
        """Answer one request; whatever the module raises becomes an error."""
        if "libraries" in request:
            return _JSON, json.dumps(libraries.imported(self.name)).encode()
        if "tensors" in request:
            return self.answer_many([request])[0]
        try:
            return self._predict(self._keywords(request))
        except Exception as error:
            return self._error(error)

    def answer_many(self, requests: list[dict[str, Any]]) -> list[Answer]:
        """Answer several requests of one kind, computed together where the module can.

        One that is refused does not harm others.
        """
        if "tensors" in requests[0]:
            if self.tensors is None:
                return [_told("missing", "the module declares no tensors")] * len(requests)
            return [*self.tensors.answer_many(requests, self._error)]
        answers: list[Any] = [None] * len(requests)
        asked: list[tuple[int, dict[str, Any]]] = []
        for number, request in enumerate(requests):
            try:
                asked.append((number, self._keywords(request)))
            except Exception as error:
                answers[number] = self._error(error)
        results: list[Any] | None = None
        if len(asked) > 1:
            # A batch with one bad request in it is refused as a whole: then each is asked alone.
            with contextlib.suppress(Exception):
                results = list(self.module.predict_batch([keywords for _, keywords in asked]))
        if results is None or len(results) != len(asked):
            for number, keywords in asked:
                try:
                    answers[number] = self._predict(keywords)
                except Exception as error:
                    answers[number] = self._error(error)
            return answers
        for (number, keywords), result in zip(asked, results):
            try:
                answers[number] = self._result(result, keywords)
            except Exception as error:
                answers[number] = self._error(error)
        return answers

    def _keywords(self, request: dict[str, Any]) -> dict[str, Any]:
        raw = self.gather(request)
        if self._offered:
            self._negotiate(raw, (request.get("headers") or {}).get("accept"))
        return self.arguments.validated(raw)

    def _negotiate(self, raw: dict[str, Any], header: str | None) -> None:
        """The `accept` argument: what the client names comes first, then the Accept header, then the default."""
        name = self._accept_name
        if self._accept_is_header:
            if header is not None and (chosen := accepting.chosen(header, self._offered)):
                raw[name] = chosen
        elif name not in raw and header is not None and (chosen := accepting.chosen(header, self._offered)):
            raw[name] = chosen
        if raw.get(name) == accepting.ANY:
            raw[name] = self._offered[0]

    def _predict(self, keywords: dict[str, Any]) -> Answer:
        predict = getattr(self.module, "predict", None)
        if predict is None:
            return self._missing()
        try:
            result = predict(**keywords)
        except NotImplementedError:
            return self._missing()
        return self._result(result, keywords)

    def _result(self, result: Any, keywords: dict[str, Any]) -> Answer:
        accept = keywords.get("accept") if self._offered else None
        plain = accept in (None, "application/json", "*/*")
        if isinstance(result, (bytes, bytearray, memoryview)) or hasattr(result, "read") or inspect.isgenerator(result):
            return {"content_type": "application/octet-stream" if plain else str(accept)}, _bytes(result)
        if not plain and isinstance(result, str):
            return {"content_type": str(accept)}, result.encode()
        if self.schema is None:
            result = {"status": "OK", "predictions": result}
        elif wrong := _wrong(self.schema, result):
            raise ValueError(f"predict() returned what the module's own schema refuses: {wrong}")
        return _JSON, _ENCODER.encode(result).encode()

    def _missing(self) -> Answer:
        return _told("missing", f"Not implemented by underlying model (loaded '{self.name}')")

    def _error(self, error: Exception) -> Answer:
        if isinstance(error, describing.Refused):
            return _told("refused", str(error), messages=error.messages)
        told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        kinds = {parent.__name__ for parent in type(error).__mro__}  # neither library need be installed here
        if "ValidationError" in kinds:
            return _told("refused", told, messages=getattr(error, "messages", None) or [str(error)])
        status = getattr(error, "status", None)
        if "HTTPException" in kinds and isinstance(status, int):
            text = getattr(error, "text", None)  # aiohttp's are whole bodies, `400: Bad Request` if nothing was given
            reason = getattr(error, "reason", None) or str(error)
            return _told("http", str(text) if text else f"{status}: {reason}", status=status)
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        print(trace, file=sys.stderr, flush=True)
        return _told("failed", told, trace=trace)


def interrupted() -> Answer:
    """The answer to a request that was left unfinished, since nobody waits for it."""
    return _told("interrupted", "nobody waited for the answer")


def failure(error: BaseException) -> Answer:
    """The answer to a request whose stream broke off."""
    return _told("failed", f"{type(error).__name__}: {error}", trace=traceback.format_exc())


def _bytes(result: Any) -> bytes | Iterator[bytes]:
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    if inspect.isgenerator(result):
        return (part if isinstance(part, bytes) else str(part).encode() for part in result)
    first = result.read(_CHUNK)
    if len(first) < _CHUNK:
        result.close()
        return first.encode() if isinstance(first, str) else first
    return _read(result, first)


def _read(stream: Any, first: Any) -> Iterator[bytes]:
    with contextlib.closing(stream):
        while first:
            yield first.encode() if isinstance(first, str) else first
            first = stream.read(_CHUNK)


def _location(field: Any) -> str:
    """Where a field's value must come from; empty where it may come from anywhere."""
    metadata = getattr(field, "metadata", None) or {}
    inner = metadata.get("metadata")  # where marshmallow does not know `metadata={...}`
    return str(metadata.get("location") or (inner.get("location") if isinstance(inner, dict) else "") or "")


def _schema(given: Any) -> Any:
    """The module's `schema`, a marshmallow class or a dict of fields, ready to validate; None where it has none."""
    if isinstance(given, dict):
        return older_fields.schema_class(given)()
    if given is None:
        return None
    if hasattr(given, "validate"):
        return given() if inspect.isclass(given) else given
    raise TypeError(
        f"the module's schema is a {type(given).__name__}; give a dict of fields or a marshmallow Schema class"
    )


def _wrong(schema: Any, result: Any) -> Any:
    return schema.validate(result)


def _told(kind: str, message: str, **more: Any) -> Answer:
    return {"error": {"kind": kind, "message": message, **more}}, b""
