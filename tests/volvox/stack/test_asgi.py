from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
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


WAITS = """
import asyncio, sqlite3, sys, time
from pathlib import Path
import aiosqlite
from volvox.stack import asgi

async def main(path):
    async with aiosqlite.connect(path, isolation_level=None) as holds, \\
            aiosqlite.connect(path, isolation_level=None, timeout=3) as waits:
        for line in ("PRAGMA journal_mode = WAL", "CREATE TABLE t (n)", "INSERT INTO t VALUES (1), (2), (3)"):
            await holds.execute(line)
        garbage = [await waits._execute(waits._conn.execute, "VALUES (1), (2)")]  # has a row left, and is not closed
        garbage.append(garbage)
        await waits._execute(lambda: None)  # whose thread would keep what it made last
        await holds.execute("BEGIN IMMEDIATE")
        del garbage
        began = time.monotonic()
        writes = asyncio.create_task(waits.execute("INSERT INTO t VALUES (4)"))
        await asyncio.sleep(0.2)
        kept = [[] for _ in range(100_000)]  # so much that Python looks for garbage
        await asyncio.sleep(0.6)
        await holds.execute("COMMIT")
        await asyncio.wait([writes])
        print(f"{time.monotonic() - began:.2f}")

if sys.argv[2] == "apart":
    asgi.collect_apart()
asyncio.run(main(sys.argv[1]))
"""


def test_garbage_of_a_database_that_is_waited_for_holds_up_nobody(tmp_path: Path) -> None:
    def seconds(how: str) -> float:
        command = [sys.executable, "-c", WAITS, str(tmp_path / f"{how}.db"), how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return float(done.stdout)

    assert seconds("as ever") > 2.9, "the event loop stands until the database gives up"
    assert seconds("apart") < 2.5
