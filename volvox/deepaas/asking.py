"""Ask one module from a command line: chosen as DEEPaaS chooses, held by a worker, told in plain values."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput, ModuleFailed, NotFound, VolvoxError
from volvox.modules import specification
from volvox.modules.interpreter import inspect
from volvox.serving.asking import Answer, AwaitedAsk
from volvox.serving.worker import Worker
from volvox.worker.finding import Place

_START_SECONDS = 600.0


def chosen(model_name: str) -> Place:
    """The installed module `model_name`; without one that of DEEPAAS_V2_MODEL, or the only one.

    Raises:
        InvalidInput: If several are installed and none is named, or none is.
        NotFound: If it is not installed.
    """
    interpreter = inspect("")
    name = model_name or os.environ.get("DEEPAAS_V2_MODEL", "")
    if not name:
        return specification.only(interpreter)
    with tempfile.TemporaryDirectory() as folder:
        return specification.resolve(name, interpreter, Path(folder))


@contextlib.asynccontextmanager
async def holding(module: Place, *, warm: bool) -> AsyncIterator[Worker]:
    """A worker that holds the module; what it printed is shown when it has ended."""
    with tempfile.TemporaryDirectory(prefix="volvox-ask-") as folder:
        log = Path(folder, "log")
        weights = os.environ.get("VOLVOX_WEIGHTS")
        environment = {"VOLVOX_WEIGHTS": weights} if weights else {}
        worker = await Worker.start(
            str(module), environment=environment, log=log, seconds=_START_SECONDS, warm=warm, python=""
        )
        try:
            yield worker
        finally:
            await worker.end()
            sys.stderr.write(log.read_text(errors="replace"))


async def predicted(worker: Worker, request: dict[str, Any]) -> Answer:
    """What the module answers to `request`, one of `volvox.worker.answering`.

    Raises:
        InvalidInput: If it refuses the arguments.
        NotFound: If it does not predict.
        ModuleFailed: If it fails, or its process dies.
    """
    ask = AwaitedAsk(request)
    worker.send([ask])
    ended = asyncio.ensure_future(worker.exited())
    await asyncio.wait({ask.future, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not ask.future.done():
        raise ModuleFailed(await worker.how_it_ended())
    answer = ask.future.result()
    error = answer.header.get("error")
    if error is None:
        return answer
    told = f"module {worker.module!r}: {error['message']}"
    if error["kind"] == "refused":
        messages = error.get("messages")
        raise InvalidInput(f"module {worker.module!r} refuses its arguments: {messages or error['message']}")
    if error["kind"] == "missing":
        raise NotFound(told)
    if error["kind"] == "http":
        raise InvalidInput(told) if error["status"] < 500 else VolvoxError(told)
    raise ModuleFailed(told, trace=error.get("trace") or "")


def request_of(described: list[dict[str, Any]], values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The request that carries `values` (wire name -> value; of a file its path), each where its argument is read.

    Files are copied into `folder`, because modules may move or remove what they are given.

    Raises:
        NotFound: If a file is not there.
    """
    request: dict[str, Any] = {"query": {}, "form": {}, "json": {}, "files": {}, "headers": {}}
    for told in described:
        name = told["name"]
        if name not in values:
            continue
        value, place = values[name], told.get("location", "")
        if told["type"] == "file":
            request["files"][name] = [upload(value, folder)]
        elif place in ("headers", "header"):
            request["headers"][name.lower()] = str(value)
        elif place in ("query", "querystring", "form"):
            texts = [str(part) for part in value] if isinstance(value, list) else [str(value)]
            request["form" if place == "form" else "query"][name] = texts
        else:
            request["json"][name] = value
    return request


def upload(path: str, folder: Path) -> dict[str, Any]:
    """A copy of the file at `path`, as a request has it.

    Raises:
        NotFound: If it is not there.
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise NotFound(f"there is no file {path} to give to the module")
    copy = Path(tempfile.mkdtemp(dir=folder), source.name)
    shutil.copyfile(source, copy)
    return {"path": str(copy), "content_type": mimetypes.guess_type(source.name)[0], "name": path}


def is_json(answer: Answer) -> bool:
    """Whether the answer is JSON rather than a file."""
    return answer.header["content_type"].partition(";")[0].strip() == "application/json"


def returned(description: dict[str, Any], value: Any) -> Any:
    """What the module itself returned: over HTTP it goes in a wrapping where the module has no schema."""
    if not description["schema"] and isinstance(value, dict) and set(value) == {"status", "predictions"}:
        return value["predictions"]
    return value
