from __future__ import annotations

import time

import pytest

from volvox.cli.stage_lines import StageLine, StageLines, clock, counts, details, number
from volvox.progress import Event


def line_after(*events: Event) -> StageLine:
    line = StageLine("training")
    for event in events:
        line.hear(event)
    return line


def advanced(done: float, at: float, total: float = 30) -> Event:
    return Event("training", "advanced", done=done, total=total, unit="epochs", at=at)


def test_what_is_left_follows_from_the_pace_up_to_now() -> None:
    now = time.monotonic()
    line = line_after(Event("training", "started", at=now - 10), advanced(1, now - 9), advanced(10, now))
    assert line.left_seconds() == pytest.approx(20, abs=0.5)


def test_what_a_checkpoint_brought_tells_nothing_of_the_pace() -> None:
    now = time.monotonic()
    line = line_after(Event("training", "started", at=now - 12), advanced(20, now - 10), advanced(25, now))
    assert line.left_seconds() == pytest.approx(10, abs=0.5)


def test_nothing_is_said_of_what_is_left_where_it_is_not_known() -> None:
    now = time.monotonic()
    assert line_after(Event("training", "started", at=now), advanced(3, now, total=0)).left_seconds() is None
    assert line_after(Event("training", "started", at=now - 9), advanced(30, now)).left_seconds() is None
    assert StageLine("training").left_seconds() is None


def test_a_second_attempt_begins_anew_and_is_counted() -> None:
    line = line_after(
        Event("training", "started", at=1), advanced(30, 5), Event("training", "finished", at=6),
        Event("training", "started", at=7),
    )  # fmt: skip
    assert (line.mark, line.attempt, line.done, line.seconds(9)) == ("running", 2, 0.0, 2)


def test_a_reused_stage_stays_reused_when_it_finishes() -> None:
    line = line_after(Event("x", "started", at=1), Event("x", "reused", text="same data"), Event("x", "finished", at=2))
    assert (line.mark, line.note, line.seconds(9)) == ("reused", "same data", 1)


def test_a_failure_without_words_was_a_stop() -> None:
    assert line_after(Event("x", "started", at=1), Event("x", "failed", at=3)).note == "stopped"


def test_notes_outside_of_a_stage_belong_to_the_whole() -> None:
    lines = StageLines(("data",))
    lines.hear(Event("", "noted", text="starting MLflow"))
    lines.hear(Event("data", "started"))
    assert lines.note == "starting MLflow"
    assert [line.mark for line in lines.now()] == ["running"]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0.0 s"), (4.25, "4.2 s"), (59.96, "1:00"), (65, "1:05"), (7384, "2:03:04")]
)
def test_a_duration_is_told_as_a_clock_does(seconds: float, said: str) -> None:
    assert clock(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(812.4, "812"), (0.03125, "0.0312"), (12.0, "12"), (1797, "1 797"), (2.5, "2.5")]
)
def test_a_number_is_told_with_three_digits(value: float, said: str) -> None:
    assert number(value) == said


def test_rates_are_told_with_their_unit_and_other_numbers_by_name() -> None:
    assert details({"images/s": 812.4, "val_loss": 0.0312, "device": "cpu", "ok": True}) == [
        "812 images/s", "val loss 0.0312",
    ]  # fmt: skip
    assert counts(StageLine("data", done=1797, unit="images")) == "1 797 images"
    assert counts(StageLine("training", done=3, total=30, unit="epochs")) == "3/30 epochs"
