"""Ask a module's own `predict` for many images, one after the other: what scores a module that has no `evaluate`."""

from __future__ import annotations

import json
import mimetypes
import os
from pathlib import Path
from typing import Any

from volvox.worker import describing, loading

_LIKELY_NAMES = ("image", "data", "file", "files", "images")
_PAIRS = (("labels", "probabilities"), ("pred_lab", "pred_prob"))


def score(module: Any, request: dict[str, Any]) -> dict[str, int]:
    """Write what `predict` answers for each image as one JSON line, `{"file", "labels", "probabilities"}`.

    Args:
        module: The loaded module.
        request: `files` (paths), `answers` (the file to write), `classes` (how many there are: the value of an
            argument `top`, where `predict` has one) and, optionally, `arguments` (more raw values for `predict`).

    Raises:
        ValueError: If `predict` takes no file, or answers nothing that can be read as labels with probabilities.
    """
    predict = loading.function(module, "predict")
    fields = loading.fields(module, "get_predict_args")
    described = describing.describe(fields)
    name, several = _file_argument(described)
    raw = {**_top(described, int(request.get("classes") or 0)), **(request.get("arguments") or {})}
    places = {}
    if (weights := os.environ.get("VOLVOX_WEIGHTS")) and ("weights" in fields or loading.accepts(predict, "weights")):
        places["weights"] = weights
    if (warm := getattr(module, "warm", None)) is not None:
        warm()
    with Path(request["answers"]).open("w") as stream:
        for file in request["files"]:
            kind = mimetypes.guess_type(file)[0] or "application/octet-stream"
            upload = loading.UploadedFile(name, file, kind, Path(file).name)
            keywords = describing.validated(fields, {**raw, name: [upload] if several else upload})
            labels, probabilities = read(predict(**{**keywords, **places}))
            line = {"file": file, "labels": labels, "probabilities": probabilities}
            print(json.dumps(line, allow_nan=False), file=stream)
    return {"images": len(request["files"])}


def read(answer: Any) -> tuple[list[str], list[float]]:
    """Labels and their probabilities in one answer of `predict`, most probable first.

    Read are the two forms of DEEP's image classifiers (`labels` with `probabilities`, `pred_lab` with `pred_prob`) and
    a list of objects with `label` and `probability` (or `score`), each alone or under `predictions`.
    """
    if isinstance(answer, dict):
        if str(answer.get("status", "")).lower() == "error":
            raise ValueError(f"predict() answered with an error: {answer.get('message')}")
        for names, numbers in _PAIRS:
            if names in answer and numbers in answer:
                return _sorted(_plain(answer[names]), _plain(answer[numbers]))
        if "predictions" in answer:
            return read(answer["predictions"])
    if isinstance(answer, list) and answer and all(isinstance(item, dict) and "label" in item for item in answer):
        numbers = [item.get("probability", item.get("score")) for item in answer]
        return _sorted([item["label"] for item in answer], numbers)
    raise ValueError("predict() answered nothing that can be read as labels with probabilities")


def _sorted(labels: list[Any], probabilities: list[Any]) -> tuple[list[str], list[float]]:
    if len(labels) != len(probabilities):
        raise ValueError(f"predict() answered {len(labels)} labels and {len(probabilities)} probabilities")
    pairs = sorted(zip(labels, probabilities), key=lambda pair: -float(pair[1]))
    return [str(label) for label, _ in pairs], [float(probability) for _, probability in pairs]


def _plain(values: Any) -> list[Any]:
    """A list; of a list for each image, the first image's."""
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return list(values[0]) if values and isinstance(values[0], (list, tuple)) else values


def _file_argument(described: list[dict[str, Any]]) -> tuple[str, bool]:
    """Wire name of the argument that takes the image, and whether it takes a list of them."""
    takers = [told for told in described if "file" in (told["type"], told.get("items"))]
    takers.sort(key=lambda told: (not told["required"], told["name"] not in _LIKELY_NAMES))
    if not takers:
        raise ValueError("predict() takes no file, so it cannot be asked for an image")
    return takers[0]["name"], takers[0]["type"] == "array"


def _top(described: list[dict[str, Any]], classes: int) -> dict[str, int]:
    told = next((told for told in described if told["name"] == "top" and told["type"] == "integer"), None)
    if told is None or classes < 1:
        return {}
    return {"top": min(classes, int(told.get("maximum", classes)))}
