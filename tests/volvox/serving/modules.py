"""Tiny model modules, each a distribution of its own written into a folder, found by entry point like real ones."""

from __future__ import annotations

from pathlib import Path

ANSWERS = """
import os, pathlib, time
from marshmallow import fields, validate


def get_metadata():
    return {"name": "tiny", "summary": "Says how large a file is.", "author": "a test"}


def warm():
    weights = pathlib.Path(os.environ["VOLVOX_WEIGHTS"])
    if (weights / "refuse-to-warm").exists():
        raise RuntimeError("these weights cannot be read")


def get_predict_args():
    return {
        "image": fields.Raw(required=True, metadata={"type": "file", "location": "form", "description": "An image."}),
        "top": fields.Int(load_default=2, validate=validate.Range(1, 9), metadata={"description": "How many"}),
        "labels": fields.List(fields.String(), metadata={"description": "More labels."}),
        "mode": fields.String(load_default="answer", metadata={"description": "What to do."}),
    }


def predict(image, top, mode, labels=()):
    weights = pathlib.Path(os.environ["VOLVOX_WEIGHTS"])
    version = (weights / "version").read_text() if (weights / "version").exists() else ""
    if mode == "die":
        os._exit(3)
    if mode == "raise":
        raise KeyError("no such layer")
    if mode == "sleep":
        time.sleep(3)
    if mode == "pause":
        time.sleep(0.2)
    if mode == "nan":
        return float("nan")
    if mode == "stream":
        return (part for part in (b"one,", b"", b"two"))
    if mode == "torn":
        return torn()
    if mode == "bytes":
        return b"\\x89raw"
    size = os.path.getsize(image.filename)
    if mode == "remove":
        os.remove(image.filename)
    probability = float((weights / "probability").read_text()) if (weights / "probability").exists() else 0.75
    return {
        "labels": ["large", "small", *labels][:top], "probabilities": [probability, 0.25][:top], "version": version,
        "bytes": size, "name": image.original_filename, "type": image.content_type, "pid": os.getpid(),
    }


def torn():
    yield b"one,"
    raise RuntimeError("there is no more")
"""
BROKEN = "import a_library_that_nobody_has\n"
PLAIN = """
schema = None


def predict(**arguments):
    return {"given": sorted(arguments)}
"""
STRICT = """
from marshmallow import fields

schema = {"status": fields.String(required=True), "predictions": fields.Dict()}


def get_predict_args():
    return {"fit": fields.Boolean(load_default=True)}


def predict(fit):
    return {"status": "OK", "predictions": {"a": 1}} if fit else {"something": "else"}
"""
TENSORS = """
import os, time
import numpy as np
from marshmallow import ValidationError

CALLS = []


def get_tensors():
    return {
        "inputs": [
            {"name": "numbers", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "words", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "sums", "datatype": "FP32", "shape": [-1]},
            {"name": "shouted", "datatype": "BYTES", "shape": [-1]},
            {"name": "rows", "datatype": "INT64", "shape": [-1, 2]},
        ],
    }


def infer(inputs):
    numbers, words = inputs["numbers"], inputs["words"].tolist()
    if b"die" in words:
        os._exit(3)
    if b"raise" in words:
        raise KeyError("no such layer")
    if b"refuse" in words:
        raise ValidationError({"words": ["That word is not taken."]})
    if b"slow" in words:
        time.sleep(0.3)
    numbers += 0  # a module may write to what it is given
    together = np.full((len(words), 2), len(words))
    return {"sums": numbers.sum(axis=1, dtype=np.float64), "shouted": [word.upper() for word in words],
            "rows": together}


def predict(**arguments):
    return {"given": sorted(arguments)}
"""
TYPES = """
NAMES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
         "BYTES"]


def get_tensors():
    both = [{"name": name.lower(), "datatype": name, "shape": [2, 2]} for name in NAMES]
    return {"inputs": both, "outputs": both}


def infer(inputs, parameters):
    if parameters.get("infinite"):
        inputs["fp32"][0, 0] = float("inf")
    return inputs


def predict():
    return 1
"""
_MODULES = {
    "tiny": ANSWERS, "tiny_broken": BROKEN, "tiny_plain": PLAIN, "tiny_strict": STRICT, "tiny_tensors": TENSORS,
    "tiny_types": TYPES,
}  # fmt: skip


def write_modules(folder: Path) -> Path:
    """Write the distributions `tiny`, `tiny-broken`, `tiny-plain` and so on; `folder` goes on PYTHONPATH."""
    for name, source in _MODULES.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
        (folder / name / "api.py").write_text(source)
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[deepaas.v2.model]\n{name.replace('_', '-')} = {name}.api\n")
    return folder


def write_weights(folder: Path, version: str, **files: str) -> Path:
    """A folder of weights of module `tiny` that makes it say it is `version`."""
    folder.mkdir(parents=True)
    for name, content in {"version": version, **files}.items():
        (folder / name.replace("_", "-")).write_text(content)
    return folder
