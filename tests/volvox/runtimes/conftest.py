"""The runtimes that the suite is run with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.volvox.runtimes.benches import Bench, Local
from tests.volvox.runtimes.tiny import write_tiny

BENCHES: dict[str, type[Bench]] = {"local": Local}
_MARKS = {"docker": [pytest.mark.docker]}

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


@pytest.fixture(params=[pytest.param(name, marks=_MARKS.get(name, [])) for name in BENCHES])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a coroutine function with one runtime after the other; afterwards nothing is left of it."""
    site = write_tiny(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))

    def run(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def with_bench() -> None:
            bench = BENCHES[request.param](tmp_path)
            try:
                await test(bench)
            finally:
                await bench.close()
            assert not await bench.left()

        asyncio.run(with_bench())

    return run
