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


def write_modules(folder: Path) -> Path:
    """Write the distributions `tiny`, `tiny-broken`, `tiny-plain` and `tiny-strict`; `folder` goes on PYTHONPATH."""
    for name, source in (("tiny", ANSWERS), ("tiny_broken", BROKEN), ("tiny_plain", PLAIN), ("tiny_strict", STRICT)):
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
