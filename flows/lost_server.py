"""Let a flow of this process work on when Prefect's server ends, and not wait for that server in vain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from volvox import progress
from volvox.errors import Ended, Unavailable
from volvox.settings import Home
from volvox.stack import state

T = TypeVar("T")

_LOOK_SECONDS = 0.5
_LOST_SECONDS = 15.0  # somebody may be starting it again
_CANCEL_SECONDS = 10.0  # a stage ends its children within this


async def unless_prefect_ends(flow: Coroutine[Any, Any, T], home: Home) -> T:
    """What `flow` returns.

    Stages work without the server, so they are let finish. Before the first and after the last one Prefect's client
    tries for minutes to reach it: that is cut short.

    Raises:
        Ended: If this machine's Prefect has ended and is not started again.
        Unavailable: If another one does not answer.
    """
    logging.raiseExceptions = False  # else a log that cannot be sent is told in the middle of the screen
    address = os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
    running, at_work, lost_at = asyncio.ensure_future(flow), _AtWork(), 0.0

    def ended() -> Ended:
        return Ended(
            f"Prefect at {address}, which keeps the record of runs, has ended while the cycle ran"
            f"{at_work.failed}; run the same command again: it starts Prefect and reuses what is finished"
        )

    try:
        with progress.listening(at_work.hear):
            while not (await asyncio.wait([running], timeout=_LOOK_SECONDS))[0]:
                now = time.monotonic()
                if not state.ended(home, "prefect", address):
                    lost_at = 0.0
                elif not lost_at:
                    lost_at = now
                    progress.note("Prefect has ended; stages go on without it, `volvox up` starts it again")
                elif now - max(lost_at, at_work.until(now)) > _LOST_SECONDS:
                    raise ended()
        return running.result()
    except (ObjectNotFound, PrefectHTTPStatusError) as error:
        if lost_at:  # another server has its port now, and knows nothing of our runs
            raise ended() from error
        raise
    except httpx.TransportError as error:
        raise Unavailable(
            f"Prefect at {address} does not answer ({type(error).__name__}); run the same command again to go on"
        ) from error
    finally:
        await _end(running, at_work, lost=bool(lost_at))


class _AtWork:
    """Until when a stage was at work, by what the stages say."""

    def __init__(self) -> None:
        self.failed = ""
        self.stages, self._ended = 0, 0.0

    def until(self, now: float) -> float:
        """When the last stage ended; `now` while one is at work."""
        return now if self.stages else self._ended

    def hear(self, event: progress.Event) -> None:
        """Take in what happened."""
        if event.kind == "started":
            self.stages += 1
        elif event.kind in ("finished", "failed"):
            self.stages, self._ended = self.stages - 1, event.at
            self.failed = f" ({event.stage} failed: {event.text})" if event.kind == "failed" else ""


async def _end(running: asyncio.Future[Any], at_work: _AtWork, *, lost: bool) -> None:
    """Cancel the flow where it still runs, and wait for its end; not for what a lost server shall be told."""
    if not running.done():
        running.cancel()
        await asyncio.wait([running], timeout=(_CANCEL_SECONDS if at_work.stages else 0.0) if lost else None)
    if not lost:
        return
    running.cancel()  # out of telling the server that it was cancelled
    with contextlib.suppress(Exception):  # Prefect's own parts, which have no other handle
        from prefect._internal.concurrency.services import _QueueServiceBase

        services: list[Any] = list(_QueueServiceBase._instances.values())
        for service in services:
            service._loop.call_soon_threadsafe(service._done_event.set)  # the process would wait for them at its end
