"""A whole installation for tests of the cycle: a home of its own, run by the command line as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows import legacy, nearest

STAGES = ("data", "training", "evaluation", "registration", "packaging", "publication", "serving", "inference")
QUICK = ("--module", "nearest", "--no-image")  # a module that needs no torch
SMALL = ("--epochs", "12", "--batch-size", "16", "--no-image")


@dataclass
class Installation:
    """The command line on a VOLVOX_HOME that nothing else uses."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "volvox", *words],
            env=self._environment(), capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, f"volvox {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def registered(self) -> list[tuple[str, str]]:
        """Name and number of every registered version, asked of MLflow itself: `volvox models` takes seconds."""
        server = json.loads((self.home / "stack" / "mlflow.json").read_text())["url"]
        asked = f"{server}/api/2.0/mlflow/model-versions/search?max_results=1000"
        found = httpx.get(asked, timeout=120).raise_for_status().json().get("model_versions", [])
        return [(version["name"], version["version"]) for version in found]

    def run_until(
        self, line: str, *words: str, number: int = signal.SIGKILL, then: Callable[[], None] = lambda: None
    ) -> int:
        """Run until a printed line matches `line`, send the signal, return the exit code."""
        process = subprocess.Popen(
            [sys.executable, "-m", "volvox", *words],
            env=self._environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        watchdog = threading.Timer(240, process.kill)
        watchdog.start()
        seen = []
        try:
            assert process.stdout is not None
            for printed in process.stdout:
                seen.append(printed)
                if re.search(line, printed):
                    then()
                    process.send_signal(number)
                    return process.wait(timeout=30)
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
        raise AssertionError(f"never printed {line!r}:\n{''.join(seen)}")

    def run_for(self, seconds: float, *words: str) -> int:
        """Run for some seconds, then SIGKILL; return the exit code."""
        process = subprocess.Popen(
            [sys.executable, "-m", "volvox", *words],
            env=self._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        process.kill()
        return process.wait()

    def _environment(self) -> dict[str, str]:
        # A container engine of the machine is no part of these tests.
        return {**os.environ, "VOLVOX_HOME": str(self.home), "DOCKER_HOST": "unix:///nowhere", **self.environment}


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One running stack for all tests of a session; every test uses a model name of its own."""
    folder = tmp_path_factory.mktemp("installation")
    nearest.install(folder / "site")
    nearest.install(folder / "site", "together", nearest.TOGETHER)
    nearest.install(folder / "site", "legacy", legacy.CODE, "title: Dark or light\n")
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    made = Installation(folder / "home", {"PYTHONPATH": os.pathsep.join(paths)})
    made.run("up")
    yield made
    made.run("down", check=False)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scanned digits 0, 1 and 2: 40 images each."""
    from volvox.data.demo import write_digits

    folder = tmp_path_factory.mktemp("images") / "three-digits"
    whole = write_digits(tmp_path_factory.mktemp("digits") / "digits")
    for name in ("0", "1", "2"):
        (folder / name).mkdir(parents=True)
        for image in sorted((whole / name).iterdir())[:40]:
            (folder / name / image.name).write_bytes(image.read_bytes())
    return folder
