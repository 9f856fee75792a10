"""A step that was done is not done again: its record is found by its key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError

from volvox import progress
from volvox.records import Record
from volvox.store import Store

R = TypeVar("R", bound=Record)

_LOCK_SECONDS = 0.1


async def once(store: Store, stage: str, key: str, record: type[R], make: Callable[[], Awaitable[R]]) -> R:
    """The record of `stage` under `key`: the one that is kept, else the one that `make` returns, which is then kept.

    Two callers with one key do the work once: the second waits and finds the record. A record whose objects are gone
    from the store counts as missing.

    Args:
        store: Where records and objects are kept.
        stage: The stage's name.
        key: Its identity, see `volvox.identity.stage_key`.
        record: The type of its result.
        make: Does the work.
    """
    async with locked(store, stage, key):
        if (kept := find(store, stage, key, record)) is not None:
            progress.reused()
            return kept
        made = await make()
        store.put_record(stage, key, made.model_dump(mode="json"))
        return made


def find(store: Store, stage: str, key: str, record: type[R]) -> R | None:
    """The kept record of `stage` under `key` if it is whole: it parses, and the store holds its objects."""
    value = store.record(stage, key)
    if value is None:
        return None
    try:
        kept = record.model_validate(value)
    except ValidationError:  # written by another release: the stage is run again
        return None
    return kept if all(map(store.has, kept.objects())) else None


@contextlib.asynccontextmanager
async def locked(store: Store, stage: str, key: str) -> AsyncIterator[None]:
    """Hold the key's lock; asked for again and again rather than waited for in a thread, so that a cancel works."""
    waiting = False
    while (lock := store.try_lock(stage, key)) is None:
        if not waiting:
            progress.note("waiting for another run that does the same")
            waiting = True
        await asyncio.sleep(_LOCK_SECONDS)
    with lock:
        yield
