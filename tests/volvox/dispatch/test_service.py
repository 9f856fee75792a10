"""The service of the stack, by the command line and over HTTP, as a user has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from volvox.settings import Home
from volvox.stack import services, stack
from volvox.stack.state import read, token

FILE = """
name: shout
image: unused
runtime: local
settings: {{as_process: true}}
script: |
  #!/bin/sh
  tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH").out"
places: {{in: {source}, out: {target}}}
"""


class Installed:
    """The command line on a home, whose web server and dispatcher run as `volvox up` has them run."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "volvox", *words], capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "VOLVOX_HOME": str(self.home.root)},
        )  # fmt: skip
        assert done.returncode == 0, f"volvox {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def jobs(self) -> list[dict[str, Any]]:
        return json.loads(self.run("jobs", "list", "--function", "shout", "--json").stdout)

    @property
    def web(self) -> str:
        found = read(self.home, "web")
        assert found is not None
        return found.url


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (told := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return told


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_WEB_URL", "VOLVOX_INBOX", services.LOCAL):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOLVOX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VOLVOX_WEB_PORT", "0")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    home = Home(tmp_path / "home").ensure()
    yield Installed(home)
    stack.stop(home)


class Changes(threading.Thread):
    """Follows `/v1/jobs/changes` as a page does."""

    def __init__(self, installed: Installed) -> None:
        super().__init__(daemon=True)
        self._url = f"{installed.web}/v1/jobs/changes?function=shout"
        self._headers = {"Authorization": f"Bearer {token(installed.home)}"}
        self.seen: list[tuple[str, str]] = []
        self.open = threading.Event()
        self.start()
        assert self.open.wait(30)

    def run(self) -> None:
        with httpx.Client(timeout=60) as client, client.stream("GET", self._url, headers=self._headers) as told:
            for line in told.iter_lines():
                self.open.set()
                if line.startswith("data: "):
                    job = json.loads(line[6:])
                    self.seen.append((job["key"], job["state"]))


def test_a_file_is_answered_by_the_service_and_again_when_that_was_restarted(
    installed: Installed, tmp_path: Path
) -> None:
    source, target, file = tmp_path / "in", tmp_path / "out", tmp_path / "shout.yaml"
    file.write_text(FILE.format(source=source, target=target))
    home = installed.home

    def started() -> int:
        """As `volvox up`: what is wanted of these; the dispatcher is, now that there is a function."""
        spec = next(one for one in services.discover() if one.name == "functions")
        assert spec.wanted(home)
        stack.ensure(home, ["web", "functions"])
        for name in ("web", "functions"):
            stack.wait_ready(home, name)
        return stack.ensure(home, ["functions"])["functions"].pid

    def answered(name: str, text: str) -> None:
        (source / name).write_text(text)
        path = target / f"{name}.out"
        until(path.exists)
        assert path.read_text() == text.upper()
        until(lambda: [job for job in installed.jobs() if (job["key"], job["state"]) == (name, "SUCCEEDED")])

    assert not next(one for one in services.discover() if one.name == "functions").wanted(home)
    done = installed.run("functions", "apply", str(file))
    assert "nothing answers yet: `volvox up` starts what does" in done.stderr
    pid = started()
    changes = Changes(installed)
    answered("a.txt", "first")
    until(lambda: ("a.txt", "SUCCEEDED") in changes.seen)
    states = [state for key, state in changes.seen if key == "a.txt"]
    assert states == sorted(states, key=["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"].index)
    (told,) = installed.jobs()
    output = {"url": f"file://{target}", "key": "a.txt.out", "size": 5}
    assert (told["function"], told["state"], told["outputs"]) == ("shout", "SUCCEEDED", [output])
    assert [step["state"] for step in told["steps"]] == ["PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"]

    assert stack.stop(home, ["functions"]) == ["functions"]
    (source / "meanwhile.txt").write_text("nobody is there")
    assert started() != pid
    until((target / "meanwhile.txt.out").exists)
    answered("b.txt", "second")
    assert sorted(job["key"] for job in installed.jobs()) == ["a.txt", "b.txt", "meanwhile.txt"], "none is done again"
    until(lambda: ("b.txt", "SUCCEEDED") in changes.seen)
    assert {one.name: one.state for one in stack.status(home)}["functions"] == "ready"
