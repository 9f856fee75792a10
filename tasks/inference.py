"""One object in, one JSON out."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.server import ModelServer
from tasks.retries import is_transient
from tasks.reuse import once
from volvox import progress
from volvox.bulk.steps import Steps, answer
from volvox.errors import InvalidInput, NotFound
from volvox.identity import canonical_json, file_digest, stage_key
from volvox.records import Dataset, Job, Service
from volvox.settings import Home
from volvox.store import Store


@task(
    name="answer_object", retries=2, retry_delay_seconds=[1, 5], retry_condition_fn=is_transient, cache_policy=NO_CACHE
)
@progress.working
async def answer_object(
    service: Service, source: str, dataset: Dataset | None, *, store: Store, server: ModelServer, home: Home
) -> Job:
    """Have the served model answer one object, keep the answer in the store; or find that this was done.

    Args:
        service: The served model.
        source: The object: a path, `file://`, `https://`, or `http://` of this machine; empty for the first held-out
            image of `dataset`.
        dataset: Needed if no source is given.
        store: Where the answer is kept.
        server: What serves the model.
        home: In whose cache an object from the web lies while it is asked.

    Raises:
        NotFound: If there is no such object.
        InvalidInput: If the model refuses it.
        ModuleFailed: If the model fails.
        Unavailable: If the server does not answer (tried again twice).
    """
    source = source or await asyncio.to_thread(_first_held_out, dataset, store)
    return await answer(source, _Served(service, server, store, home))


@dataclass
class _Served(Steps[str, Any, Job]):
    """How a source is answered by a served model: its answer is an object of the store, found by the source's bytes."""

    service: Service
    server: ModelServer
    store: Store
    home: Home
    seconds: float = field(default=0.0, init=False)

    @contextlib.asynccontextmanager
    async def fetched(self, one: str) -> AsyncIterator[Path]:
        async with _local(one, self.home) as file:
            yield file

    async def asked(self, one: str, file: Path) -> Any:
        began = time.monotonic()
        told = await self.server.predict(self.service.name, file, field=_file_argument(self.service), name=_name(one))
        self.seconds = time.monotonic() - began
        return told

    async def kept(self, one: str, file: Path, ask: Callable[[], Awaitable[Any]]) -> Job:
        digest = await asyncio.to_thread(file_digest, file)

        async def make() -> Job:
            told = await ask()
            return Job(
                service=self.service.name, version=self.service.version, input=_name(one), input_digest=digest,
                answer_object=self.store.put_bytes(canonical_json(told)), seconds=self.seconds,
            )  # fmt: skip

        key = stage_key("inference", inputs=[self.service.digest, digest])
        return await once(self.store, "inference", key, Job, make)


def _file_argument(service: Service) -> str:
    from volvox.serving.smoke import file_argument

    field = file_argument(service.module_description.get("predict", []))
    if field is None:
        raise InvalidInput(f"model {service.name!r} takes no file; ask it at {service.predict_url}")
    return field


def _first_held_out(dataset: Dataset | None, store: Store) -> str:
    from volvox.evaluation.predictions import held_out

    if dataset is None:
        raise InvalidInput("no object was given to answer; give a path or a URL")
    folder = store.tree(dataset.held_out_tree)
    files = sorted(held_out(folder))
    if not files:
        raise InvalidInput(f"dataset {dataset.name!r} has no held-out image; give a path or a URL")
    return str(folder / "images" / files[0])


def _name(source: str) -> str:
    """The object's own name."""
    parts = urlsplit(source)
    path = unquote(parts.path) if parts.scheme in ("http", "https", "file") else source
    return PurePosixPath(path).name or "object"


@contextlib.asynccontextmanager
async def _local(source: str, home: Home) -> AsyncIterator[Path]:
    """The object as a file of this machine."""
    parts = urlsplit(source)
    if parts.scheme in ("http", "https"):
        from volvox.cancelling import in_thread
        from volvox.data.download import download
        from volvox.data.http import WebObject

        remote = WebObject(source)
        with tempfile.TemporaryDirectory(dir=home.cache, prefix="object-") as folder:

            def fetch(cancelled: threading.Event) -> Path:
                return download(remote, Path(folder), cancelled)

            yield await in_thread(fetch)
        return
    if parts.scheme == "file":
        source = unquote(parts.path)
    elif "://" in source:
        raise InvalidInput(f"{source} is of a kind that is not fetched here; give a path, file:// or https://")
    file = Path(source).expanduser()
    if not file.is_file():
        raise NotFound(f"there is no file {file} to answer")
    yield file
