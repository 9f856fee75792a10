"""Load a registered model through MLflow: `mlflow.pyfunc.load_model("models:/NAME@champion").predict(images)`.

MLflow finds this file by its name, which the model's `MLmodel` holds as `loader_module`. No pickle is read: the data of
the model is the folder of its weights, and its module, which must be installed, is called in a process of its own.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput
from volvox.modules.calling import call_module


class ImageModel:
    """A module and its weights, asked for images."""

    def __init__(self, module: str, weights: Path, classes: int) -> None:
        """Answer with `module`, which reads `weights`, for so many classes."""
        self.module, self.weights, self.classes = module, weights, classes

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Classify images.

        Args:
            model_input: A frame whose first column, or a list whose items, are paths, bytes or `data:` URLs of images.
            params: More arguments for the module's `predict`, by wire name.

        Returns:
            For each image `label`, `probability`, and all `labels` with `probabilities`, most probable first.

        Raises:
            InvalidInput: If an item is none of these, or the module refuses it.
            ModuleFailed: If the module raises.
        """
        with tempfile.TemporaryDirectory(prefix="volvox-images-") as folder:
            files = [_file(item, Path(folder, str(index))) for index, item in enumerate(_items(model_input))]
            answers = Path(folder, "answers.jsonl")
            asked = {
                "files": [str(file) for file in files],
                "answers": str(answers),
                "classes": self.classes,
                "arguments": params or {},
            }
            with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop of its own, as a notebook has
                calling = call_module(self.module, "score", asked, places={"weights": self.weights})
                thread.submit(asyncio.run, calling).result()
            told = [json.loads(line) for line in answers.read_text().splitlines()]
        return [
            {
                "label": answer["labels"][0],
                "probability": answer["probabilities"][0],
                "labels": answer["labels"],
                "probabilities": answer["probabilities"],
            }
            for answer in told
        ]


def _load_pyfunc(data_path: str, model_config: dict[str, Any]) -> ImageModel:
    """What MLflow calls, with the folder of the weights and what `register_model` noted beside them."""
    return ImageModel(model_config["module"], Path(data_path), int(model_config.get("classes", 0)))


def _items(model_input: Any) -> Iterable[Any]:
    if hasattr(model_input, "iloc"):  # a pandas frame or series
        model_input = model_input.iloc[:, 0] if getattr(model_input, "ndim", 1) == 2 else model_input
        return model_input.tolist()
    return [model_input] if isinstance(model_input, str | bytes | Path) else model_input


def _file(item: Any, place: Path) -> Path:
    """The image as a file: where it is, or written to `place`."""
    if isinstance(item, str) and item.startswith("data:"):
        head, _, body = item.partition(",")
        try:
            item = base64.b64decode(body, validate=True) if head.endswith(";base64") else body.encode()
        except binascii.Error as error:
            raise InvalidInput(f"the image {item[:40]!r}... is no valid data URL: {error}") from error
    if isinstance(item, bytes | bytearray | memoryview):
        place.write_bytes(item)
        return place
    if isinstance(item, str | Path):
        if not Path(item).is_file():
            raise InvalidInput(f"there is no image at {str(item)!r}")
        return Path(item).absolute()
    raise InvalidInput(f"an image is a path, bytes or a data: URL; this is of type {type(item).__name__}")
