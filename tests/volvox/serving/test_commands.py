"""`volvox serve` and `volvox web` in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.volvox.serving.modules import write_modules, write_weights
from tests.volvox.serving.running_server import gone

RUN = "import sys; from volvox.serving import commands; getattr(commands, sys.argv[1])(sys.argv[2:])"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command; whatever still runs at the end is ended."""
    site, running = write_modules(tmp_path / "site"), []

    def begin(command: str, *options: str) -> subprocess.Popen[str]:
        places = {"PYTHONPATH": str(site), "VOLVOX_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
        (tmp_path / "tmp").mkdir(exist_ok=True)
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", RUN, command, *options],
                env={**os.environ, **places},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def _url(process: subprocess.Popen[str]) -> str:
    line = process.stdout.readline()
    found = re.search(r"http://\S+", line)
    assert found, line + process.stderr.read()
    return found.group()


def _ready(url: str) -> dict:
    end = time.monotonic() + 30
    while (answer := httpx.get(f"{url}/health/ready")).status_code != 200:
        assert time.monotonic() < end, answer.text
        time.sleep(0.05)
    return answer.json()


def test_one_module_is_served_in_the_foreground_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights", "7")
    process = start("serve", "--module", "tiny", "--weights", str(weights), "--name", "mine", "--listen-port", "0")
    url = _url(process)
    assert _ready(url)["models"] == ["mine"]
    answer = httpx.post(f"{url}/v2/models/mine/predict/", files={"image": b"123"})
    assert answer.json()["predictions"]["version"] == "7"
    worker = answer.json()["predictions"]["pid"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert gone(worker)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "home").exists()


def test_a_request_larger_than_allowed_is_answered_413(start: Start, tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "weights", "7")
    process = start(
        "serve", "--module", "tiny", "--weights", str(weights), "--listen-port", "0", "--client-max-size", "1000"
    )
    url = _url(process)
    _ready(url)
    answer = httpx.post(f"{url}/v2/models/tiny/predict/", files={"image": b"1" * 2000})
    assert (answer.status_code, answer.text) == (413, "Maximum request body size 1000 exceeded.")


def test_an_import_error_of_the_module_ends_the_command_with_its_reason(start: Start) -> None:
    process = start("serve", "--module", "tiny-broken", "--listen-port", "0")
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "a_library_that_nobody_has" in errors


@pytest.mark.parametrize("command", [["serve", "--module", "tiny", "--listen-port"], ["web", "--port"]])
def test_a_port_in_use_is_told(start: Start, command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(*command, str(taken.getsockname()[1]))
        _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert f"port {taken.getsockname()[1] if taken.fileno() > 0 else ''}" in errors
    assert "choose another" in errors


def test_the_server_of_a_home_answers_long_before_a_module_could_be_loaded(start: Start) -> None:
    began = time.monotonic()
    url = _url(start("web", "--port", "0"))
    assert httpx.get(f"{url}/health/live").status_code == 200
    assert time.monotonic() - began < 20, "no module was waited for"


def test_ctrl_c_ends_the_server_in_order(start: Start) -> None:
    process = start("web", "--port", "0")
    httpx.get(f"{_url(process)}/health/live")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "Traceback" not in errors


def test_serving_imports_neither_prefect_nor_mlflow_torch_or_numpy() -> None:
    code = (
        "import sys, pathlib; from volvox.serving.app import create_app; import volvox.serving.commands\n"
        "create_app(pathlib.Path('/nowhere'))\n"
        "heavy = {'prefect', 'mlflow', 'torch', 'numpy', 'pandas', 'onnxruntime', 'fastapi'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_module_that_is_not_installed_is_told_with_those_that_are(start: Start) -> None:
    process = start("serve", "--module", "nobody", "--listen-port", "0")
    output, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "no model module 'nobody' is installed" in errors
    assert "tiny-plain" in errors
    assert output == ""
