"""What predict() says, in the two forms that DEEP's image classifiers have."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

if TYPE_CHECKING:
    import numpy as np

    from image_classifier.classifier import Classifier


def one(classifier: Classifier, probabilities: np.ndarray, top: int) -> dict[str, Any]:
    """The answer for one image, `probabilities` of shape (classes,): labels, the likeliest first, with links."""
    order = _order(probabilities[None], top)[0]
    labels = [classifier.classes[index] for index in order]
    words = [_word(label) for label in labels]
    info = classifier.labels_info
    return {
        "status": "OK",
        "predictions": {
            "labels": labels,
            "probabilities": [float(probabilities[index]) for index in order],
            "labels_info": [info[index] if info else "" for index in order],
            "links": {
                "Google Images": [f"https://www.google.com/search?tbm=isch&q={word}" for word in words],
                "Wikipedia": [f"https://en.wikipedia.org/wiki/Special:Search?search={word}" for word in words],
            },
        },
    }


def several(classifier: Classifier, names: list[str], probabilities: np.ndarray, top: int) -> dict[str, Any]:
    """The answer for N images, `probabilities` of shape (N, classes); `aphia_ids` is flat, N * top, or null."""
    orders = _order(probabilities, top)
    aphia = classifier.aphia_ids
    return {
        "status": "OK",
        "predictions": {
            "filenames": names,
            "pred_lab": [[classifier.classes[index] for index in order] for order in orders],
            "pred_prob": [[float(row[i]) for i in order] for row, order in zip(probabilities, orders, strict=True)],
            "aphia_ids": [aphia[index] for order in orders for index in order] if aphia else None,
        },
    }


@functools.lru_cache(maxsize=10_000)
def _word(label: str) -> str:
    return quote_plus(label)


def _order(probabilities: np.ndarray, top: int) -> list[list[int]]:
    """Indices of the likeliest classes, shape (N, min(top, classes)); of equals the first."""
    import numpy as np

    return np.argsort(-probabilities, axis=1, kind="stable")[:, :top].tolist()
