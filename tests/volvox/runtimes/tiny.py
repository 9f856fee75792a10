"""A model module that does what the first line of its file says, and the models that functions of it name."""

from __future__ import annotations

from pathlib import Path

from volvox.errors import NotFound
from volvox.records import Image
from volvox.runtimes.models import Model

SOURCE = """
import os, pathlib, time
from marshmallow import ValidationError, fields

HELD = []


def warm():
    if (pathlib.Path(os.environ["VOLVOX_WEIGHTS"]) / "refuse-to-warm").exists():
        raise RuntimeError("these weights cannot be read")


def get_metadata():
    return {"name": "tiny-function"}


def get_predict_args():
    return {
        "image": fields.Raw(required=True, metadata={"type": "file", "location": "form"}),
        "top": fields.Int(load_default=1),
    }


def predict_batch(requests):
    return [answer(batch=len(requests), **request) for request in requests]


def predict(image, top):
    return answer(image, top, 1)


def answer(image, top, batch):
    weights = pathlib.Path(os.environ["VOLVOX_WEIGHTS"])
    said, *words = pathlib.Path(image.filename).read_text(errors="replace").split() or [""]
    if said == "crash":
        os._exit(3)
    if said == "raise":
        raise KeyError("no such layer")
    if said == "sleep":
        time.sleep(float(words[0]))
    if said == "refuse":
        raise ValidationError({"image": ["Not an image."]})
    if said == "hang":
        while True:
            try:
                time.sleep(60)
            except BaseException:
                pass
    if said == "eat":
        for _ in range(60):
            HELD.append(bytearray(os.urandom(1 << 20) * 16))
            time.sleep(0.02)
    if said == "print":
        print("seen:", *words, flush=True)
    if said == "binary":
        return b"\\x89raw"
    return {"version": (weights / "version").read_text(), "top": top, "batch": batch, "pid": os.getpid(), "name":
            image.original_filename}
"""


def write_tiny(site: Path) -> Path:
    """Write the distribution `tiny_function` into the folder `site`, which goes on PYTHONPATH."""
    package = site / "tiny_function"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "api.py").write_text(SOURCE)
    info = site / "tiny_function-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny_function\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[deepaas.v2.model]\ntiny-function = tiny_function.api\n")
    return site


class TinyModels:
    """Versions `tiny/1`, `tiny/2`, ... made as they are asked for; `tiny/broken` does not warm."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sample = "fine"
        self.images: dict[str, Image] = {}

    def resolve(self, reference: str) -> Model:
        name, _, version = reference.partition("/")
        if name != "tiny":
            raise NotFound(f"no model {reference}")
        weights = self._folder / f"weights-{version}"
        if not weights.is_dir():
            weights.mkdir(parents=True)
            (weights / "version").write_text(version)
            if version == "broken":
                (weights / "refuse-to-warm").touch()
        digest = f"{sum(map(ord, version)):064x}"
        return Model(name, version, digest, "tiny-function", weights=str(weights), samples="sample")

    def weights(self, model: Model) -> Path | None:
        return Path(model.weights)

    def samples(self, model: Model) -> list[Path]:
        path = self._folder / "sample.txt"
        path.write_text(self.sample)
        return [path]

    def image(self, model: Model) -> Image | None:
        return self.images.get(model.version)


def image_of(version: str, image_id: str, name: str = "") -> Image:
    """The record of a serving image of this version."""
    return Image(name=name or f"tiny:{version}", version="", context_object="", built=True, image_id=image_id)
