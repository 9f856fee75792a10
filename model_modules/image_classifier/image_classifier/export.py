"""Write a trained network so that others can use it without its code: safetensors, JSON, ONNX."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from image_classifier.data import Dataset
from image_classifier.preprocessing import Preprocessing

_LOG = logging.getLogger(__name__)
TOLERANCE = 1e-4
FORMAT = 1


def write(
    network: nn.Module,
    folder: Path,
    *,
    architecture: dict[str, Any],
    dataset: Dataset,
    preprocessing: Preprocessing,
    images: Tensor,
    recipe: dict[str, Any],
    metrics: dict[str, float],
) -> dict[str, Any]:
    """Write `model.safetensors`, `model.onnx` and, last, `model.json` into `folder`; return what the last one says.

    Args:
        network: On any device; it stays as it is.
        folder: The output place.
        architecture: What builds the network again.
        dataset: Gives the classes.
        preprocessing: What the network takes.
        images: Validation images that the two forms are compared on, shape (N, channels, size, size), uint8.
        recipe: What the training did.
        metrics: What it reached.

    Raises:
        RuntimeError: If ONNX Runtime and torch differ by more than 1e-4.
    """
    from safetensors.torch import save_file

    network = copy.deepcopy(network)  # a copy is not compiled, which the exporter could not follow
    network = network.cpu().float().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    aside = folder / "model.safetensors.part"
    save_file(weights, aside, metadata={"format": "pt"})
    aside.replace(folder / "model.safetensors")
    aside = folder / "model.onnx.part"
    _export(network, aside, preprocessing)
    difference = largest_difference(network, aside, images)
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f"the ONNX export differs from the network by {difference:.2e} on {len(images)} validation images, "
            f"{TOLERANCE:.0e} is allowed; this backbone cannot be exported faithfully by torch {torch.__version__}"
        )
    aside.replace(folder / "model.onnx")
    told = {
        "format": FORMAT,
        "task": "classification",
        "classes": dataset.classes,
        "labels_info": dataset.labels_info,
        "aphia_ids": dataset.aphia_ids,
        "architecture": {**architecture, "pretrained": False},  # the weights are here, nothing has to be fetched
        "preprocessing": preprocessing.to_json(),
        "onnx": {"input": "image", "output": "logits", "largest_difference": difference, "images": len(images)},
        "recipe": recipe,
        "metrics": metrics,
        "versions": _versions(),
    }
    aside = folder / "model.json.part"
    aside.write_text(json.dumps(told, indent=1))
    aside.replace(folder / "model.json")
    return told


def largest_difference(network: nn.Module, path: Path, images: Tensor) -> float:
    """Largest difference of a logit between torch and ONNX Runtime, over the largest logit where that is above 1."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(images).numpy()
    found = session.run(None, {"image": images.numpy()})[0]
    return float(np.abs(np.asarray(found) - expected).max() / max(1.0, np.abs(expected).max()))


def _export(network: nn.Module, path: Path, preprocessing: Preprocessing) -> None:
    """One file with the weights inside; takes any number of images, uint8."""
    example = torch.zeros(2, preprocessing.channels, preprocessing.size, preprocessing.size, dtype=torch.uint8)
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # it warns of operators of torchvision, which none of these networks has
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                str(path),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("images")},),
                external_data=False,
                input_names=["image"],
                output_names=["logits"],
                verbose=False,
            )
    finally:
        registration.setLevel(level)


def _versions() -> dict[str, str]:
    names = ("torch", "pytorch-lightning", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow", "timm")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
