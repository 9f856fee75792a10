from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from volvox.settings import Home
from volvox.stack import services, stack
from volvox.stack.services import Context, ServiceSpec

TINY_APP = """
import os
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = os.environ.get("GREETING", "hello").encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})
def made():
    return app
"""
# A service that listens on nothing, leads a child in a session of its own, and ignores SIGTERM.
STUBBORN = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
time.sleep(0.2)
pathlib.Path(os.environ["VOLVOX_READY_FILE"]).touch()
time.sleep(600)
"""


def tiny(context: Context) -> list[str]:
    return services.asgi(context, "tiny_app:made", "--factory")


def files(context: Context) -> list[str]:
    return [sys.executable, "-m", "http.server", str(context.port), "--bind", "127.0.0.1"]


def stubborn(_: Context) -> list[str]:
    return [sys.executable, "-c", STUBBORN]


def broken(_: Context) -> list[str]:
    return [sys.executable, "-c", "raise SystemExit('the disk is on fire')"]


TINY = ServiceSpec("tiny", "Tiny", tiny, preferred_port=0, takes_socket=True, replaced_by="TINY_URL", suffix="/api")
FILES = ServiceSpec("files", "Files", files, preferred_port=0, after=("tiny",))
WORKER = ServiceSpec("worker", "Worker", stubborn, after=("tiny",))
BROKEN = ServiceSpec("broken", "Broken", broken, preferred_port=0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose stack is a few tiny services; whatever was started ends with the test."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "tiny_app.py").write_text(TINY_APP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_WEB_URL", "TINY_URL", services.LOCAL):
        monkeypatch.delenv(name, raising=False)
    use(monkeypatch, TINY, FILES, WORKER)
    home = Home(tmp_path / "home")
    yield home
    stack.stop(home)


def use(monkeypatch: pytest.MonkeyPatch, *specs: ServiceSpec) -> None:
    monkeypatch.setattr(services, "discover", lambda: specs)
    monkeypatch.setattr(stack, "discover", lambda: specs)
