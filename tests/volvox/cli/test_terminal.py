from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from volvox import progress
from volvox.cli.terminal import PlainLog, cycle_view
from volvox.progress import Event

CYCLE = """
import sys, threading, time
from volvox import progress
from volvox.cli.main import failure_of
from volvox.cli.terminal import cycle_view
try:
    with cycle_view():
        with progress.stage("data"):
            progress.note("1797 images, 10 classes")
        with progress.stage("training"):
            for epoch in range(1, 400):
                progress.advance(epoch, 400, "epochs", **{"images/s": 812.0})
                time.sleep(0.05)
except BaseException as error:
    failure = failure_of(error)
    print(failure.message)
    sys.exit(failure.exit_code)
"""


def test_plain_lines_have_a_time_and_progress_is_throttled() -> None:
    out = io.StringIO()
    log = PlainLog(out)
    log.hear(Event("training", "started", at=100.0))
    for step in range(1, 101):
        log.hear(
            Event("training", "advanced", done=step, total=100, unit="epochs", detail={"loss": 0.5}, at=100 + step / 10)
        )
    log.hear(Event("training", "finished", at=110.0))
    lines = out.getvalue().splitlines()
    assert len(lines) == 1 + 5 + 1 + 1, "started, one each two seconds, the last, finished"
    assert all(line[2] == line[5] == ":" for line in lines)
    assert lines[-2].endswith("training: 100/100 epochs, loss 0.5")
    assert lines[-1].endswith("training: finished in 10.0 s")


def test_plain_lines_tell_reuse_failure_and_notes() -> None:
    out = io.StringIO()
    log = PlainLog(out)
    for event in (
        Event("", "noted", text="port 4200 is taken"), Event("data", "started", at=1.0),
        Event("data", "reused", text="same files"), Event("training", "started", at=1.0),
        Event("training", "failed", text="no memory", at=3.0),
    ):  # fmt: skip
        log.hear(event)
    said = [line[9:] for line in out.getvalue().splitlines()]
    assert said == [
        "port 4200 is taken", "data: started", "data: reused (same files)", "training: started",
        "training: failed after 2.0 s: no memory",
    ]  # fmt: skip


def test_a_quiet_view_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with cycle_view(quiet=True), progress.stage("data"):
        progress.note("something")
    assert capfd.readouterr() == ("", "")


def test_without_a_terminal_lines_go_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with cycle_view(), progress.stage("data"):
        progress.note("something")
    out, err = capfd.readouterr()
    assert out == ""
    assert "data: something" in err


def on_a_terminal(variables: dict[str, str], ending: signal.Signals) -> tuple[str, int]:
    """What a terminal gets to see of the cycle above until `ending` is sent, and the exit code."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", **variables}
    child = subprocess.Popen(
        [sys.executable, "-c", CYCLE], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    seen = b""
    began, sent = time.monotonic(), False
    while time.monotonic() - began < 120:
        if select.select([master], [], [], 0.1)[0]:
            try:
                block = os.read(master, 65536)
            except OSError:
                break
            if not block:
                break
            seen += block
        if not sent and b"images/s" in seen:
            time.sleep(0.3)
            child.send_signal(ending)
            sent = True
    os.close(master)
    return seen.decode(), child.wait(10)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_of_the_tree_leaves_the_terminal_as_it_was(ending: signal.Signals) -> None:
    seen, code = on_a_terminal({"PYTHONIOENCODING": "utf-8"}, ending)
    assert code == 130
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor is shown again"
    assert seen.rstrip().endswith("stopped; run the same command again to go on")
    assert "├─" in seen
    assert "812 images/s" in seen
    assert "✘" in seen


def test_a_dumb_terminal_gets_plain_lines() -> None:
    seen, code = on_a_terminal({"TERM": "dumb"}, signal.SIGINT)
    assert code == 130
    assert "\x1b" not in seen
    assert "training: " in seen


def test_no_color_is_respected() -> None:
    seen, _ = on_a_terminal({"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}, signal.SIGINT)
    assert "├─" in seen
    assert "\x1b[3" not in seen.replace("\x1b[3A", "")
