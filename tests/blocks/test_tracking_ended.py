"""MLflow of this machine's stack ends, and is started again or not."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from blocks import tracking as block
from blocks.tracking import Tracking, unavailable_told
from tasks.retries import is_transient
from volvox import disks, progress
from volvox.errors import Ended, Unavailable, VolvoxError
from volvox.settings import Home
from volvox.stack import state
from volvox.stack.state import State


@pytest.fixture
def stopped(home: Home, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """The stack's MLflow on a port where nothing listens, its process gone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Tracking(uri=f"http://127.0.0.1:{port}")
    state.write(home, State("mlflow", os.getpid(), 1.0, port=port, url=made.uri))
    for name, value in made.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(block, "_GONE_SECONDS", 0.3)
    return made


def test_what_has_ended_is_not_waited_for_as_long_as_what_is_slow(stopped: Tracking) -> None:
    noted: list[str] = []
    began = time.monotonic()
    hearing = progress.listening(lambda event: noted.append(event.text))
    with hearing, pytest.raises(Ended, match="run the same command again"):
        asyncio.run(stopped.activate())
    assert time.monotonic() - began < 5
    assert noted == ["MLflow has ended and is waited for; start it again: volvox up"]


def test_one_that_is_started_again_meanwhile_is_ridden_out(stopped: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "_GONE_SECONDS", 10.0)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    async def restarted() -> None:
        waiting = asyncio.create_task(stopped.activate())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        with HTTPServer(("127.0.0.1", int(stopped.uri.rpartition(":")[2])), Answers) as server:
            threading.Thread(target=server.serve_forever).start()
            await waiting
            await asyncio.to_thread(server.shutdown)

    asyncio.run(restarted())


def test_another_server_than_the_stacks_is_given_its_time(stopped: Tracking) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        other = Tracking(uri=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(Unavailable, match=r"did not answer for 0\.6 s") as told:
            asyncio.run(other.activate(0.6))
    assert not isinstance(told.value, Ended)


@pytest.mark.parametrize(("failure", "again"), [(Unavailable("x"), True), (Ended("x"), False)])
def test_what_has_ended_is_not_tried_again(failure: Exception, again: bool) -> None:
    assert is_transient(None, None, SimpleNamespace(data=failure)) is again


def test_a_server_that_fails_on_a_full_disk_is_told_as_that(stopped: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(Exception):
        error_code = "INTERNAL_ERROR"

    with pytest.raises(Unavailable), unavailable_told(stopped):
        raise Refused
    monkeypatch.setattr(disks, "is_full", lambda _: True)
    with pytest.raises(VolvoxError, match="is full; free some") as told, unavailable_told(stopped):
        raise Refused
    assert not isinstance(told.value, Unavailable)
