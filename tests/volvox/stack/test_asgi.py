from __future__ import annotations

import asyncio
from typing import Any

import pytest

from volvox.stack import asgi


class Limiting:
    """A middleware that lets one in at a time, as one of a server on SQLite does."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.place = asyncio.Semaphore(1)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self.place:
            await self.app(scope, receive, send)


def test_those_who_only_listen_take_no_place_of_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = Limiting.__call__
    monkeypatch.setattr(Limiting, "__call__", limited)  # as it is after the test
    answered: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answered.append(scope["path"])
        if scope["path"] != "/quick":
            await asyncio.Event().wait()

    async def ask() -> None:
        server = Limiting(app)

        def begin(kind: str, path: str) -> asyncio.Task[None]:
            return asyncio.create_task(server({"type": kind, "path": path}, None, None))

        sockets = [begin("websocket", f"/socket/{number}") for number in range(5)]
        await asyncio.sleep(0)
        await begin("http", "/quick")
        assert len(answered) == 6
        slow, late = begin("http", "/slow"), begin("http", "/late")
        for _ in range(5):
            await asyncio.sleep(0)
        assert answered[6:] == ["/slow"], "those who ask are limited as before"
        for task in [*sockets, slow, late]:
            task.cancel()

    asgi.let_sockets_pass(f"{__name__}:Limiting")
    asyncio.run(ask())


def test_a_release_without_that_middleware_is_served_all_the_same() -> None:
    asgi.let_sockets_pass(f"{__name__}:NoSuchMiddleware")
