"""A worker as a process: its first word, its answers, its end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.serving.modules import write_modules, write_weights
from tests.volvox.serving.running_server import gone
from volvox.worker.control import Control
from volvox.worker.wire import HEAD, frame


def _started(site: Path, module: str, weights: Path) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    _, page = Control.create()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "volvox.worker.loop", "--module", module, "--socket", str(theirs.fileno()),
             "--control", str(page), "--parent", str(os.getpid())],
            pass_fds=[theirs.fileno(), page],
            env={**os.environ, "PYTHONPATH": str(site), "VOLVOX_WEIGHTS": str(weights)},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    os.close(page)
    return process, ours


def _next(connection: socket.socket) -> dict[str, Any]:
    head = connection.recv(HEAD.size, socket.MSG_WAITALL)
    header, body = HEAD.unpack(head)
    return json.loads(connection.recv(header + body, socket.MSG_WAITALL)[:header])


def test_a_process_says_what_it_is_answers_and_ends_with_its_socket(tmp_path: Path) -> None:
    process, connection = _started(write_modules(tmp_path / "site"), "tiny", write_weights(tmp_path / "w", "1"))
    assert [told["name"] for told in _next(connection)["ready"]["predict"]] == ["image", "top", "labels", "mode"]
    connection.sendall(frame({"id": 1, "query": {"top": ["0"]}}))
    said = _next(connection)
    assert (said["id"], said["error"]["kind"]) == (1, "refused")
    connection.close()
    assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("tiny-broken", "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"),
        ("tiny", "RuntimeError: these weights cannot be read"),
        ("nobody", "no model module 'nobody' is installed here"),
    ],
)
def test_a_module_that_does_not_start_is_told_with_its_trace(tmp_path: Path, module: str, reason: str) -> None:
    weights = write_weights(tmp_path / "w", "1", refuse_to_warm="")
    process, connection = _started(write_modules(tmp_path / "site"), module, weights)
    said = _next(connection)
    assert said["failed"] == reason
    assert "Traceback" in said["trace"]
    connection.close()
    assert process.wait(10) == 1


def test_a_worker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    site, weights = write_modules(tmp_path / "site"), write_weights(tmp_path / "w", "1")
    code = (
        "import os, socket, subprocess, sys, time\n"
        "from volvox.worker.control import Control\n"
        "ours, theirs = socket.socketpair()\n"
        "_, page = Control.create()\n"
        "child = subprocess.Popen([sys.executable, '-m', 'volvox.worker.loop', '--module', 'tiny',\n"
        "    '--socket', str(theirs.fileno()), '--control', str(page), '--parent', str(os.getpid())],\n"
        "    pass_fds=[theirs.fileno(), page])\n"
        "ours.recv(8)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "VOLVOX_WEIGHTS": str(weights)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    assert gone(worker)


def test_the_worker_imports_nothing_beyond_the_standard_library(tmp_path: Path) -> None:
    code = (
        "import sys, volvox.worker.loop\n"
        "files = {name: str(getattr(module, '__file__', '')) for name, module in sys.modules.items()}\n"
        "outside = {name for name, file in files.items() if 'site-packages' in file and not name.startswith('_')}\n"
        "assert not outside, outside\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
