from __future__ import annotations

import dataclasses
import re
import zipfile
from pathlib import Path

import pytest

from tests.volvox.packaging import standin
from volvox.identity import files_digest
from volvox.modules import discovery
from volvox.packaging.context import Recipe, dockerfile, image_labels, repository_name, write_context
from volvox.store import Store


@pytest.fixture
def recipe(made: standin.Made, store: Store) -> Recipe:
    return Recipe(
        title="brightness",
        version="3",
        module=discovery.find("standin"),
        weights=store.tree(made.version.weights_tree),
        check=store.tree(made.dataset.held_out_tree) / "images/dark/0.png",
        base="engines/python:3.11",
        labels={"org.opencontainers.image.title": "brightness"},
    )


def _digest(folder: Path) -> str:
    return files_digest(folder, (path for path in folder.rglob("*") if path.is_file()))


def test_equal_recipes_give_equal_contexts(recipe: Recipe, tmp_path: Path) -> None:
    assert _digest(write_context(recipe, tmp_path / "a")) == _digest(write_context(recipe, tmp_path / "b"))


def test_the_commands_of_deepaas_are_in_a_wheel_of_their_own(recipe: Recipe, tmp_path: Path) -> None:
    wheels = sorted((write_context(recipe, tmp_path / "context") / "wheels").iterdir())
    points = {
        wheel.name.partition("-")[0]: read(wheel)
        for wheel in wheels
        if wheel.name.startswith(("volvox-", "volvox_dee"))
    }
    assert set(re.findall(r"^[\w-]+", points["volvox_deepaas"], re.MULTILINE)) == {
        "deepaas-run", "deepaas-cli", "deepaas-predict"
    }  # fmt: skip
    assert "deepaas-" not in points["volvox"], "an installed deepaas would lose its own"


def read(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        return archive.read(name).decode().partition("[console_scripts]")[2].partition("[")[0]


def test_what_only_training_reads_stays_out_where_there_is_an_export(recipe: Recipe, tmp_path: Path) -> None:
    folder = write_context(recipe, tmp_path / "context")
    assert sorted(path.name for path in (folder / "model").iterdir()) == ["bias.txt", "model.onnx"]


def test_a_module_without_an_export_keeps_all_its_weights(recipe: Recipe, tmp_path: Path) -> None:
    weights = tmp_path / "only"
    weights.mkdir()
    (weights / "net.safetensors").write_bytes(b"x")
    folder = write_context(dataclasses.replace(recipe, weights=weights), tmp_path / "context")
    assert (folder / "model" / "net.safetensors").is_file()


def test_a_module_that_keeps_its_weights_elsewhere_is_packed_with_an_empty_folder(
    recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "none").mkdir()
    folder = write_context(dataclasses.replace(recipe, weights=tmp_path / "none"), tmp_path / "context")
    assert [path.name for path in (folder / "model").iterdir()] == [".empty"]


def test_every_requirement_is_pinned_and_none_is_torch(recipe: Recipe, tmp_path: Path) -> None:
    lines = (write_context(recipe, tmp_path / "context") / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines)
    assert any(line.startswith("onnxruntime==") for line in lines)
    assert not [line for line in lines if line.split("==")[0] in ("torch", "prefect", "mlflow", "volvox")]


def test_dependencies_are_installed_before_code_and_weights_are_copied(recipe: Recipe) -> None:
    text = dockerfile(recipe)
    places = [text.index(part) for part in ("-r /build/requirements.txt", "COPY wheels", "COPY model", "USER 1000")]
    assert places == sorted(places)


def test_a_label_cannot_leave_its_quotes_nor_expand_a_variable(recipe: Recipe) -> None:
    labels = {"a": 'x" b="y\nRUN echo $HOME \\'}
    line = next(
        line for line in dockerfile(dataclasses.replace(recipe, labels=labels)).splitlines() if line.startswith("LABEL")
    )
    assert line == 'LABEL a="x\\" b=\\"y RUN echo \\$HOME \\\\"'


def test_the_gpu_variant_has_its_own_tag_and_asks_for_the_device(recipe: Recipe) -> None:
    gpu = dataclasses.replace(recipe, gpu=True)
    assert (recipe.tag, recipe.latest) == ("3", "latest")
    assert (gpu.tag, gpu.latest) == ("3-gpu", "latest-gpu")
    assert "NVIDIA_VISIBLE_DEVICES" in dockerfile(gpu)
    assert "NVIDIA" not in dockerfile(recipe)


def test_cuda_and_cudnn_are_resolved_in_the_gpu_image_while_the_cpu_s_closure_is_complete(recipe: Recipe) -> None:
    cpu, gpu = dockerfile(recipe), dockerfile(dataclasses.replace(recipe, gpu=True))
    assert cpu.count("--no-deps") == 2
    assert gpu.count("--no-deps") == 1


def test_labels_use_the_oci_names_and_leave_out_what_is_not_known() -> None:
    labels = image_labels(
        "digits", "2", {"summary": "Digits.", "links": {"source_code": "https://x"}}, {"code": "abc"}, base="python"
    )
    assert labels == {
        "org.opencontainers.image.title": "digits",
        "org.opencontainers.image.version": "2",
        "org.opencontainers.image.description": "Digits.",
        "org.opencontainers.image.source": "https://x",
        "org.opencontainers.image.revision": "abc",
        "org.opencontainers.image.base.name": "python",
        "volvox.code": "abc",
    }


@pytest.mark.parametrize(
    ("name", "repository"), [("digits", "digits"), ("My_Model..2", "my-model-2"), ("...", "model")]
)
def test_a_repository_name_is_one_that_every_registry_takes(name: str, repository: str) -> None:
    assert repository_name(name) == repository
