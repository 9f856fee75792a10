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


def test_what_is_answered_late_or_never_is_told_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/never":
            await asyncio.Event().wait()
        await asyncio.sleep(0.2 if scope["path"] == "/late" else 0.0)
        await send({"type": "http.response.start", "status": 503})

    async def ask() -> None:
        async def send(_: Any) -> None: ...

        server = asgi.telling_what_is_slow(app, 0.1)
        never = asyncio.create_task(server({"type": "http", "method": "GET", "path": "/never"}, None, send))
        for path in ("/quick", "/late"):
            await server({"type": "http", "method": "POST", "path": path}, None, send)
        await server({"type": "websocket", "path": "/late"}, None, send)
        never.cancel()
        await asyncio.gather(never, return_exceptions=True)

    asyncio.run(ask())
    said = [line.split(" ", 2)[2].rsplit(" after", 1)[0] for line in capsys.readouterr().err.splitlines()]
    assert sorted(said) == ["GET /never: given up", "GET /never: not answered", "POST /late: not answered",
                            "POST /late: status 503"]  # fmt: skip
