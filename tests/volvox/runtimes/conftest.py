"""The runtimes that the suite is run with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.engines import engine_environment
from tests.volvox.runtimes.aws.benches import Batch, Ecs, Lambda, LambdaBatch, OnAws
from tests.volvox.runtimes.benches import Bench, Docker, Kubernetes, Local, Oscar
from tests.volvox.runtimes.tiny import image_of, write_tiny
from tests.volvox.runtimes.tiny_image import built, name_of

BENCHES: dict[str, type[Bench]] = {
    one.name: one for one in (Local, Docker, Kubernetes, Lambda, Batch, LambdaBatch, Ecs, Oscar)
}  # fmt: skip
_ENGINES = {"docker": ["docker"], "kubernetes": ["docker", "k8s"]}
_ENGINES |= {name: ["docker", "aws"] for name, one in BENCHES.items() if issubclass(one, OnAws)}
_MARKS = {
    name: [pytest.mark.apart, *(getattr(pytest.mark, engine) for engine in engines)]
    for name, engines in _ENGINES.items()
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What happens inside of an image is looked at on every engine; on OSCAR's, a server of the tests, at full size."""
    for item in items:
        found = getattr(item, "callspec", None)
        if item.get_closest_marker("inside") and found and "oscar" in found.params.values():
            item.add_marker(pytest.mark.soak)


Run = Callable[[Callable[[Bench], Awaitable[None]]], None]


@pytest.fixture(scope="session")
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Serving images of the tiny module on the engine of VOLVOX_ENGINES: version -> id."""
    told = engine_environment(["docker"])
    with built(tmp_path_factory.mktemp("tiny-images"), told["ENGINE_BASE_IMAGE"]) as images:
        yield images


_ALL = [pytest.param(name, marks=_MARKS.get(name, [])) for name in BENCHES]


@pytest.fixture(params=_ALL)
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a coroutine function with one runtime after the other; afterwards nothing is left of it."""
    images = _prepared(request, tmp_path, monkeypatch)

    def run(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def with_bench() -> None:
            bench = _made(request.param, tmp_path, images)
            try:
                await test(bench)
            finally:
                await bench.close()
            assert not await bench.left()

        asyncio.run(with_bench())

    return run


@pytest.fixture(scope="module", params=_ALL)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """As `run`, with a function that the tests of one file share: they only call it."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        images = _prepared(request, folder, patch)

        async def made() -> Bench:  # inside of the loop that it lives in
            bench = _made(request.param, folder, images, shared=True)
            await bench.deploy(bench.function())
            return bench

        bench = runner.run(made())
        try:
            yield lambda test: runner.run(test(bench))
        finally:
            runner.run(bench.close())
        assert not runner.run(bench.left())


def _prepared(request: pytest.FixtureRequest, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make the tiny module importable; the images that the tests of this file need."""
    site = write_tiny(folder / "site")
    for name in ("ENDPOINT", "USER", "PASSWORD"):
        patch.setenv(f"VOLVOX_OSCAR_{name}", "")  # whatever a bench says of it is taken back
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])))
    if request.param not in _ENGINES:
        return {}
    for name, value in engine_environment(_ENGINES[request.param]).items():
        patch.setenv(name, value)
    patch.setenv("VOLVOX_REGISTRY", "127.0.0.1:5000")
    return request.getfixturevalue("tiny_images") if getattr(request.module, "MODELS", False) else {}


def _made(name: str, folder: Path, images: dict[str, str], *, shared: bool = False) -> Bench:
    kind = BENCHES[name]
    bench = kind(folder, shared=shared) if issubclass(kind, OnAws) else kind(folder)
    bench.models.images |= {version: image_of(version, image, name_of(version)) for version, image in images.items()}
    return bench
