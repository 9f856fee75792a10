"""Ask a new worker real questions before it gets traffic."""

from __future__ import annotations

import json
import math
import mimetypes
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from volvox.errors import ModuleFailed
from volvox.serving.asking import Answer
from volvox.serving.deployed import Deployed
from volvox.worker.describing import file_argument


class Asked(Protocol):
    """A model that can be asked: a served one, or the instances of a function."""

    @property
    def deployed(self) -> Deployed:
        """What it is."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """What its module says of itself."""
        ...

    async def predict(self, request: Mapping[str, Any]) -> Answer:
        """What it answers."""
        ...


async def prove(model: Asked, files: Sequence[Path], uploads: Path) -> None:
    """Have `model` answer a copy, below `uploads`, of each of `files`, and look at what it says.

    Raises:
        ModuleFailed: If it refuses one, fails, or answers what cannot be right.
    """
    described = model.description.get("predict", [])
    if "tensors" in model.description and "predict" not in model.description["functions"]:
        return  # nobody can ask it for a prediction
    field = file_argument(described)
    if field is None:
        if not any(argument["required"] for argument in described):
            _check(await model.predict({}), "without arguments", model.deployed.labels)
        return
    with tempfile.TemporaryDirectory(dir=uploads) as folder:
        for path in files:
            copy = shutil.copyfile(path, Path(folder, path.name))  # modules may move or remove what they are given
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            told = {"path": str(copy), "content_type": kind, "name": path.name}
            _check(await model.predict({"files": {field: [told]}}), path.name, model.deployed.labels)


def _check(answer: Answer, asked: str, labels: tuple[str, ...]) -> None:
    if error := answer.header.get("error"):
        said = error.get("messages") or error["message"]
        raise ModuleFailed(f"asked {asked}, the module answered: {said}", trace=error.get("trace") or "")
    if answer.header["content_type"] != "application/json":
        return
    try:
        wrong = fault(json.loads(answer.body, parse_constant=_refuse), labels)
    except ValueError as error:
        wrong = f"it is not JSON ({error})"
    if wrong:
        raise ModuleFailed(f"asked {asked}, the module's answer cannot be right: {wrong}")


def fault(answer: Any, labels: tuple[str, ...] = ()) -> str:
    """What is wrong with a predict answer, in words; empty if nothing is.

    Classifications are looked at closely: `labels` with `probabilities`, or one list of each for every file in
    `pred_lab` and `pred_prob`. Each probability must be a number in [0, 1] (they need not add up to 1: several classes
    may be present), and the most probable label one of `labels` where those are known.
    """
    if isinstance(answer, dict) and answer.get("status") == "error":
        return str(answer.get("message") or "status is 'error'")
    for names, probabilities in classifications(answer):
        if not isinstance(names, list) or not isinstance(probabilities, list) or not names:
            return "labels and probabilities are not lists of the same length"
        if len(names) != len(probabilities):
            return f"{len(names)} labels and {len(probabilities)} probabilities"
        for value in probabilities:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                return f"probability {value!r} is not a number"
            if not 0 <= value <= 1:
                return f"probability {value!r} is not between 0 and 1"
        top = names[probabilities.index(max(probabilities))]
        if labels and top not in labels:
            return f"label {top!r} is none of the {len(labels)} classes"
    return ""


def classifications(answer: Any) -> list[tuple[Any, Any]]:
    """The pairs (labels, probabilities) in an answer of one image, or of several; none in any other answer."""
    found = answer.get("predictions", answer) if isinstance(answer, dict) else answer
    if isinstance(found, dict) and "predictions" in found:  # a module that wraps its answer, wrapped again
        found = found["predictions"]
    if not isinstance(found, dict):
        return []
    if "labels" in found and "probabilities" in found:
        return [(found["labels"], found["probabilities"])]
    if isinstance(found.get("pred_lab"), list) and isinstance(found.get("pred_prob"), list):
        return list(zip(found["pred_lab"], found["pred_prob"], strict=False))
    return []


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
