"""Run a web server in the foreground until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from volvox.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from volvox.serving.limits import Limits
    from volvox.serving.served import Deployed

_DRAIN_SECONDS = 30


def serve_home(home: Path, host: str, port: int) -> None:
    """Serve the models, pages and catalogue of `home` until a signal ends it.

    Raises:
        Unavailable: If the port is taken, or another server serves `home`.
        InvalidInput: If the address is not one of this machine.
    """
    with _bind(host, port) as listening:
        from volvox.serving.app import create_app

        app = create_app(home.absolute())
        app.state.services.claim()
        print(f"serving {home} at {_address(listening)}", flush=True)
        _run(app, listening)


def serve_module(deployed: Deployed, weights: Path | None, host: str, port: int, limits: Limits) -> None:
    """Serve one module until a signal ends it, or its module does not start.

    Raises:
        ModuleFailed: If the module cannot be imported or warmed.
        Unavailable: If the port is taken.
        InvalidInput: If the address is not one of this machine.
    """
    with _bind(host, port) as listening, tempfile.TemporaryDirectory(prefix="volvox-serve-") as folder:
        from volvox.serving.app import create_app
        from volvox.serving.services import Services

        services = Services(Path(folder, "serving"), limits)
        app = create_app(Path(folder), limits, services)
        model = services.serve(deployed, weights)
        print(f"serving module {deployed.module} as {deployed.name} at {_address(listening)}", flush=True)
        _run(app, listening, model.start)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off (40 ms an answer) only for sockets that name their protocol.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Unavailable(f"port {port} of {host} cannot be used ({error.strerror}); choose another") from error
        raise InvalidInput(f"{host} is not an address that this machine can listen at ({error.strerror})") from error
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _run(app: Starlette, listening: socket.socket, start: Callable[[], Awaitable[None]] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C: nothing new is taken, what came in is answered, the workers end."""
    import uvicorn
    import uvloop

    from volvox.serving.app import HEADERS
    from volvox.serving.quick import protocol

    config = uvicorn.Config(
        app, ws="none", log_level="warning", access_log=False, server_header=False,
        http=protocol(app.state.services, HEADERS), timeout_graceful_shutdown=_DRAIN_SECONDS,
    )  # fmt: skip
    server = uvicorn.Server(config)

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        try:
            if start is not None and server.started:
                await start()
        except BaseException:
            server.should_exit = True
            await serving
            raise
        await serving

    # When it has drained, uvicorn raises the signal again: here it ends the program in order, temporary files too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
