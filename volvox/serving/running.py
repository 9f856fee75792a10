"""Run a web server in the foreground until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from volvox.errors import InvalidInput, Unavailable
from volvox.serving.guard import GuardSettings
from volvox.serving.limits import Limits
from volvox.serving.logs import LogSettings
from volvox.serving.offered import Offered

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from volvox.serving.deployed import Deployed
    from volvox.worker.finding import Place

_DRAIN_SECONDS = 30


@dataclass(frozen=True)
class Asked:
    """One module that is to be served.

    Attributes:
        module: What `volvox.modules.specification` resolves; empty: the only one that is installed.
        name: The model's name in URLs; empty: the module's.
    """

    module: str
    name: str = ""


@dataclass(frozen=True)
class ServeSettings:
    """How one server of its own is run.

    Attributes:
        host: The address to listen at.
        port: The port; 0: any free one.
        weights: What the modules find as VOLVOX_WEIGHTS.
        python: The interpreter that the modules need; empty: this one.
        limits: How much it takes on.
        offered: Which endpoints there are.
        logs: What it logs.
        guard: Whom it answers.
        keep: Folder for its jobs, which outlive it there; else they end with it.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    weights: Path | None = None
    python: str = ""
    limits: Limits = field(default_factory=Limits)
    offered: Offered = field(default_factory=Offered)
    logs: LogSettings = field(default_factory=LogSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)
    keep: Path | None = None


def serve_home(home: Path, host: str, port: int, descriptor: int = -1) -> None:
    """Serve the models, pages and catalogue of `home` until a signal ends it.

    Args:
        home: The folder that VOLVOX_HOME names.
        host: The address to listen at.
        port: The port; 0: any free one.
        descriptor: File descriptor of a socket that listens already, whose address counts then.

    Raises:
        Unavailable: If the port is taken, or another server serves `home`.
        InvalidInput: If the address is not one of this machine.
    """
    with socket.socket(fileno=descriptor) if descriptor >= 0 else _bind(host, port) as listening:
        from volvox.serving.app import create_app

        app = create_app(home.absolute(), functions=True)
        app.state.services.claim()
        print(f"serving {home} at {_address(listening)}", flush=True)
        _run(lambda: app, listening)


def serve_modules(asked: Sequence[Asked], settings: ServeSettings) -> None:
    """Serve modules until a signal ends it, or one of them does not start.

    Raises:
        ModuleFailed: If a module cannot be imported or warmed.
        Unavailable: If the port is taken.
        InvalidInput: If the address is not one of this machine, or a module is not to be found.
    """
    from volvox.modules import specification
    from volvox.modules.interpreter import inspect

    interpreter = inspect(settings.python)  # before the port is opened: a wrong one needs no server to be told
    with tempfile.TemporaryDirectory(prefix="volvox-serve-") as folder:
        deployed = []
        for one in asked:
            if one.module:
                place = specification.resolve(one.module, interpreter, Path(folder, "information"))
            else:
                place = specification.only(interpreter)
            deployed.append(_deployed(place, one.name, interpreter.path, settings))
        if doubled := sorted({one.name for one in deployed if [two.name for two in deployed].count(one.name) > 1}):
            raise InvalidInput(f"two models would be called {doubled[0]!r}; give each its own --name, in order")
        with _bind(settings.host, settings.port) as listening:
            _serve(deployed, settings, (settings.keep or Path(folder)).absolute(), listening)


def _serve(deployed: Sequence[Deployed], settings: ServeSettings, folder: Path, listening: socket.socket) -> None:
    from volvox.serving.services import Services

    services = Services(folder / "serving", settings.limits)
    models = [services.serve(one, settings.weights) for one in deployed]
    for one in deployed:
        address = _address(listening) + settings.offered.base_path
        print(f"serving module {one.entry_point} as {one.name} at {address}", flush=True)

    def app() -> Starlette:
        from volvox.serving.app import create_app

        return create_app(folder, settings.limits, services, settings.offered, settings.guard)

    async def start() -> None:
        services.open()
        for model in models:  # one after the other: together they might not fit into memory while they load
            await model.start()

    _run(app, listening, start)


def _deployed(place: Place, name: str, python: str, settings: ServeSettings) -> Deployed:
    from volvox.identity import digest_of
    from volvox.serving.deployed import Deployed

    version = digest_of([str(place), str(settings.weights)])
    return Deployed(name=name or place.name, module=str(place), model_version=version, python=python)


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


def _run(
    made: Callable[[], Starlette],
    listening: socket.socket,
    start: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C: nothing new is taken, what came in is answered, the workers end.

    Args:
        made: Makes the application. What it imports takes as long as many a module: it is called beside `start`.
        listening: The socket.
        start: Starts the models.
    """
    import uvloop

    async def serve() -> None:
        starting = asyncio.ensure_future(start()) if start is not None else None
        try:
            server = await asyncio.to_thread(_server, made)
        except BaseException:
            if starting is not None:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
            raise
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        try:
            if starting is not None and server.started:
                await starting
        except BaseException:
            server.should_exit = True
            await serving
            raise
        finally:
            if starting is not None and not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
        await serving

    # When it has drained, uvicorn raises the signal again: here it ends the program in order, temporary files too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())


def _server(made: Callable[[], Starlette]) -> uvicorn.Server:
    import uvicorn

    from volvox.serving.app import HEADERS
    from volvox.serving.quick import protocol

    app = made()
    services, offered = app.state.services, app.state.offered
    quick = protocol(services, HEADERS, offered.base_path)
    config = uvicorn.Config(
        app, ws="none", log_level="warning", access_log=False, server_header=False,
        http=quick if offered.predict else "httptools", timeout_graceful_shutdown=_DRAIN_SECONDS,
    )  # fmt: skip
    return uvicorn.Server(config)
