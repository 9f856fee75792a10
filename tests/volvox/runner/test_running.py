"""The job runner as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.runtimes.benches import processes_with
from volvox.runner import __main__ as runner
from volvox.runner.running import Ended
from volvox.runner.work import Paths, Work, command_of, file_name, prepare

RUNNER = runner.__file__


def work(folder: Path, script: str, **more: Any) -> Work:
    told = {"folder": str(folder / "run"), "output": str(folder / "output"), "result": str(folder / "result")}
    (folder / "run").mkdir(exist_ok=True)
    return Work(**{**told, "script": script, "timeout_seconds": 30.0, "log": str(folder / "log"), **more})


def started(asked: Work, folder: Path) -> subprocess.Popen:
    (folder / "request").write_text(asked.as_json())
    # Another interpreter's environment, with nothing of ours in it: it needs the standard library only.
    return subprocess.Popen([sys.executable, "-I", RUNNER, str(folder / "request"), str(os.getpid())])


def ran(folder: Path, script: str, **more: Any) -> Ended:
    """What becomes of a script."""
    assert started(work(folder, script, **more), folder).wait(60) == 0
    return Ended(**json.loads((folder / "result").read_text()))


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    ended = ran(tmp_path, "echo printed; echo said >&2; echo out > $TMP_OUTPUT_DIR/a")
    assert (ended.kind, ended.exit_code, ended.printed) == ("", 0, "printed\n")
    assert (tmp_path / "output" / "a").read_text() == "out\n"
    assert sorted((tmp_path / "log").read_text().split()) == ["printed", "said"]


def test_no_secret_of_the_dispatcher_is_in_the_script_s_environment(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-scripts")
    assert "not-for-scripts" not in ran(tmp_path, "env").printed


def test_told_to_end_it_ends_the_script_and_what_that_started(tmp_path: Path) -> None:
    process = started(work(tmp_path, "trap '' TERM; setsid sleep 1000 & sleep 1000"), tmp_path)
    while len(processes_with(str(tmp_path))) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert json.loads((tmp_path / "result").read_text())["kind"] == "cancelled"
    assert processes_with(str(tmp_path)) == []


LATE = """
import os, signal, sys
from volvox.runner import running
from volvox.runner.work import Work
told, end = [], running._Watch._end
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
def late(watch, group):
    end(watch, group)
    os.kill(os.getpid(), signal.SIGTERM)
running._Watch._end = late
for count in (1, 2):
    assert running.run(Work.from_json(sys.argv[1])).kind == ""
    assert len(told) == count, told
"""


def test_whoever_goes_on_after_a_script_hears_what_came_while_it_was_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LATE, work(tmp_path, "echo printed").as_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_when_who_started_it_is_killed_nothing_is_left(tmp_path: Path) -> None:
    asked = work(tmp_path, "setsid sleep 1000 & sleep 1000")
    (tmp_path / "request").write_text(asked.as_json())
    code = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, {RUNNER!r}, {str(tmp_path / 'request')!r}, str(os.getpid())])\n"
        "time.sleep(1000)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while len(processes_with(str(tmp_path))) < 4:
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 15
    while processes_with(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_with(str(tmp_path)) == []


def test_a_full_disk_is_told_as_that(tmp_path: Path, small_disk: Path) -> None:
    (small_disk / "output").mkdir()
    script = 'dd if=/dev/zero of="$TMP_OUTPUT_DIR/large" bs=1M count=100 2>&1'
    ended = ran(tmp_path, script, output=str(small_disk / "output"))
    assert ended.kind == "storage" and "full" in ended.reason and ended.exit_code == 1


def test_one_that_writes_more_than_it_may_is_ended(tmp_path: Path) -> None:
    script = 'while true; do dd if=/dev/zero bs=1M count=4 2>/dev/null >> "$TMP_OUTPUT_DIR/large"; sleep 0.1; done'
    ended = ran(tmp_path, script, storage_mb=10)
    assert ended.kind == "storage" and "10 MB" in ended.reason


def test_a_process_that_was_left_behind_does_not_keep_it_waiting(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = ran(tmp_path, "sleep 1000 & setsid sleep 1000 & echo over")
    assert ended.printed == "over\n" and time.monotonic() - began < 10
    assert processes_with(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo", ["/bin/sh", "S"]),
        ("", ["own", "command"]),
        ("#!/bin/sh\n", ["/bin/sh", "S"]),
        ("#! /usr/bin/env  python3 -u \n", ["/usr/bin/env", "python3 -u", "S"]),
        ("\ufeff#!/bin/bash -eu\r\n", ["/bin/bash", "-eu", "S"]),
        ("#!\n", ["/bin/sh", "S"]),
        ("\n#!/bin/bash\n", ["/bin/sh", "S"]),
    ],
)
def test_the_interpreter_line_is_read_as_the_kernel_does(script: str, expected: list[str]) -> None:
    asked = Work("f", "o", script=script, command=("own", "command"))
    assert command_of(asked, Paths("i", "o", "S", "e", "t")) == expected


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("a/b.png", "b.png"),
        ("..", "input"),
        ("a/..", "input"),
        ("", "given"),
        ("ü" * 200 + ".png", "ü" * 125 + ".png"),
    ],
)
def test_the_file_has_the_name_that_the_key_ends_with(tmp_path: Path, relative: str, expected: str) -> None:
    (tmp_path / "given").write_text("content")
    asked = work(tmp_path, "echo", relative=relative, input=str(tmp_path / "given"))
    assert file_name(asked) == expected
    prepare(asked)
    assert (tmp_path / "run" / "input" / expected).read_text() == "content"
