"""Ask the server of a model image over HTTP, as DEEPaaS and Volvox answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from volvox.errors import InvalidInput, ModuleFailed
from volvox.functions.definition import Function
from volvox.runtimes import answers
from volvox.runtimes.interface import Call, Kind
from volvox.serving import smoke
from volvox.serving.smoke import file_argument

DEADLINE_SECONDS = 30 * 86400  # of the server itself: how long a call may take is known here
OUT_OF_MEMORY = "for lack of memory"  # what a server says of a process that was killed
_SMOKE_SECONDS = 120.0
_LOOK_SECONDS = 0.05

Failed: TypeAlias = "tuple[Kind, str]"


@dataclass(frozen=True)
class Asked:
    """A model's server, and what the function adds to each call.

    Attributes:
        url: Where it answers.
        model: The model's name there.
        arguments: Those of its predictions, as `described` gives them.
        values: What the function gives for them.
        accept: Media type of the answer; empty: the model's first.
    """

    url: str
    model: str
    arguments: list[dict[str, Any]]
    values: Mapping[str, Any] = field(default_factory=dict)
    accept: str = ""


def server_arguments(function: Function) -> tuple[str, ...]:
    """What the program of a serving image is given, so that nothing is bounded there that is bounded here."""
    return (
        "--deadline", str(DEADLINE_SECONDS), "--queue", "4096", "--client-max-size", "0", "--debug-endpoint",
        "--batch", str(function.scaling.batch),
    )  # fmt: skip


def out_of_memory(limit_mb: int | None) -> str:
    """What is told of a server that was ended for it."""
    return f"the kernel ended it for lack of memory{f' (it may use {limit_mb} MB)' if limit_mb else ''}"


def client() -> httpx.AsyncClient:
    """One for servers of this machine: no proxy, no limit of its own."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    return httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(DEADLINE_SECONDS, connect=10.0), limits=limits)


async def ready(http: httpx.AsyncClient, url: str) -> None:
    """Wait until its health check says that it is ready; for ever, so whoever asks must look at its container too."""
    while True:
        try:
            if (await http.get(f"{url}/health/ready", timeout=5.0)).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        await asyncio.sleep(_LOOK_SECONDS)


async def described(http: httpx.AsyncClient, url: str, model: str) -> list[dict[str, Any]]:
    """The arguments of its predictions, in the words of `volvox.worker.describing` as far as the server tells them.

    Raises:
        ModuleFailed: If it does not tell them.
    """
    try:
        paths = (await http.get(f"{url}/swagger.json", timeout=30.0)).json()["paths"]
        path = next(told for one, told in paths.items() if one.rstrip("/") == f"/v2/models/{model}/predict")
        return [_argument(one) for one in path["post"].get("parameters", []) if one["in"] != "path"]
    except (httpx.HTTPError, ValueError, KeyError, StopIteration) as error:
        raise ModuleFailed(f"the server of model {model!r} does not describe it ({type(error).__name__})") from error


async def printed(http: httpx.AsyncClient, url: str) -> str:
    """What its module has printed, the end of it; empty where the server does not show that."""
    with contextlib.suppress(httpx.HTTPError):
        answer = await http.get(f"{url}/v2/debug/", timeout=10.0)
        return answer.text if answer.status_code == 200 else ""
    return ""


async def prove(http: httpx.AsyncClient, asked: Asked, files: list[Path], labels: tuple[str, ...]) -> None:
    """Ask it `files`.

    Raises:
        ModuleFailed: If it refuses one, fails, or answers what cannot be right.
    """
    if file_argument(asked.arguments) is None:
        return
    for path in files:
        call = Call("", path, key=path.name)
        answer = await _post(http, asked, call, _SMOKE_SECONDS)
        if answer.status_code != 200:
            raise ModuleFailed(f"asked {path.name}, the model answered {answer.status_code}: {answer.text[:500]}")
        if "json" in answer.headers.get("content-type", "") and (wrong := smoke.fault(answer.json(), labels)):
            raise ModuleFailed(f"asked {path.name}, the model's answer cannot be right: {wrong}")


async def ask(http: httpx.AsyncClient, asked: Asked, call: Call, seconds: float) -> Failed:
    """Put a call to it and write its answer into the call's folder; what went wrong, if anything."""
    try:
        answer = await _post(http, asked, call, seconds)
    except InvalidInput as error:
        return "refused", str(error)
    except httpx.TimeoutException:
        return "timeout", f"it took longer than {call.timeout_seconds:g} s"
    except httpx.HTTPError as error:
        return "gone", f"its container did not answer ({type(error).__name__})"
    if answer.status_code == 200:
        return answers.keep(call, answer.headers.get("content-type", "application/octet-stream"), answer.content)
    return _refused(answer.status_code, answer)


def _refused(status: int, answer: httpx.Response) -> Failed:
    text = answer.text[:2000]
    said = text.removeprefix(f"{status}: ")
    if status == 422:
        with contextlib.suppress(ValueError):
            said = answers.said(answer.json())
        return "refused", f"the model refuses it: {said}"
    if status == 504:
        return "timeout", said
    if status in (429, 503):
        return "gone", said
    return ("refused", f"the model refuses it: {said}") if status < 500 else ("failed", f"the model failed: {said}")


async def _post(http: httpx.AsyncClient, asked: Asked, call: Call, seconds: float) -> httpx.Response:
    told = answers.request(call, asked.arguments, asked.values, asked.accept)
    query = {name: [_text(value) for value in given] for name, given in told["query"].items()}
    form = {name: [_text(value) for value in given] for name, given in told["form"].items()}
    files = {}
    for name, (file,) in told.get("files", {}).items():
        content = await asyncio.to_thread(Path(file["path"]).read_bytes)
        files[name] = (file["name"], content, file["content_type"])
    return await http.post(
        f"{asked.url}/v2/models/{asked.model}/predict/",
        params=query, data=form, files=files or None, headers=told["headers"],
        timeout=httpx.Timeout(seconds, connect=10.0),
    )  # fmt: skip


def _argument(told: Mapping[str, Any]) -> dict[str, Any]:
    where = {"formData": "form", "header": "headers"}.get(told["in"], told["in"])
    return {
        "name": told["name"],
        "type": told.get("type", "string"),
        "required": bool(told.get("required")),
        "location": "query" if where == "body" else where,
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
