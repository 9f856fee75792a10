"""Work in a thread that a cancel really ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Cancelled(Exception):
    """The work was cancelled; whoever asked for it no longer listens."""


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Do `work` in a thread; a cancel sets the event that it gets, and waits until the work has ended.

    `asyncio.to_thread` alone would leave the thread running behind the caller's back.
    """
    cancelled = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(work, cancelled))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.wait([working])
        if not working.cancelled():
            working.exception()  # heard: nobody is left to tell
        raise
