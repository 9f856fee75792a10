from __future__ import annotations

import dataclasses
import re
import threading
from pathlib import Path

import pytest

from tests.volvox.packaging import standin
from volvox.errors import InvalidInput
from volvox.identity import files_digest
from volvox.modules import discovery
from volvox.packaging import training_context
from volvox.packaging.requirements import Pin
from volvox.packaging.training_context import Dependencies, TrainingRecipe, training_code

PINS = (Pin("numpy", "2.4.6"), Pin("torch", "2.13.0"))


@pytest.fixture
def dependencies() -> Dependencies:
    return Dependencies("engines/python:3.11", PINS)


@pytest.fixture
def recipe() -> TrainingRecipe:
    return TrainingRecipe(discovery.find("image_classifier"), "engines/python:3.11")


def _wheel_of(cuda: bool, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    wheel = folder / "torch-2.13.0-cp311.whl"
    wheel.write_bytes(b"a wheel")
    monkeypatch.setattr(training_context, "fetch_wheel", lambda *_, **__: wheel)
    monkeypatch.setattr(training_context, "needs_cuda", lambda _: cuda)
    return wheel


def _text(dependencies: Dependencies, monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    _wheel_of(False, monkeypatch, folder)
    text = dependencies.context(folder, threading.Event())["Dockerfile"]
    assert isinstance(text, bytes)
    return text.decode()


def test_torch_travels_with_the_context_and_is_no_line_of_the_requirements(
    dependencies: Dependencies, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = _wheel_of(False, monkeypatch, tmp_path)
    files = dependencies.context(tmp_path, threading.Event())
    assert files[f"torch/{wheel.name}"] == wheel
    assert files["requirements.txt"] == b"numpy==2.4.6\n"


def test_torch_is_a_layer_below_the_other_dependencies_and_its_wheel_is_in_none(
    dependencies: Dependencies, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = _text(dependencies, monkeypatch, tmp_path).rpartition("FROM ")[2]
    assert image.index("COPY --from=torch") < image.index("-r /build/requirements.txt")
    assert not re.search(r"COPY torch", image)


def test_a_wheel_with_cuda_is_refused_for_an_image_without(
    dependencies: Dependencies, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheel = _wheel_of(True, monkeypatch, tmp_path)
    with pytest.raises(InvalidInput, match="set TORCH_INDEX"):
        dependencies.context(tmp_path, threading.Event())
    assert not wheel.exists(), "the next try shall not find it"


def test_an_image_for_gpus_takes_the_torch_of_the_index_and_a_compiler(
    dependencies: Dependencies, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = dataclasses.replace(dependencies, gpu=True)
    text = _text(gpu, monkeypatch, tmp_path)
    assert "-c /build/requirements.txt torch==2.13.0" in text
    assert "NVIDIA_VISIBLE_DEVICES=all" in text
    assert "gcc" in text
    assert not [name for name in gpu.context(tmp_path, threading.Event()) if name.startswith("torch/")]


def test_a_module_without_torch_gets_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = _text(Dependencies("base", PINS[:1]), monkeypatch, tmp_path)
    assert "torch" not in "".join(line for line in text.splitlines() if not line.startswith("#"))
    assert "python3 -m venv" in text


@pytest.mark.parametrize(
    "change", [{"base": "other"}, {"gpu": True}, {"index": "https://x"}, {"pins": (Pin("numpy", "2.5"), PINS[1])}]
)
def test_what_is_in_the_image_of_the_dependencies_is_in_its_name(dependencies: Dependencies, change: dict) -> None:
    assert dataclasses.replace(dependencies, **change).name != dependencies.name
    assert dataclasses.replace(dependencies).name == dependencies.name


def test_nothing_phones_home_and_no_server_is_started_in_a_job(
    dependencies: Dependencies, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = _text(dependencies, monkeypatch, tmp_path)
    for setting in (
        "DO_NOT_TRACK=1", "PREFECT_SERVER_ANALYTICS_ENABLED=false", "MLFLOW_DISABLE_TELEMETRY=true",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=false",
    ):  # fmt: skip
        assert setting in text


def test_the_context_of_the_code_is_small_and_equal_for_equal_code(recipe: TrainingRecipe, tmp_path: Path) -> None:
    folders = [recipe.write(tmp_path / name) for name in ("a", "b")]
    digests = {files_digest(folder, (path for path in folder.rglob("*") if path.is_file())) for folder in folders}
    assert len(digests) == 1
    assert sum(path.stat().st_size for path in folders[0].rglob("*") if path.is_file()) < 5e6
    assert sorted(path.name.partition("-")[0] for path in (folders[0] / "wheels").iterdir()) == [
        "volvox", "volvox_image_classifier"
    ]  # fmt: skip


def test_the_image_of_the_code_stands_on_that_of_the_dependencies_and_runs_as_nobody_special(
    recipe: TrainingRecipe, tmp_path: Path
) -> None:
    text = (recipe.write(tmp_path / "context") / "Dockerfile").read_text()
    assert f"ARG DEPENDENCIES={recipe.dependencies.name}\nFROM ${{DEPENDENCIES}}\n" in text
    assert f'volvox.code="{recipe.code}"' in text
    assert text.index("RUN ") < text.index("USER 1000:1000") < text.index('CMD ["python", "-m", "prefect.engine"]')


def test_torch_and_what_the_module_trains_with_are_among_the_dependencies(recipe: TrainingRecipe) -> None:
    names = {pin.name for pin in recipe.dependencies.pins}
    assert {"torch", "pytorch-lightning", "onnxscript", "prefect-client", "mlflow-skinny", "obstore"} <= names
    assert not names & {"volvox", "volvox-image-classifier", "prefect", "mlflow"}


def test_names_follow_the_module_the_code_and_the_variant(recipe: TrainingRecipe) -> None:
    gpu = dataclasses.replace(recipe, gpu=True)
    assert recipe.repository == gpu.repository == "volvox/training-image-classifier"
    assert recipe.tags == (recipe.code[:12], "latest")
    assert gpu.tags == (f"{recipe.code[:12]}-gpu", "latest-gpu")
    assert (recipe.variant, gpu.variant) == ("image_classifier", "image_classifier-gpu")
    assert recipe.digest != gpu.digest


def test_other_code_of_the_module_is_another_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standin.install(tmp_path / "site", monkeypatch)
    before = training_code(discovery.find("standin"))
    standin.install(tmp_path / "site", monkeypatch, code=f"{standin.CODE}\nCHANGED = True\n")
    assert training_code(discovery.find("standin")) != before


def test_another_pool_is_the_same_code(recipe: TrainingRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("volvox", "flows", "tasks", "blocks", "deployments/pools"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "code").write_text("")
    monkeypatch.setattr(training_context, "_root", lambda: tmp_path)
    before = training_code(recipe.module)
    (tmp_path / "deployments" / "pools" / "new.yaml").write_text("")
    assert training_code(recipe.module) == before
    (tmp_path / "deployments" / "new.py").write_text("")
    assert training_code(recipe.module) != before
