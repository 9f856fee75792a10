"""What is known of each stage while a cycle runs, put together from progress events; no terminal needed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from volvox.progress import Event

STAGES = (
    "data", "training", "evaluation", "registration", "packaging", "publication", "serving", "inference",
)  # fmt: skip

Mark = Literal["waiting", "running", "done", "reused", "failed"]


@dataclass
class StageLine:
    """One stage as it is now; times are `time.monotonic()`."""

    name: str
    mark: Mark = "waiting"
    began: float = 0.0
    ended: float = 0.0
    attempt: int = 0
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    first_at: float = 0.0
    first_done: float = 0.0

    def seconds(self, now: float) -> float:
        """How long it has run, or ran."""
        return (self.ended or now) - self.began if self.began else 0.0

    def left_seconds(self) -> float | None:
        """How long it will still run if it goes on as fast as up to now; None where that is not known."""
        made, passed = self.done - self.first_done, self.latest - self.first_at
        if self.total <= 0 or made <= 0 or passed <= 0 or self.done >= self.total:
            return None
        return max(0.0, (self.total - self.done) * passed / made - (time.monotonic() - self.latest))

    latest: float = 0.0

    def hear(self, event: Event) -> None:
        """Take in what happened."""
        if event.kind == "started":
            attempt = self.attempt + 1
            self.__init__(self.name, mark="running", began=event.at, attempt=attempt)
        elif event.kind == "advanced":
            if not self.latest:
                self.first_at, self.first_done = (self.began or event.at), 0.0
                if event.done > 1:  # it went on from a checkpoint: what was done before tells nothing of the pace
                    self.first_at, self.first_done = event.at, event.done
            self.done, self.total, self.unit, self.latest = event.done, event.total, event.unit, event.at
            self.detail = event.detail or self.detail
        elif event.kind == "noted":
            self.note = event.text
        elif event.kind == "reused":
            self.mark, self.note = "reused", event.text or self.note
        elif event.kind == "finished":
            self.ended = event.at
            if self.mark != "reused":
                self.mark = "done"
        elif event.kind == "failed":
            self.mark, self.ended, self.note = "failed", event.at, event.text or "stopped"


class StageLines:
    """All stages of a cycle; events may come from any thread."""

    def __init__(self, names: tuple[str, ...] = STAGES) -> None:
        self.began = time.monotonic()
        self.note = ""
        self._lines = {name: StageLine(name) for name in names}
        self._lock = threading.Lock()

    def hear(self, event: Event) -> None:
        """Take in what happened."""
        with self._lock:
            if event.stage in self._lines:
                self._lines[event.stage].hear(event)
            elif event.text:
                self.note = event.text

    def now(self) -> list[StageLine]:
        """Copies of all lines, in order."""
        with self._lock:
            return [StageLine(**vars(line)) for line in self._lines.values()]


def counts(line: StageLine) -> str:
    """How far a stage is: `12/30 epochs`, `512 images`, or empty."""
    if not line.unit:
        return ""
    done = f"{line.done:,.0f}".replace(",", " ")
    return f"{done}/{line.total:,.0f} {line.unit}".replace(",", " ") if line.total else f"{done} {line.unit}"


def details(detail: dict[str, Any], most: int = 3) -> list[str]:
    """Numbers as people read them: `812 images/s`, `loss 0.031`."""
    return [
        f"{number(value)} {name}" if "/" in name else f"{name.replace('_', ' ')} {number(value)}"
        for name, value in list(detail.items())[:most]
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def number(value: float) -> str:
    """Three significant digits, and no exponent where people expect none."""
    if value == int(value) and abs(value) < 1e9:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def clock(seconds: float) -> str:
    """`4.2 s` below a minute, then `1:05` and `2:03:04`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
