"""A version as it lies on disk: `model.safetensors`, `model.json`, `model.onnx`; read back to train on from it."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from torch import nn
from webargs import ValidationError

_LOG = logging.getLogger(__name__)


def card(folder: Path) -> dict[str, Any]:
    """`model.json` of a version.

    Raises:
        ValidationError: If the folder holds no version of this module.
    """
    try:
        told = json.loads((folder / "model.json").read_text())
        for key in ("architecture", "classes", "preprocessing"):
            told[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{folder} holds no model.json of this module; name the folder that train() wrote."
        raise ValidationError({"weights": [message]}) from error
    return told


def digest(folder: Path) -> str:
    """Changes with the weights of a version."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def load_into(network: nn.Module, folder: Path, *, keep_head: bool) -> None:
    """Copy the weights of a version into `network`; its head only if `keep_head`. No code of the version runs.

    Raises:
        ValidationError: If weights are missing or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        message = f"{folder}/model.safetensors cannot be read ({error}); name the folder that train() wrote."
        raise ValidationError({"weights": [message]}) from error
    if not keep_head:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    try:
        missing, unexpected = network.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ValidationError({"weights": [f"The weights in {folder} are of another network: {error}"]}) from error
    missing = [name for name in missing if keep_head or not name.startswith("head.")]
    if missing or unexpected:
        raise ValidationError({"weights": [f"The weights in {folder} are of another network: {missing + unexpected}"]})
    _LOG.info("started from %s, %s", folder, "head kept" if keep_head else "new head")
