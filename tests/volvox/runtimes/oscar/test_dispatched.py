"""Files that a dispatcher has a cluster answer, while dispatchers are killed and the cluster fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.volvox.runtimes.oscar.cluster import Fault
from tests.volvox.runtimes.oscar.server import OscarServer
from volvox.functions import registry
from volvox.functions.reading import read
from volvox.settings import Home

_DEFINITION = """name: upper
image: an/image
runtime: oscar
script: |
  #!/bin/sh
  echo run >> {root}/runs
  sleep 0.5
  tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"
scaling: {{max_scale: 4}}
places: {{in: {root}/drop, out: {root}/out}}
"""


def until(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("files", "kills"), [(6, 1), pytest.param(120, 6, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_every_file_is_answered_once_though_dispatchers_are_killed(
    server: OscarServer, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, kills: int
) -> None:
    for name, value in {"ENDPOINT": server.endpoint, "USER": "admin", "PASSWORD": "a password"}.items():
        monkeypatch.setenv(f"VOLVOX_OSCAR_{name}", value)
    drop, out = tmp_path / "drop", tmp_path / "out"
    drop.mkdir()
    out.mkdir()
    definition = tmp_path / "f.yaml"
    definition.write_text(_DEFINITION.format(root=tmp_path))
    registry.apply_all(home, read(definition).functions, source=[str(definition)])
    root = str(Path(__file__).parents[4])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    for n in range(files):
        (drop / f"{n}.txt").write_text(f"file {n}")
    server.faults = [Fault("GET /system/logs", how) for how in (500, "drop")] + [Fault("POST .*presign", 503, 2)]
    with (tmp_path / "dispatcher.log").open("wb") as log:

        def begun() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-m", "volvox.dispatch"], env=environment, stdout=log, stderr=log)

        process = begun()
        try:
            for kill in range(1, kills + 1):
                until(lambda kill=kill: len([*out.glob("*.txt")]) >= kill * files // (kills + 1), 60 + 3 * files)
                process.send_signal(signal.SIGKILL)
                process.wait()
                process = begun()
            until(lambda: len([*out.glob("*.txt")]) == files, 60 + 3 * files)
        finally:
            process.terminate()
            process.wait()
    assert sorted(path.read_text() for path in out.glob("*.txt")) == sorted(f"FILE {n}" for n in range(files))
    # Only one that was killed between taking an answer and noting it has it given once more.
    assert files <= (tmp_path / "runs").read_text().count("run") <= files + kills
    assert server.writes == ["POST upper"]
