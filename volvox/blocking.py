"""Context managers that block, entered and left by coroutines."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import TypeVar

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
