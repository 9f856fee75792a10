from __future__ import annotations

import asyncio
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.engine import ContainerEngine
from tasks.packaging import package_model
from tests.volvox.packaging import standin
from volvox import progress
from volvox.errors import VolvoxError
from volvox.records import Image
from volvox.store import FolderStore, Store

LIMIT_BYTES = 350_000_000


def _package(made: standin.Made, store: Store, engine: ContainerEngine, **options: bool) -> Image:
    return asyncio.run(
        package_model.fn(made.version, made.evaluation, made.dataset, store=store, engine=engine, **options)
    )


def _reused(made: standin.Made, store: Store, engine: ContainerEngine, **options: bool) -> tuple[Image, bool]:
    kinds: list[str] = []
    with progress.listening(lambda event: kinds.append(event.kind)):
        image = _package(made, store, engine, **options)
    return image, "reused" in kinds


@pytest.fixture(scope="module")
def engine_environment() -> Iterator[dict[str, str]]:
    with standin.docker() as environment:
        yield environment


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def made(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> standin.Made:
    return standin.cycle_until_packaging(tmp_path, store, monkeypatch)


@pytest.fixture
def no_engine(tmp_path: Path) -> ContainerEngine:
    return ContainerEngine(host=f"unix://{tmp_path}/absent.sock")


def test_without_an_engine_the_build_context_is_kept_and_the_record_says_why(
    made: standin.Made, store: Store, no_engine: ContainerEngine
) -> None:
    image = _package(made, store, no_engine)
    assert not image.built
    assert "does not answer" in image.reason
    with tarfile.open(store.path(image.context_object)) as archive:
        names = archive.getnames()
    assert {"Dockerfile", "requirements.txt", "model/bias.txt", "model/model.onnx", "check/held-out.png"} <= set(names)
    assert "model/model.safetensors" not in names
    bill = json.loads(store.path(image.sbom_object).read_bytes())
    assert "onnxruntime" in {part["name"] for part in bill["components"]}


def test_no_image_is_built_where_none_is_asked_for(
    made: standin.Made, store: Store, no_engine: ContainerEngine
) -> None:
    image = _package(made, store, no_engine, build=False)
    assert (image.built, image.reason) == (False, "none was asked for (--no-image)")


def test_a_second_packaging_is_reused(made: standin.Made, store: Store, no_engine: ContainerEngine) -> None:
    first = _package(made, store, no_engine)
    assert _reused(made, store, no_engine) == (first, True)


def test_another_base_image_makes_another_context(made: standin.Made, store: Store, no_engine: ContainerEngine) -> None:
    other = no_engine.model_copy(update={"base_image": "python:3.99-slim"})
    assert _package(made, store, other).context_object != _package(made, store, no_engine).context_object


@pytest.mark.docker
class TestWithAnEngine:
    @pytest.fixture
    def engine(self, engine_environment: dict[str, str]) -> ContainerEngine:
        return ContainerEngine(host="unix:///var/run/docker.sock", base_image=engine_environment["ENGINE_BASE_IMAGE"])

    def test_the_image_is_small_healthy_and_carries_no_training(
        self, made: standin.Made, store: Store, engine: ContainerEngine, no_engine: ContainerEngine
    ) -> None:
        image = _package(made, store, engine)
        assert image.built
        assert image.bytes < LIMIT_BYTES
        opened = engine.open()
        config = opened.image(image.name)["Config"]
        assert config["User"] == "1000:1000"
        assert config["Labels"]["org.opencontainers.image.licenses"] == "MIT"
        assert config["Labels"]["volvox.context"] == image.context_object
        with opened.running(image.image_id, 5000) as (container, _):
            code = (
                "import importlib.util as u, os; print(os.getuid(),"
                "[n for n in ('torch', 'prefect', 'mlflow', 'pip', 'setuptools') if u.find_spec(n)])"
            )
            assert opened.execute(container, ["python", "-c", code])[1].strip() == "1000 []"
            assert opened.execute(container, ["sh", "-c", "command -v gcc cc ld"])[0] != 0
            for command in ("deepaas-run", "deepaas-cli", "deepaas-predict"):
                status, said = opened.execute(container, [command, "--version"])
                assert (status, [int(part) for part in said.strip().split(".")] >= [2, 5, 0]) == (0, True), said
            line = "deepaas-cli --deepaas_method_output /tmp/metadata.json get_metadata 2>&1"
            status, said = opened.execute(container, ["sh", "-c", line])
            assert (status, "return: {" in said) == (0, True), said
            assert _healthy(opened, container)
        parts = {part["name"] for part in json.loads(store.path(image.sbom_object).read_bytes())["components"]}
        assert {"volvox", "volvox-standin", "onnxruntime", "numpy"} <= parts
        assert not parts & {"torch", "prefect", "mlflow"}

        assert _reused(made, store, engine) == (image, True)
        absent = engine.model_copy(update={"host": no_engine.host})
        assert _reused(made, store, absent) == (image, True), "what was built counts without an engine too"
        assert _reused(made, store, engine, build=False) == (image, True)

        opened._api.remove_image(image.image_id, force=True)
        again, reused = _reused(made, store, engine)
        assert not reused
        assert opened.has(again.image_id)

    def test_a_change_of_code_keeps_the_layer_of_the_dependencies(
        self, made: standin.Made, store: Store, engine: ContainerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = _package(made, store, engine)
        layers = engine.open().image(before.image_id)["RootFS"]["Layers"]
        standin.install(tmp_path / "site", monkeypatch, code=f"{standin.CODE}\n# changed at {time.time()}\n")
        after = _package(made, store, engine)
        assert after.context_object != before.context_object
        rebuilt = engine.open().image(after.image_id)["RootFS"]["Layers"]
        heaviest = max(range(len(after.layers)), key=lambda number: after.layers[number][1])
        shared = [old == new for old, new in zip(layers, rebuilt, strict=True)]
        assert shared.index(False) > 1, "what is installed lies in layers of its own"
        assert sum(size for _, size in after.layers[:heaviest]) < after.layers[heaviest][1]
        assert not engine.open().has(before.image_id), "the image that lost its name is removed"

    def test_an_engine_that_comes_later_builds_what_was_not_built(
        self, made: standin.Made, store: Store, engine: ContainerEngine, no_engine: ContainerEngine
    ) -> None:
        base = no_engine.model_copy(update={"base_image": engine.base_image})
        assert not _package(made, store, base).built
        assert _package(made, store, engine).built

    def test_a_base_image_that_cannot_be_fetched_is_said_and_tried_again_the_next_time(
        self, made: standin.Made, store: Store, engine: ContainerEngine
    ) -> None:
        far = engine.model_copy(update={"base_image": "127.0.0.1:1/absent:1"})
        image = _package(made, store, far)
        assert not image.built and "cannot be fetched" in image.reason and "ENGINE_BASE_IMAGE" in image.reason
        again, reused = _reused(made, store, far)
        assert (again.built, again.reason, reused) == (False, image.reason, False)

    def test_an_image_that_answers_otherwise_than_the_evaluation_gets_no_name(
        self, made: standin.Made, store: Store, engine: ContainerEngine, tmp_path: Path
    ) -> None:
        wrong = standin.trained(store, tmp_path / "wrong", name="wrong", bias=0.7)
        with pytest.raises(VolvoxError, match=r"answers 0\.png wrongly.*it gets no name"):
            _package(wrong, store, engine)
        assert engine.open()._api.images(name="volvox/wrong") == []
        assert engine.open()._api.containers(all=True, filters={"label": ["volvox.check"]}) == []

    def test_an_image_is_pushed_where_a_registry_is_set(
        self,
        made: standin.Made,
        store: Store,
        engine: ContainerEngine,
        engine_environment: dict[str, str],
    ) -> None:
        registry = engine_environment["ENGINE_REGISTRY"]
        image = _package(made, store, engine.model_copy(update={"registry": registry}))
        assert image.pushed.startswith(f"{registry}/volvox/brightness@sha256:")
        import httpx

        name, _, digest = image.pushed.removeprefix(f"{registry}/").partition("@")
        accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
        assert httpx.get(f"http://{registry}/v2/{name}/manifests/{digest}", headers=accept).status_code == 200


def _healthy(opened: object, container: str, patience_seconds: float = 60) -> bool:
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        if opened.state(container)["Health"]["Status"] == "healthy":  # type: ignore[attr-defined]
            return True
        time.sleep(0.2)
    return False
