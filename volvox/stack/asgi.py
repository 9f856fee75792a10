"""Serve somebody's ASGI application on a socket that is bound already, started as fast as Python allows.

The collector runs hundreds of times while a large application is imported and frees nothing: without it Prefect's
server answers after 3 s instead of 5.5 s. The socket is bound by whoever starts this process, so callers queue while
the application is being imported, and no port is lost between choosing and using it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import select
import socket
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from volvox.stack import health

_COLLECT_SECONDS = 0.25
_OLDER, _ALL = 10, 200  # rounds of collecting, after which what is older is looked at, and all


def main(arguments: list[str] | None = None) -> None:
    """Wait for what the application needs, import it, prepare it, serve it until SIGTERM."""
    options = _options().parse_args(arguments)
    if options.after:
        _wait(options.after, options.after_seconds)
    listening = socket.socket(fileno=options.descriptor)
    if options.idle_seconds:
        select.select([listening], [], [], options.idle_seconds)  # a caller waits in the queue: start now
    gc.disable()
    import uvicorn

    application = _load(options.application)
    if options.factory:
        application = application()
    if options.sockets_pass:
        let_sockets_pass(options.sockets_pass)
    if options.prepare:
        function, *values = options.prepare
        _load(function)(*values)
    if options.slow_seconds:
        application = telling_what_is_slow(application, options.slow_seconds)
    collect_apart()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and options.when_ready:
                Path(options.when_ready[0]).write_text(options.when_ready[1])

    config = uvicorn.Config(application, log_level=options.log_level, timeout_graceful_shutdown=2, lifespan="on")
    Server(config).run([listening])


def let_sockets_pass(name: str) -> None:
    """Have WebSockets bypass a middleware that lets only so many requests in at a time.

    Prefect's, on SQLite, lets in a hundred, to bound what writes at once. A socket counts there for as long as anybody
    listens, and writes nothing: with a hundred listeners the server would answer nobody, not even that it is well.

    Args:
        name: The middleware, `module:class`; another release may have none of the name, which then limits nothing.
    """
    try:
        middleware = _load(name)
    except AttributeError:
        return
    limited = middleware.__call__

    async def called(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await (self.app if scope["type"] == "websocket" else partial(limited, self))(scope, receive, send)

    middleware.__call__ = called


def collect_apart() -> None:
    """Have garbage collected by a thread that does nothing else, from now on; what there is now is none.

    A cursor of SQLite among it is finalized under the lock of its connection, which another thread holds while it
    waits for the database. Where that is done by the thread of the event loop, because it happened to allocate, nobody
    ends the transaction that is waited for: Prefect's server stood still for the minute after which SQLite gives up.
    """
    gc.disable()
    gc.freeze()

    def collect() -> None:
        rounds = 0
        while True:
            time.sleep(_COLLECT_SECONDS)
            rounds += 1
            generation = 2 if rounds % _ALL == 0 else 1 if rounds % _OLDER == 0 else 0
            if generation == 2 or gc.get_count()[0] > gc.get_threshold()[0]:
                gc.collect(generation)

    threading.Thread(target=collect, name="garbage", daemon=True).start()


def telling_what_is_slow(application: Any, seconds: float) -> Any:
    """The same, with a line on standard error for each request that is not answered after so many seconds, and when.

    Of a server that holds up everybody for a minute now and then, the log says nothing else.
    """

    async def called(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        began, asked, status = time.monotonic(), f"{scope['method']} {scope['path']}", 0

        async def sent(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        def told(what: str) -> None:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            print(f"{now} {asked}: {what} after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)

        late = asyncio.get_running_loop().call_later(seconds, told, "not answered")
        try:
            await application(scope, receive, sent)
        finally:
            late.cancel()
            if time.monotonic() - began >= seconds:
                told(f"status {status}" if status else "given up")

    return called


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m volvox.stack.asgi", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("application", help="module:attribute")
    parser.add_argument("--factory", action="store_true", help="the attribute is a function that makes it")
    parser.add_argument("--descriptor", type=int, required=True, help="file descriptor of the bound socket")
    parser.add_argument(
        "--prepare", nargs="+", default=[], metavar="X", help="module:function to call first, with text"
    )
    parser.add_argument(
        "--sockets-pass", default="", metavar="CLASS", help="module:class of a middleware that WebSockets shall bypass"
    )
    parser.add_argument("--slow-seconds", type=float, default=0.0, help="log requests that take so long")
    parser.add_argument("--after", default="", help="URL that must answer before the import begins")
    parser.add_argument("--after-seconds", type=float, default=60.0, help="how long to wait for it at most")
    parser.add_argument("--idle-seconds", type=float, default=0.0, help="start when asked, or after so long at most")
    parser.add_argument("--when-ready", nargs=2, default=[], metavar=("FILE", "TEXT"), help="file to write on success")
    parser.add_argument("--log-level", default="warning")
    return parser


def _load(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _wait(url: str, seconds: float) -> None:
    """Return when `url` answers, or after `seconds`: a service that is late is better than none."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not health.answers(url, timeout_seconds=seconds):
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
