"""An inbox that keeps arrivals in memory, and can be told to fail."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn

from volvox.inbox import Arrival


class Inbox:
    """Attributes: arrivals: what was kept. failures: errors of the next calls. calls: how often it was asked."""

    def __init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.failures: list[BaseException] = []
        self.calls = 0
        self.seconds = 0.0

    async def record(self, arrivals: Sequence[Arrival]) -> None:
        self.calls += 1
        await asyncio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        self.arrivals += arrivals

    @property
    def keys(self) -> list[str]:
        return [one.key for one in self.arrivals]


async def until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """The application on a port of this machine."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(64)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)
