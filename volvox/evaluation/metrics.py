"""How good a classifier is: numbers from labels and probabilities.

Labels are integers in [0, C); probabilities have shape (N, C), each in [0, 1]. A row need not add up to 1: a model
that tells only its best few leaves the rest at 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volvox.errors import InvalidInput
from volvox.records import ClassScore

Labels = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Everything that one set of predictions says.

    Attributes:
        metrics: `accuracy`, `balanced_accuracy`, `macro_f1`, `calibration_error`, `log_loss` and, for more than 5
            classes, `top5_accuracy`.
        per_class: One score a class, in the order of `classes`.
        confusion: Row = true class, column = predicted class, counts, shape (C, C).
    """

    metrics: dict[str, float]
    per_class: tuple[ClassScore, ...]
    confusion: Labels


def score(labels: Labels, probabilities: Array, classes: Sequence[str]) -> Scores:
    """All metrics of one set of predictions.

    Raises:
        InvalidInput: If there is no prediction, shapes disagree, a label is outside the classes or a probability is
            not a number.
    """
    _check(labels, probabilities, len(classes))
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predicted, len(classes))
    precision, recall, f1 = precision_recall_f1(confusion)
    metrics = {
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": balanced_accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "calibration_error": expected_calibration_error(probabilities.max(axis=1), predicted == labels),
        "log_loss": log_loss(labels, probabilities),
    }
    if len(classes) > 5:
        metrics["top5_accuracy"] = float(in_top(labels, probabilities, 5).mean())
    support = confusion.sum(axis=1)
    per_class = tuple(
        ClassScore(
            name=name,
            precision=float(precision[index]),
            recall=float(recall[index]),
            f1=float(f1[index]),
            support=int(support[index]),
        )
        for index, name in enumerate(classes)
    )
    return Scores(metrics, per_class, confusion)


def confusion_matrix(labels: Labels, predicted: Labels, classes: int) -> Labels:
    """Counts, shape (C, C): row = true class, column = predicted class."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def precision_recall_f1(confusion: NDArray) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 of each class, shape (C,) each; 0 where the denominator is 0."""
    hits = np.diag(confusion).astype(float)
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    return _ratio(hits, predicted), _ratio(hits, actual), _ratio(2 * hits, predicted + actual)


def balanced_accuracy(confusion: NDArray) -> float:
    """Mean recall of the classes that occur among the labels."""
    return float(precision_recall_f1(confusion)[1][confusion.sum(axis=1) > 0].mean())


def macro_f1(confusion: NDArray) -> float:
    """Mean F1 of the classes that occur among the labels or the predictions."""
    occurs = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    return float(precision_recall_f1(confusion)[2][occurs].mean())


def in_top(labels: Labels, probabilities: Array, count: int) -> NDArray[np.bool_]:
    """Whether the true class is among the `count` most probable ones, shape (N,).

    Of classes with equal probability the first in order counts as more probable; a class with probability 0 is never
    among them, because the model did not name it.
    """
    true = np.take_along_axis(probabilities, labels[:, None], axis=1)  # (N, 1)
    before = np.arange(probabilities.shape[1])[None, :] < labels[:, None]
    ahead = (probabilities > true) | ((probabilities == true) & before)
    return (ahead.sum(axis=1) < count) & (true[:, 0] > 0)


def expected_calibration_error(confidence: Array, correct: NDArray[np.bool_], bins: int = 15) -> float:
    """How far the stated confidence is from the observed accuracy.

    Args:
        confidence: Probability of the chosen class, shape (N,), each in [0, 1].
        correct: Whether that class was right, shape (N,).
        bins: Number of equal-width confidence bins; empty ones weigh nothing.

    Returns:
        Mean gap, weighted by samples, in [0, 1]; 0.02 is two percentage points.

    Source:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
    """
    counts, confidences, accuracies = reliability(confidence, correct, bins)
    return float((counts * np.abs(accuracies - confidences)).sum() / counts.sum())


def reliability(confidence: Array, correct: NDArray[np.bool_], bins: int = 15) -> tuple[Array, Array, Array]:
    """Samples, mean confidence and accuracy in each of `bins` equal bins of confidence, shape (bins,) each.

    Bin i holds confidences in (i / bins, (i + 1) / bins], as in the source of `expected_calibration_error`.
    """
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins).astype(float)
    confidences = _ratio(np.bincount(index, weights=confidence, minlength=bins), counts)
    accuracies = _ratio(np.bincount(index, weights=correct.astype(float), minlength=bins), counts)
    return counts, confidences, accuracies


def log_loss(labels: Labels, probabilities: Array) -> float:
    """Mean negative natural logarithm of the true class's probability, which is taken as at least 1e-7."""
    true = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return float(-np.log(np.clip(true, 1e-7, 1.0)).mean())


def _ratio(numerator: NDArray, denominator: NDArray) -> Array:
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _check(labels: Labels, probabilities: Array, classes: int) -> None:
    if probabilities.shape != (len(labels), classes) or not len(labels):
        raise InvalidInput(
            f"{len(labels)} labels and probabilities of shape {probabilities.shape} were given for {classes} classes; "
            f"the shape must be ({len(labels)}, {classes}), with at least one row"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InvalidInput(f"labels lie in {labels.min()}..{labels.max()}; {classes} classes have 0..{classes - 1}")
    if not np.isfinite(probabilities).all() or probabilities.min() < 0 or probabilities.max() > 1 + 1e-4:
        raise InvalidInput("a probability is not a number in [0, 1]")
