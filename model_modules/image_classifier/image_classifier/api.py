"""The DEEPaaS V2 functions of the image classifier. Importing this reads no file and loads neither torch nor ONNX Runtime."""

from __future__ import annotations

from typing import Any

from image_classifier import arguments, places


def get_train_args() -> dict[str, Any]:
    """Fields of train()."""
    return arguments.train_arguments()


def train(data: Any = None, output: Any = None, checkpoints: Any = None, weights: Any = None, **given: Any) -> dict[str, Any]:
    """Train."""
    from image_classifier import training

    checked = arguments.defaults(given)
    return training.train(
        places.data(data), places.output(output), places.checkpoints(checkpoints), places.starting_weights(weights), checked
    )
