"""Where a call reads and writes: keywords first, then the environment, then DEEP's own folders."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from webargs import ValidationError

MODELS = Path("models")


def data(given: Any = None) -> Path:
    """The dataset: keyword, `VOLVOX_DATA`, or `./data`."""
    return Path(given or os.environ.get("VOLVOX_DATA") or "data")


def output(given: Any = None) -> Path:
    """A folder for results, which need not exist: keyword, `VOLVOX_OUTPUT`, or `./models/<timestamp>`."""
    stamped = MODELS / datetime.now().astimezone().strftime("%Y-%m-%d_%H%M%S")
    return Path(given or os.environ.get("VOLVOX_OUTPUT") or stamped)


def checkpoints(given: Any = None) -> Path | None:
    """The folder that outlives a killed training: keyword or `VOLVOX_CHECKPOINTS`; else there is none."""
    folder = given or os.environ.get("VOLVOX_CHECKPOINTS")
    return Path(folder) if folder else None


def starting_weights(given: Any = None) -> Path | None:
    """The version that a training starts from: keyword or `VOLVOX_WEIGHTS`; else it starts from scratch."""
    folder = given or os.environ.get("VOLVOX_WEIGHTS")
    return Path(folder) if folder else None


def published_weights(given: Any = None) -> Path:
    """The version that predicts: keyword, `VOLVOX_WEIGHTS`, or the newest below `./models`.

    Raises:
        ValidationError: If there is none.
    """
    if found := starting_weights(given):
        if not (found / "model.json").is_file():
            raise ValidationError({"weights": [f"{found} holds no model.json; name the folder that train() wrote."]})
        return found
    stamped = sorted(path.parent for path in MODELS.glob("*/model.json"))
    if not stamped:
        raise ValidationError({"weights": ["There is no trained model here; call train(), or set VOLVOX_WEIGHTS."]})
    return stamped[-1]
