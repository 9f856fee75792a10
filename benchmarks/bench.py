"""Command lines on a home of their own, and what was measured of them against its limits."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Bench:
    """Runs command lines on one home and collects figures.

    Attributes:
        home: Their VOLVOX_HOME.
        environment: What else they find in their environment.
        rows: What was told: title, figure, limit or None.
        processor_seconds: Of the last command line and its children, user and system.
    """

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[str, float, float | None]] = field(default_factory=list)
    processor_seconds: float = 0.0

    def run(self, *words: str) -> tuple[float, subprocess.CompletedProcess[str]]:
        """Wall seconds of one fresh Python, and what it printed; where it fails the measurement ends."""
        environment = {**os.environ, **self.environment, "VOLVOX_HOME": str(self.home)}
        began, spent = time.monotonic(), _of_children()
        done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
        seconds, self.processor_seconds = time.monotonic() - began, _of_children() - spent
        if done.returncode:
            sys.exit(f"{' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
        return seconds, done

    def told(self, title: str, figure: float, limit: float | None = None) -> None:
        """Print a figure and remember it."""
        self.rows.append((title, figure, limit))
        print(f"{title:64} {figure:8.2f}" + (f"   limit {limit:g}" if limit is not None else ""), flush=True)

    @property
    def broken(self) -> list[str]:
        """Titles of the figures that are over their limit."""
        return [title for title, figure, limit in self.rows if limit is not None and figure > limit]


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
