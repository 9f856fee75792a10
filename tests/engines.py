"""The real engines of VOLVOX_ENGINES, for the tests that need one."""

from __future__ import annotations

import os
import subprocess
from functools import cache

import pytest


def engine_environment(names: list[str]) -> dict[str, str]:
    """What the engines `names` ask to be set; each is started if it does not run.

    Without VOLVOX_ENGINES the test is skipped; with it, an engine that does not start fails the test.
    """
    if not names:
        return {}
    if not os.environ.get("VOLVOX_ENGINES"):
        pytest.skip(f"VOLVOX_ENGINES is not set: no {', '.join(names)} here")
    return dict(_started(tuple(names)))


@cache
def _started(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    up = f"{os.environ['VOLVOX_ENGINES']}/up"
    told = subprocess.run([up, *names], capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, f"engines {names} do not start: {told.stderr[-2000:]}"
    return tuple((name, value) for name, _, value in (w.partition("=") for w in told.stdout.split()) if value)
