"""A module that learns nothing, quickly, and a dataset for it."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from volvox.records import Dataset
from volvox.store import Store

LEARNER = """
import hashlib, json, os, time
from pathlib import Path
from webargs import fields, validate

def get_train_args():
    return {
        "epochs": fields.Int(load_default=2, validate=validate.Range(min=1)),
        "seconds": fields.Float(load_default=0.0),
        "skill": fields.Float(load_default=1.0),
        "fail": fields.Str(load_default=""),
    }

def train(data, output, checkpoints, epochs, seconds, skill, fail):
    Path(checkpoints, "pid").write_text(str(os.getpid()))
    print("run", os.environ["MLFLOW_RUN_ID"], flush=True)
    for epoch in range(len(list(Path(checkpoints).glob("epoch-*"))), epochs):
        time.sleep(seconds)
        if fail:
            raise RuntimeError(fail)
        line = {"epoch": epoch, "done": epoch + 1, "total": epochs, "unit": "epochs", "step": epoch,
                "images_per_second": 50.0, "metrics": {"val_accuracy": epoch / 10}}
        with Path(output, "progress.jsonl").open("a") as stream:
            print(json.dumps(line), file=stream, flush=True)
        Path(checkpoints, f"epoch-{epoch}").touch()
    classes = Path(data, "dataset_files", "classes.txt").read_text().splitlines()
    Path(output, "model.json").write_text(json.dumps({"skill": skill, "classes": classes}))
    return {"metrics": {"val_accuracy": skill}}

def get_predict_args():
    return {
        "image": fields.Field(required=True, metadata={"type": "file", "location": "form"}),
        "top": fields.Int(load_default=5, validate=validate.Range(min=1)),
    }

def _chosen(name, model):
    true = int(Path(name).stem.split("-")[0]) % len(model["classes"])
    luck = int(hashlib.sha256(Path(name).stem.encode()).hexdigest(), 16) % 1000 / 1000
    return true if luck < model["skill"] else (true + 1) % len(model["classes"])

def predict(image, top):
    model = json.loads(Path(os.environ["VOLVOX_WEIGHTS"], "model.json").read_text())
    names = model["classes"]
    chosen = names[_chosen(image.original_filename, model)]
    others = [name for name in names if name != chosen]
    return {"status": "OK", "predictions": {
        "labels": [chosen, *others][:top],
        "probabilities": [0.8, *[0.2 / len(others)] * len(others)][:top],
    }}
"""

EVALUATE = """

def evaluate(data, output, weights):
    import numpy as np
    model = json.loads(Path(weights, "model.json").read_text())
    lines = [line.split() for line in Path(data, "dataset_files", "test.txt").read_text().splitlines()]
    probabilities = np.full((len(lines), len(model["classes"])), 0.01, np.float32)
    for row, (name, _) in enumerate(lines):
        probabilities[row, _chosen(name, model)] = 0.9
    np.savez(Path(output, "predictions.npz"), labels=np.array([int(label) for _, label in lines]),
             probabilities=probabilities, files=np.array([name for name, _ in lines]))
    return {"task": "classification", "classes": model["classes"], "predictions": "predictions.npz"}
"""


@pytest.fixture
def name() -> str:
    """A model's name that no other test uses: all share one MLflow database."""
    return f"model-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(home) -> Store:
    """The store of this test's home."""
    return Store.open(home.store, home.cache)


@pytest.fixture
def make_dataset(store: Store, tmp_path: Path):
    """`make_dataset(classes=("cat", "dog", "owl"), images=60)`: grey squares, named `LABEL-NUMBER.png`."""

    def make(classes: tuple[str, ...] = ("cat", "dog", "owl"), images: int = 60) -> Dataset:
        from PIL import Image

        trees = {}
        for tree, parts in (("learning", ("train", "val")), ("held_out", ("test",))):
            folder = tmp_path / f"{tree}-{uuid.uuid4().hex}"
            for sub in ("images", "dataset_files"):
                (folder / sub).mkdir(parents=True)
            (folder / "dataset_files" / "classes.txt").write_text("\n".join(classes) + "\n")
            lines = []
            for number in range(images):
                label = number % len(classes)
                Image.new("L", (8, 8), 20 * label).save(folder / "images" / f"{label}-{number}.png")
                lines.append(f"{label}-{number}.png {label}")
            for part in parts:
                (folder / "dataset_files" / f"{part}.txt").write_text("\n".join(lines) + "\n")
            trees[tree] = store.put_tree(folder)
        counts = tuple(len(range(label, images, len(classes))) for label in range(len(classes)))
        return Dataset(
            name="squares", source="https://user:secret@example.org/squares.zip?signature=secret", classes=classes,
            counts={"train": counts, "val": counts, "test": counts}, content=f"{classes} {images}",
            learning_tree=trees["learning"], held_out_tree=trees["held_out"], manifest_object=store.put_bytes(b"[]"),
        )  # fmt: skip

    return make


@pytest.fixture
def dataset(make_dataset) -> Dataset:
    """60 images of three classes."""
    return make_dataset()


@pytest.fixture
def learner(install_module) -> str:
    """The module's name, installed for this test; it has no `evaluate`."""
    install_module("learner", LEARNER)
    return "learner"


@pytest.fixture
def evaluating_learner(install_module) -> str:
    """The same with an `evaluate`, and a threshold of its own."""
    install_module("learner", LEARNER + EVALUATE, "quality: {metric: accuracy, threshold: 0.6}\n")
    return "learner"
