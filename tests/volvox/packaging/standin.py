"""A small model module, installed below a folder, with the records of a cycle that trained it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image as Picture

from volvox.modules import discovery
from volvox.records import ClassScore, Dataset, Evaluation, ModelVersion, TrainedModel, Verdict
from volvox.store import Store

CLASSES = ("dark", "light")
REQUIRES = ("marshmallow>=3.13", "numpy>=1.26", "onnxruntime>=1.20", "pillow>=10", "webargs>=5.5.3")
CODE = """
import os
from pathlib import Path

from marshmallow import fields


def get_metadata():
    return {"name": "standin"}


def get_predict_args():
    return {"image": fields.Raw(required=True, metadata={"type": "file", "location": "form"})}


def predict(image):
    import numpy
    import onnxruntime
    from PIL import Image

    bias = float(Path(os.environ["VOLVOX_WEIGHTS"], "bias.txt").read_text())
    light = min(1.0, max(0.0, numpy.asarray(Image.open(image.filename).convert("L")).mean() / 255 + bias))
    best = sorted({"dark": 1 - light, "light": light}.items(), key=lambda item: -item[1])
    labels, probabilities = zip(*best)
    return {"status": "OK", "predictions": {"labels": labels, "probabilities": probabilities}}
"""
METADATA = """
metadata_version: 2.3.0
title: Light or dark
license: MIT
summary: Tells light images from dark ones.
description: Compares the **mean** brightness with one half.
links: {source_code: https://example.org/standin}
libraries: [Other]
tasks: [Computer Vision]
categories: [AI4 inference]
tags: [brightness]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = CODE, metadata: str = METADATA) -> None:
    """Install the stand-in below `folder` as pip does a wheel, for this process and its children."""
    package, information = folder / "standin_model", folder / "volvox_standin-1.0.dist-info"
    for place in (package, information):
        place.mkdir(parents=True, exist_ok=True)
    files = {
        package / "__init__.py": code,
        package / "metadata.yaml": metadata,
        information / "METADATA": "Metadata-Version: 2.4\nName: volvox-standin\nVersion: 1.0\nLicense-Expression: MIT\n"
        + "".join(f"Requires-Dist: {line}\n" for line in REQUIRES),
        information / "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        information / "entry_points.txt": "[deepaas.v2.model]\nstandin = standin_model\n",
    }
    for path, text in files.items():
        path.write_text(textwrap.dedent(text))
    listed = [*files, information / "RECORD"]
    (information / "RECORD").write_text("".join(f"{path.relative_to(folder).as_posix()},,\n" for path in listed))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@contextlib.contextmanager
def docker() -> Iterator[dict[str, str]]:
    """What the Docker engine of VOLVOX_ENGINES needs in the environment; it is stopped if it was started here."""
    engines = os.environ.get("VOLVOX_ENGINES")
    if not engines:
        pytest.skip("VOLVOX_ENGINES is not set: no Docker engine to test with")
    try:
        running = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        running = False
    told = subprocess.run([f"{engines}/up", "docker"], capture_output=True, text=True, timeout=300, check=True).stdout
    try:
        yield dict(word.split("=", 1) for word in told.replace("export ", "").split())
    finally:
        if not running:
            subprocess.run([f"{engines}/down", "docker"], capture_output=True, timeout=60, check=False)


@dataclass(frozen=True)
class Made:
    """The records of a finished training of the stand-in."""

    dataset: Dataset
    model: TrainedModel
    evaluation: Evaluation
    version: ModelVersion


def cycle_until_packaging(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The stand-in installed and trained, with a home below `folder`."""
    monkeypatch.setenv("VOLVOX_HOME", str(folder / "home"))
    install(folder / "site", monkeypatch)
    return trained(store, folder / "made")


def trained(store: Store, folder: Path, *, name: str = "brightness", bias: float = 0.0) -> Made:
    """Records as the stages before packaging leave them; `bias` other than 0 makes the model answer otherwise."""
    module = discovery.find("standin")
    dataset = _dataset(store, folder / "held-out")
    weights = folder / "weights"
    weights.mkdir(parents=True)
    (weights / "bias.txt").write_text(str(bias))
    (weights / "model.onnx").write_bytes(b"an export")
    (weights / "model.safetensors").write_bytes(b"what only training reads" * 1000)
    model = TrainedModel(
        module="standin", module_version="1.0", code=module.code, dataset=dataset.digest,
        arguments={"epochs": 3}, weights_tree=store.put_tree(weights), run_id="f00d", seconds=2.5,
    )  # fmt: skip
    report = folder / "report"
    report.mkdir()
    for plot in ("confusion.png", "reliability.png", "mistakes.png"):
        Picture.new("RGB", (8, 8), "white").save(report / plot)
    evaluation = Evaluation(
        model=model.digest, dataset=dataset.digest, images=4,
        metrics={"accuracy": 0.975, "macro_f1": 0.97, "calibration_error": 0.02},
        per_class=tuple(ClassScore(name=name, precision=1, recall=0.95, f1=0.97, support=2) for name in CLASSES),
        confusion=((2, 0), (0, 2)), report_tree=store.put_tree(report), predictions_object=_predictions(store, folder),
    )  # fmt: skip
    version = ModelVersion(
        name=name, version="1", model=model.digest, module="standin", code=module.code, weights_tree=model.weights_tree,
        run_id="f00d", champion=True,
        verdict=Verdict(accepted=True, reason="accuracy 0.975 >= 0.9", metric="accuracy", value=0.975, threshold=0.9),
    )  # fmt: skip
    return Made(dataset, model, evaluation, version)


def _dataset(store: Store, folder: Path) -> Dataset:
    lists = folder / "dataset_files"
    lists.mkdir(parents=True)
    (lists / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (lists / "test.txt").write_text("".join(f"{CLASSES[i % 2]}/{i}.png {i % 2}\n" for i in range(4)))
    for i in range(4):
        path = folder / "images" / CLASSES[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(20 if i % 2 == 0 else 230))
    held_out = store.put_tree(folder)
    return Dataset(
        name="brightness", source="made", classes=CLASSES, counts={"train": (6, 6), "val": (2, 2), "test": (2, 2)},
        content="c0ffee", learning_tree=held_out, held_out_tree=held_out,
        manifest_object=store.put_bytes(json.dumps([]).encode()), rejected_total=0, bytes=4000,
    )  # fmt: skip


def _predictions(store: Store, folder: Path) -> str:
    import numpy as np

    from volvox.evaluation.predictions import Predictions

    light = np.array([(20 if i % 2 == 0 else 230) / 255 for i in range(4)])
    said = Predictions(
        CLASSES,
        np.array([0, 1, 0, 1]),
        np.stack([1 - light, light], 1),
        tuple(f"{CLASSES[i % 2]}/{i}.png" for i in range(4)),
    )
    said.save(folder / "predictions.npz")
    return store.put_file(folder / "predictions.npz")


def picture(grey: int) -> bytes:
    """A PNG of one grey."""
    stream = io.BytesIO()
    Picture.new("L", (16, 16), grey).save(stream, "PNG")
    return stream.getvalue()
