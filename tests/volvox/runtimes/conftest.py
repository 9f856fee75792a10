"""The runtimes that the suite is run with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.engines import engine_environment
from tests.volvox.runtimes.benches import Bench, Docker, Local
from tests.volvox.runtimes.tiny import image_of, write_tiny
from tests.volvox.runtimes.tiny_image import built

BENCHES: dict[str, type[Bench]] = {"local": Local, "docker": Docker}
_MARKS = {"docker": [pytest.mark.docker]}

Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serving images of the tiny module on the engine of VOLVOX_ENGINES: version -> id."""
    told = engine_environment(["docker"])
    with built(tmp_path_factory.mktemp("tiny-images"), told["ENGINE_BASE_IMAGE"]) as images:
        yield images


@pytest.fixture(params=[pytest.param(name, marks=_MARKS.get(name, [])) for name in BENCHES])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a coroutine function with one runtime after the other; afterwards nothing is left of it."""
    site = write_tiny(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))

    images = {}
    if request.param == "docker":
        needed = getattr(request.module, "MODELS", False)
        images = request.getfixturevalue("tiny_images") if needed else engine_environment(["docker"]) and {}

    def run(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def with_bench() -> None:
            bench = BENCHES[request.param](tmp_path)
            bench.models.images = {version: image_of(version, image) for version, image in images.items()}
            try:
                await test(bench)
            finally:
                await bench.close()
            assert not await bench.left()

        asyncio.run(with_bench())

    return run
