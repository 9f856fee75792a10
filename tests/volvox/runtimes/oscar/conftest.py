"""A cluster, and the runtime on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.volvox.runtimes.benches import Oscar
from tests.volvox.runtimes.oscar.server import OscarServer
from tests.volvox.runtimes.tiny import write_tiny

Test = Callable[[Oscar], Awaitable[None]]


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "USER", "PASSWORD", "TOKEN", "TOKEN_FILE", "VERIFY"):
        monkeypatch.setenv(f"VOLVOX_OSCAR_{name}", "")  # whatever a bench says of it is taken back
    site = write_tiny(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Test], None]:
    """Run a coroutine function with the runtime and its cluster; afterwards nothing is left there."""

    def run(test: Test) -> None:
        async def with_bench() -> None:
            bench = Oscar(tmp_path)
            try:
                await test(bench)
            finally:
                await bench.close()
            assert not await bench.left()

        asyncio.run(with_bench())

    return run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OscarServer]:
    """A cluster alone."""
    made = OscarServer(tmp_path / "cluster")
    yield made
    made.close()
