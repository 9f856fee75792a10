"""Find and end every process that a service consists of, whatever became of its records.

Each service is started with a mark in its environment, which its children inherit: so a process is ours if the mark
says so, even if whoever started it was killed before it could write that down, or if a child leads its own session.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from volvox.identity import process_started
from volvox.settings import Home

MARK = "VOLVOX_SERVICE"


def mark(home: Home, name: str) -> dict[str, str]:
    """The variable that makes a process part of service `name` of this home."""
    return {MARK: f"{name}@{home.root}"}


def marked(home: Home) -> dict[str, dict[int, float]]:
    """Service name -> pid -> start of every process of this home's services."""
    ending = f"@{home.root}"
    found: dict[str, dict[int, float]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        value = _variable(folder / "environ", MARK)
        if value.endswith(ending) and (started := process_started(int(folder.name))) is not None:
            found.setdefault(value.removesuffix(ending), {})[int(folder.name)] = started
    return found


def end(processes: dict[int, float], patience_seconds: float = 3.0) -> None:
    """Ask processes to end, and kill those that have not after a while; returns when all are gone."""
    _signal(processes, signal.SIGTERM)
    if not _gone(processes, patience_seconds):
        _signal(processes, signal.SIGKILL)
        _gone(processes, 2.0)


def memory_bytes(pids: Iterable[int]) -> int:
    """Memory of some processes, what they share counted once (proportional set size)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += 1024 * int(text.partition("\nPss:")[2].split()[0])
    return total


def _variable(environ: Path, name: str) -> str:
    try:
        block = environ.read_bytes()
    except OSError:  # another user's, or gone meanwhile
        return ""
    start = f"{name}=".encode()
    return next((item[len(start) :].decode() for item in block.split(b"\0") if item.startswith(start)), "")


def _alive(processes: dict[int, float]) -> list[int]:
    return [pid for pid, started in processes.items() if process_started(pid) == started]


def _signal(processes: dict[int, float], number: signal.Signals) -> None:
    for pid in _alive(processes):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _gone(processes: dict[int, float], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _alive(processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
