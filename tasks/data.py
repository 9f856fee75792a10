"""Labelled data, wherever it lies, as a checked and split dataset in the store."""

from __future__ import annotations

import threading
from dataclasses import asdict

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.reuse import once
from volvox import progress
from volvox.cancelling import in_thread
from volvox.data.options import Options
from volvox.data.prepare import FORMAT, prepare
from volvox.data.sources import Source, find_source
from volvox.identity import stage_key
from volvox.records import Dataset
from volvox.settings import Home
from volvox.store import Store


@task(name="prepare_data", cache_policy=NO_CACHE)
@progress.working
async def prepare_data(
    source: str, *, store: Store, name: str = "", sha256: str = "", options: Options | None = None
) -> Dataset:
    """Fetch, check and split labelled images, unless the same were prepared before.

    A source that did not change is known without reading it: by names, sizes and times of files here, by etags of
    what lies on a server.

    Args:
        source: Folder or archive: a path, `file://`, `https://` or `s3://`.
        store: Where the dataset is kept.
        name: What people call it; default: the name that the source suggests.
        sha256: What an archive must have.
        options: How the labels are read and the images split.

    Raises:
        InvalidInput: If the source or the options cannot be used.
        NotFound: If nothing is there.
        Unavailable: If a server did not answer.
    """
    options = options or Options()
    found = await in_thread(lambda _: find_source(source, Home.current(), sha256))
    fingerprint = await in_thread(found.fingerprint)
    key = stage_key("data", code=FORMAT, arguments={"source": fingerprint, "options": asdict(options)})

    async def make() -> Dataset:
        return await in_thread(lambda cancelled: _prepared(found, options, store, cancelled))

    made = await once(store, "data", key, Dataset, make)
    return made.model_copy(update={"name": name or found.name, "source": found.shown})


def _prepared(source: Source, options: Options, store: Store, cancelled: threading.Event) -> Dataset:
    with source.opened(cancelled) as folder:
        return prepare(folder, options, store, name=source.name, source=source.shown, cancelled=cancelled)
