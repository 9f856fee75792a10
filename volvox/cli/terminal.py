"""Show a cycle while it runs: a live tree on a terminal, plain lines with times elsewhere; on standard error."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from volvox import progress
from volvox.cli.stage_lines import STAGES, StageLine, StageLines, clock, counts, details

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_BAR = 16
_NAME = 17  # columns: branch, mark, name
_SECONDS = 7
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_LINE_SECONDS = 2.0


@contextlib.contextmanager
def cycle_view(quiet: bool = False, stages: tuple[str, ...] = STAGES) -> Iterator[None]:
    """Show what the stages say until the block ends.

    SIGTERM ends the block as Ctrl-C does, so that whatever ends the work leaves the terminal as it was and children
    are ended.

    Args:
        quiet: Show nothing, for a command that prints JSON.
        stages: The stages that will run, in order.
    """
    with _terminated_as_interrupted():
        if quiet:
            yield
        elif sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            with _tree(stages):
                yield
        else:
            with progress.listening(PlainLog(sys.stderr).hear):
                yield


class PlainLog:
    """One line an event, with the time of day; progress of a stage at most every two seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: dict[str, StageLine] = {}
        self._said_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def hear(self, event: progress.Event) -> None:
        """Print what happened, if it is worth a line."""
        with self._lock:
            line = self._lines.setdefault(event.stage, StageLine(event.stage))
            line.hear(event)
            if text := self._text(event, line):
                stage = f"{event.stage}: " if event.stage else ""
                self._stream.write(f"{time.strftime('%H:%M:%S')} {stage}{text}\n")
                self._stream.flush()

    def _text(self, event: progress.Event, line: StageLine) -> str:
        if event.kind == "started":
            self._said_at.pop(event.stage, None)
            return "started" if line.attempt < 2 else f"started, attempt {line.attempt}"
        if event.kind == "advanced":
            last = event.total > 0 and event.done >= event.total
            if not last and event.at - self._said_at.get(event.stage, -_LINE_SECONDS) < _LINE_SECONDS:
                return ""
            self._said_at[event.stage] = event.at
            left = line.left_seconds()
            about = [f"about {clock(left)} left"] if left is not None else []
            return ", ".join([counts(line), *details(line.detail, most=6), *about])
        if event.kind == "noted":
            return event.text
        if event.kind == "reused":
            return f"reused{f' ({event.text})' if event.text else ''}"
        if event.kind == "finished":
            return f"finished in {clock(line.seconds(event.at))}"
        if event.kind == "failed":
            return f"failed after {clock(line.seconds(event.at))}: {line.note}"
        return ""


class Tree:
    """The stages as a tree that changes in place."""

    def __init__(self, lines: StageLines, console: Console) -> None:
        self._lines = lines
        self._console = console
        self._plain = not console.encoding.lower().startswith("utf")

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        now = time.monotonic()
        table = Table.grid(padding=(0, 1))
        # Fixed at both ends: what is too long is cut in the middle column and nowhere else.
        table.add_column(no_wrap=True, width=_NAME)
        table.add_column(no_wrap=True, max_width=max(10, self._console.width - _NAME - _SECONDS - 3))
        table.add_column(no_wrap=True, min_width=_SECONDS, justify="right")
        lines = self._lines.now()
        branches = ("|- ", "`- ") if self._plain else ("├─ ", "└─ ")
        for position, line in enumerate(lines):
            branch = branches[position == len(lines) - 1]
            name = Text.assemble((branch, "dim"), self._mark(line, now), " ", (f"{line.name:<12}", _style(line)))
            seconds = clock(line.seconds(now)) if line.began else ""
            table.add_row(name, self._middle(line), Text(seconds, style="dim" if line.ended else ""))
        title = Text.assemble(("cycle ", "bold"), (clock(now - self._lines.began), "dim"))
        whole = Table.grid()
        whole.add_row(title if not self._lines.note else Text.assemble(title, "  ", (self._lines.note, "dim")))
        whole.add_row(table)
        return whole

    def _mark(self, line: StageLine, now: float) -> tuple[str, str]:
        if line.mark == "running":
            return ("*" if self._plain else _FRAMES[int(now * 10) % len(_FRAMES)], "cyan")
        shown = {"waiting": (" ", ""), "done": ("✔", "green"), "reused": ("✔", "green"), "failed": ("✘", "bold red")}
        mark, style = shown[line.mark]
        return ({"✔": "+", "✘": "x"}.get(mark, mark) if self._plain else mark, style)

    def _middle(self, line: StageLine) -> Text:
        from rich.text import Text

        if line.mark == "waiting":
            return Text()
        if line.mark == "failed":
            return Text(" ".join(line.note.split()), style="red")
        if line.mark == "reused":
            return Text.assemble(("reused", "italic"), (f"  {line.note}" if line.note else "", "dim"))
        if line.mark == "done":
            return Text(line.note or ", ".join(filter(None, [counts(line), *details(line.detail)])), style="dim")
        left = line.left_seconds()
        remaining = f"{clock(left)} left" if left is not None else ""
        parts = [counts(line), remaining, *details(line.detail)]
        told = " · ".join(part for part in parts if part) if not self._plain else ", ".join(filter(None, parts))
        told = told or line.note
        if line.attempt > 1:
            told = f"attempt {line.attempt}  {told}"
        return Text.assemble(*self._bar(line), told) if line.total else Text(told)

    def _bar(self, line: StageLine) -> list[tuple[str, str]]:
        full = round(_BAR * min(1.0, line.done / line.total))
        filled, rest = ("#", ".") if self._plain else ("━", "─")
        return [(filled * full, "cyan"), (rest * (_BAR - full), "dim"), (" ", "")]


@contextlib.contextmanager
def _tree(stages: tuple[str, ...]) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live

    lines, console = StageLines(stages), Console(stderr=True)
    live = Live(Tree(lines, console), console=console, refresh_per_second=8, vertical_overflow="crop")
    with live, progress.listening(lines.hear):
        yield


def _style(line: StageLine) -> str:
    return {"waiting": "dim", "running": "bold", "failed": "bold red"}.get(line.mark, "")


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
