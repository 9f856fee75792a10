"""What every peer of the image classifier does with a picture: the module's own decoding, network and answer.

Runs in each peer's environment, so it imports the module and the standard library only. `VOLVOX_WEIGHTS` names the
version, `VOLVOX_THREADS` how many threads one answer may use, `PEER_SETTING` the setting that is tried, as JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from image_classifier import answers, classifier

TOP = 5
MODEL = classifier.load(Path(os.environ["VOLVOX_WEIGHTS"]))


def setting() -> dict[str, Any]:
    """The setting that this server is tried with."""
    return json.loads(os.environ.get("PEER_SETTING", "{}"))


def decoded(picture: Path | bytes) -> Any:
    """The pixels of one picture, shape (channels, size, size), uint8."""
    return MODEL.preprocessing.decode(picture)


def answered(squares: list[Any]) -> list[dict[str, Any]]:
    """The answers to several decoded pictures, computed together."""
    return [answers.one(MODEL, row, TOP) for row in MODEL.probabilities(squares)]


def answer(picture: Path | bytes) -> dict[str, Any]:
    """The answer to one picture."""
    return answered([decoded(picture)])[0]
