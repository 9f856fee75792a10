"""Golden requests and answers as data, and how one is sent and read."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?")
_DURATION = re.compile(r"\d+:\d\d:\d\d(\.\d{6})?")
_UUID = re.compile(r"[0-9a-f]{32}")


class Containing(str):
    """A text that equals every one it is part of."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str(self) in str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


@dataclass(frozen=True)
class Answer:
    """What matters of a response. `status` 0: none came before `Golden.seconds` had passed."""

    status: int
    type: str = ""
    body: Any = None
    location: str | None = None
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Golden:
    """One request that DEEPaaS 2.6.0 and our server are both sent.

    Attributes:
        name: Its name in this suite.
        path: Below the server; `{uuid}` is the training that `after` started.
        method: Of HTTP.
        query: A query string's pairs.
        headers: Beside httpx's own.
        form: Text fields, as urlencoded form, or as multipart with `files`.
        files: (field, (file name, content, content type)).
        json: Sent as JSON.
        content: Sent as it is.
        module: The golden module that is served.
        flags: Options of both servers.
        after: Sent before, answers not looked at, but for a training's uuid.
        until: The request is repeated until this is not in the answer's text (a running training).
        pick: What of the answer is compared.
        seconds: How long to wait.
        alone: Needs servers of its own, since it breaks the reference.
        ours: The right answer, where the reference's is a defect.
        because: Why, in a sentence.
    """

    name: str
    path: str
    method: str = "GET"
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    form: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    json: Any = None
    content: bytes | None = None
    module: str = "golden"
    flags: tuple[str, ...] = ()
    after: tuple[Golden, ...] = ()
    until: str = ""
    pick: Callable[[Any], Any] | None = None
    seconds: float = 20.0
    alone: bool = False
    ours: Answer | None = None
    because: str = ""


def send(golden: Golden, url: str) -> Answer:
    """Send `golden`, and what comes before it, to the server at `url`; the answer in comparable form."""
    uuid = ""
    for before in golden.after:
        response = _until(before, url, uuid)
        told = response.json() if response is not None and "json" in response.headers.get("content-type", "") else None
        uuid = told.get("uuid", uuid) if isinstance(told, dict) else uuid
    response = _until(golden, url, uuid)
    return Answer(0) if response is None else _read(response, golden)


def _until(golden: Golden, url: str, uuid: str) -> httpx.Response | None:
    end = time.monotonic() + golden.seconds
    response = _sent(golden, url, uuid)
    while response is not None and golden.until and golden.until in response.text and time.monotonic() < end:
        time.sleep(0.1)
        response = _sent(golden, url, uuid)
    return response


def _sent(golden: Golden, url: str, uuid: str) -> httpx.Response | None:
    body: dict[str, Any] = {}
    if golden.files:  # a field without file name is text: httpx repeats keys only this way
        body["files"] = [(name, (None, value.encode())) for name, value in golden.form] + list(golden.files)
    elif golden.form:
        encoded = str(httpx.QueryParams(golden.form))
        body = {"content": encoded, "headers": {"content-type": "application/x-www-form-urlencoded"}}
    if golden.json is not None:
        body["json"] = golden.json
    if golden.content is not None:
        body["content"] = golden.content
    headers = {**body.pop("headers", {}), **golden.headers}
    address = url + golden.path.replace("{uuid}", uuid)
    if golden.query:
        address += f"?{httpx.QueryParams(golden.query)}"
    try:
        return httpx.request(golden.method, address, headers=headers, timeout=golden.seconds, **body)
    except httpx.TimeoutException:
        return None


def _read(response: httpx.Response, golden: Golden) -> Answer:
    """UTF-8 is what JSON and text are anyway: naming it makes no difference."""
    kind = response.headers.get("content-type", "").replace(" ", "").lower().removesuffix(";charset=utf-8")
    if kind == "application/json" and response.content:
        body = _plain(json.loads(response.text))
    else:
        body = response.text if kind.startswith("text/") or not response.content else response.content
    if golden.pick is not None and response.status_code < 400:
        body = golden.pick(body)
    allow = tuple(sorted(filter(None, (name.strip() for name in response.headers.get("allow", "").split(",")))))
    return Answer(response.status_code, kind, body, response.headers.get("location"), allow)


def _plain(value: Any) -> Any:
    """JSON with what differs from run to run replaced by its form; NaN, which equals nothing, by its name."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value != value:
        return "NaN"
    if isinstance(value, str):
        for pattern, form in ((_DATE, "<date>"), (_DURATION, "<duration>"), (_UUID, "<uuid>")):
            if pattern.fullmatch(value):
                return form
    return value
