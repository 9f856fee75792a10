"""A version is asked the model's held-out files before calls go to it, and its answers are looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from volvox.errors import ModuleFailed
from volvox.runtimes.interface import Call, Outcome
from volvox.serving import smoke

_SECONDS = 120.0  # for one file


def calls_of(samples: Sequence[Path], folder: Path) -> list[Call]:
    """A call for each sample, whose answers go into folders below `folder`."""
    found = []
    for number, path in enumerate(samples):
        output = folder / str(number)
        output.mkdir()
        found.append(
            Call(f"{number:032x}", path, output, key=path.name, relative=path.name, timeout_seconds=_SECONDS)
        )  # fmt: skip
    return found


def look_at(calls: Sequence[Call], outcomes: Sequence[Outcome], labels: tuple[str, ...]) -> None:
    """Look at what a version answered.

    Raises:
        ModuleFailed: If it failed, or answered what cannot be right.
    """
    for call, outcome in zip(calls, outcomes, strict=True):
        if outcome.kind:
            raise ModuleFailed(f"asked {call.key}, the model failed: {outcome.reason}")
        assert call.output is not None
        for file in call.output.glob("*.json"):
            if wrong := smoke.fault(json.loads(file.read_bytes()), labels):
                raise ModuleFailed(f"asked {call.key}, the model's answer cannot be right: {wrong}")
