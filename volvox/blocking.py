"""Between coroutines and code that blocks: its context managers in a coroutine, a coroutine's result in such code."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.asynccontextmanager
async def entered(blocking: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave `blocking` in a thread, so that the loop goes on meanwhile; it is left after a cancel, too."""
    entering = asyncio.ensure_future(asyncio.to_thread(blocking.__enter__))
    try:
        value = await asyncio.shield(entering)
    except asyncio.CancelledError:  # the thread goes on; what it enters must be left
        with contextlib.suppress(Exception):
            await entering
            await asyncio.to_thread(blocking.__exit__, *sys.exc_info())
        raise
    try:
        yield value
    except BaseException:
        if not await asyncio.to_thread(blocking.__exit__, *sys.exc_info()):
            raise
    else:
        await asyncio.to_thread(blocking.__exit__, None, None, None)


def result_of(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, also where an event loop runs already, as in a notebook."""
    if asyncio._get_running_loop() is None:
        return asyncio.run(work)
    future: Future[T] = Future()

    def do() -> None:
        try:
            future.set_result(asyncio.run(work))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=do, daemon=True, name="volvox.run").start()  # a daemon: Ctrl-C must not wait for it
    return future.result()
