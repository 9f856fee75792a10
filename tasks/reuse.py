"""A step that was done is not done again: its record is found by its key."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from volvox import progress
from volvox.errors import Unavailable
from volvox.published import find
from volvox.records import Record
from volvox.store import Lock, Store

R = TypeVar("R", bound=Record)

__all__ = ["find", "locked", "once"]

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

    Raises:
        Unavailable: If the store does not answer, or the key's lock was lost and another may be at the same work.
    """
    async with locked(store, stage, key):
        if (kept := await asyncio.to_thread(find, store, stage, key, record)) is not None:
            progress.reused()
            return kept
        made = await make()
        await asyncio.to_thread(store.put_record, stage, key, made.model_dump(mode="json"))
        return made


@contextlib.asynccontextmanager
async def locked(store: Store, stage: str, key: str) -> AsyncIterator[None]:
    """Hold the key's lock; asked for again and again rather than waited for in a thread, so that a cancel works.

    What runs inside is cancelled when the lock is lost.

    Raises:
        Unavailable: If it was lost.
    """
    waiting = False
    while (lock := await _tried(store, stage, key)) is None:
        if not waiting:
            progress.note("waiting for another run that does the same")
            waiting = True
        await asyncio.sleep(_LOCK_SECONDS)
    loop, limit, over = asyncio.get_running_loop(), asyncio.timeout(None), False

    def cancel() -> None:
        if not over:
            limit.reschedule(loop.time())

    try:
        async with limit:
            lock.when_lost(lambda: loop.call_soon_threadsafe(cancel))
            yield
            over = True
    except TimeoutError as error:
        if limit.expired() and lock.lost:
            raise Unavailable(lock.lost) from error
        raise
    finally:
        over = True
        await asyncio.to_thread(lock.close)


async def _tried(store: Store, stage: str, key: str) -> Lock | None:
    """Try the lock in a thread, since a store may be far away; a cancel meanwhile does not leave it held."""
    trying = asyncio.get_running_loop().run_in_executor(None, store.try_lock, stage, key)
    try:
        return await asyncio.shield(trying)
    except asyncio.CancelledError:
        trying.add_done_callback(_let_go)
        raise


def _let_go(trying: asyncio.Future[Lock | None]) -> None:
    if not trying.cancelled() and not trying.exception() and (lock := trying.result()):
        threading.Thread(target=lock.close, name="let-go").start()
