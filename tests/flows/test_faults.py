"""The whole cycle while something it stands on gives way: a sentence, an exit code, and the next run goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flows import nearest
from tests.flows.conftest import QUICK, Installation
from volvox.settings import Home
from volvox.stack import processes

pytestmark = pytest.mark.cycle

_DISK = "24m"  # the stack's databases and the data stage leave most of it


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose home is a small disk of its own."""
    folder = tmp_path_factory.mktemp("faults")
    disk = folder / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(disk)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a small tmpfs here")
    nearest.install(folder / "site")
    paths = [str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    made = Installation(disk / "home", {"PYTHONPATH": os.pathsep.join(paths)})
    try:
        yield made
    finally:
        made.run("down", check=False)
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _meanwhile(installation: Installation, line: str, do: Callable[[], None], *words: str) -> tuple[int, str, str]:
    """Run the cycle and `do` something at the first line that matches; exit code, error sentence, all it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "volvox", "cycle", *words],
        env=installation._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    printed, done = [], False
    assert process.stderr is not None
    try:
        for said in process.stderr:
            printed.append(said)
            if not done and re.search(line, said):
                done = True
                do()
        code = process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    text = "".join(printed)
    errors = [said for said in printed if said.startswith("error: ")]
    assert done, text
    assert len(errors) == 1, text
    assert not re.search(r"Traceback|--debug|Error logging|EventsWorker", text), text
    return code, errors[0], text


def _fill(ballast: Path) -> None:
    """Write until the disk has no byte left."""
    with pytest.raises(OSError, match="No space left"), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 65536)


def _kill(installation: Installation, service: str) -> None:
    for pid in processes.marked(Home(installation.home))[service]:
        os.kill(pid, signal.SIGKILL)


def test_a_disk_that_fills_during_training_and_a_prefect_that_dies(small: Installation, digits: Path) -> None:
    words = (str(digits), "--name", "faulty", *QUICK, "--steps", "25")
    ballast = small.home.parent / "ballast"
    code, sentence, _ = _meanwhile(small, r"training: \d+/25", lambda: _fill(ballast), *words)
    assert code == 1
    assert "is full; free some space" in sentence
    assert small.json("models") == []
    assert not (small.home / "catalogue").exists()

    ballast.unlink()

    code, sentence, text = _meanwhile(small, r"training: (\d+/25|went on)", lambda: _kill(small, "prefect"), *words)
    assert code == 4
    assert "has ended while the cycle ran; run the same command again" in sentence
    went_on = re.search(r"training: went on from epoch (\d+)", text)
    assert went_on, "the training that the full disk stopped was not begun anew"
    assert int(went_on[1]) > 0
    assert "inference: finished" in text, "stages need no Prefect"

    made = small.json("cycle", *words)
    assert [stage["stage"] for stage in made["stages"] if not stage["reused"]] == []
    (version,) = small.json("models")
    assert version["champion"]
    assert version["version"] == "1"


def test_a_web_server_that_dies_before_serving(small: Installation, digits: Path) -> None:
    words = (str(digits), "--name", "unserved", *QUICK)

    code, sentence, text = _meanwhile(small, r"publication: started", lambda: _kill(small, "web"), *words)
    assert code == 4
    assert "does not answer" in sentence
    assert "volvox up" in sentence
    assert "publication: finished" in text
    made = small.json("cycle", *words)
    assert [stage["stage"] for stage in made["stages"] if not stage["reused"]] == ["serving", "inference"]
    assert [model["version"] for model in small.json("models") if model["name"] == "unserved"] == ["1"]


def test_a_disk_that_fills_after_training(small: Installation, digits: Path) -> None:
    words = (str(digits), "--name", "filled", *QUICK)
    ballast = small.home.parent / "ballast"
    code, sentence, text = _meanwhile(small, r"registration: started", lambda: _fill(ballast), *words)
    assert code == 1
    assert "is full; free some space" in sentence
    assert "serving: started" not in text
    ballast.unlink()
    made = small.json("cycle", *words)
    assert made["stages"][-1]["stage"] == "inference"
    assert [model["version"] for model in small.json("models") if model["name"] == "filled"] == ["1"]
