"""Data made here: coloured squares and bars, which a network learns in seconds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("bar", "cross", "dot")
# On pictures this small a second thread learns nothing faster: both wait for each other, at the cost of a core each.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def picture(label: int, random: np.random.Generator, side: int = 16) -> Image.Image:
    pixels = random.integers(0, 60, (side, side, 3), dtype=np.uint8)
    middle = side // 2 + int(random.integers(-2, 3))
    bright = random.integers(160, 255, 3, dtype=np.uint8)
    if label in (0, 1):
        pixels[middle - 1 : middle + 1, 2:-2] = bright
    if label == 1:
        pixels[2:-2, middle - 1 : middle + 1] = bright
    if label == 2:
        pixels[middle - 2 : middle + 2, middle - 2 : middle + 2] = bright
    return Image.fromarray(pixels)


def write_dataset(root: Path, each: int, *, classes: tuple[str, ...] = CLASSES, seed: int = 0, side: int = 16) -> Path:
    """A dataset in DEEP's layout: 60 % to learn from, 20 % to validate, 20 % held out."""
    random = np.random.default_rng(seed)
    lists = root / "dataset_files"
    lists.mkdir(parents=True)
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(classes):
        (root / "images" / name).mkdir(parents=True)
        for number in range(each):
            file = f"{name}/number {number}.png"
            picture(label, random, side).save(root / "images" / file)
            part = "train" if number % 5 < 3 else "val" if number % 5 == 3 else "test"
            lines[part].append(f"{file} {label}")
    (lists / "classes.txt").write_text("\n".join(classes) + "\n")
    for part, said in lines.items():
        (lists / f"{part}.txt").write_text("\n".join(said) + "\n")
    return root


@pytest.fixture(autouse=True)
def _no_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATA", "OUTPUT", "CHECKPOINTS", "WEIGHTS"):
        monkeypatch.delenv(f"VOLVOX_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "shapes", 40)


@pytest.fixture(scope="session")
def version(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained version of the shapes."""
    pytest.importorskip("pytorch_lightning", reason="training needs the extra `train`")
    from image_classifier import api

    output = tmp_path_factory.mktemp("version")
    api.train(data=dataset, output=output, epochs=12, batch_size=12)
    return output


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of this test write no ONNX: it takes longer than the few epochs that the test looks at."""
    from image_classifier import export

    monkeypatch.setattr(export, "_export", lambda network, path, preprocessing: path.write_bytes(b""))
    monkeypatch.setattr(export, "largest_difference", lambda network, path, images: 0.0)
