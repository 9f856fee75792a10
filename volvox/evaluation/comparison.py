"""Whether one model is worse than another on the same images, or whether it only looks so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volvox.errors import InvalidInput
from volvox.evaluation.metrics import Array, Labels, in_top
from volvox.records import Verdict

COMPARABLE = ("accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy")
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same images.

    Attributes:
        value: The first model's.
        other: The second model's.
        low: Lower end of the bootstrap interval of `value - other`.
        high: Upper end.
    """

    value: float
    other: float
    low: float
    high: float


def paired_bootstrap(
    labels: Labels,
    ours: Array,
    theirs: Array,
    metric: str = "accuracy",
    *,
    resamples: int = 4000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The difference of `metric` between two models with a percentile interval over resampled images.

    Images are drawn with replacement and both models are scored on the same draw, so what makes an image hard for
    both does not widen the interval. Images that both models treat alike are drawn together, as one count, which gives
    the same distribution at the cost of the distinct outcomes rather than of the images.

    Args:
        labels: True classes, shape (N,).
        ours: Probabilities of the first model, shape (N, C).
        theirs: Probabilities of the second model, shape (N, C).
        metric: One of `COMPARABLE`.
        resamples: How many draws.
        level: Share of the draws that the interval holds.
        seed: The same seed gives the same interval.

    Raises:
        InvalidInput: If the metric cannot be compared or the shapes differ.

    Source:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    if metric not in COMPARABLE:
        raise InvalidInput(f"the metric {metric!r} cannot be compared image by image; known: {', '.join(COMPARABLE)}")
    if ours.shape != theirs.shape or len(labels) != len(ours) or not len(labels):
        raise InvalidInput(f"two models were scored on different images: shapes {ours.shape} and {theirs.shape}")
    told = [_outcome(labels, probabilities, metric) for probabilities in (ours, theirs)]
    outcomes, counts = np.unique(np.stack([labels, *told], axis=1), axis=0, return_counts=True)  # (K, 3), (K,)
    classes = ours.shape[1]
    observed = [_metric(counts[None, :], outcomes[:, 0], outcomes[:, side], metric, classes)[0] for side in (1, 2)]
    random, differences, left = np.random.default_rng(seed), [], resamples
    rows = max(1, _BLOCK_BYTES // (8 * max(len(counts), 3 * classes)))
    while left > 0:
        drawn = random.multinomial(len(labels), counts / counts.sum(), size=min(rows, left))  # (B, K)
        first, second = (_metric(drawn, outcomes[:, 0], outcomes[:, side], metric, classes) for side in (1, 2))
        differences.append(first - second)
        left -= len(drawn)
    low, high = np.quantile(np.concatenate(differences), [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(observed[0]), float(observed[1]), float(low), float(high))


def judge(
    metric: str,
    value: float,
    threshold: float,
    *,
    champion: str = "",
    champion_value: float | None = None,
    difference: Difference | None = None,
    remark: str = "",
) -> Verdict:
    """Decide whether a model may become champion.

    Args:
        metric: What is compared; more is better.
        value: The model's value on the held-out images.
        threshold: The least value that its module states.
        champion: The present champion's version; empty if there is none.
        champion_value: Its value, where no difference image by image is known.
        difference: Both models on the same images, this one first.
        remark: Why the champion could not be compared, if it could not.
    """
    low = high = gap = None
    if difference is not None:
        champion_value, low, high = difference.other, difference.low, difference.high
    if champion_value is not None:
        gap = value - champion_value
    told = f"{metric} {value:.4f}"
    if value < threshold:
        accepted, reason = False, f"{told} is below the module's threshold of {threshold:.4f}"
    elif gap is None:
        accepted, reason = True, f"{told} reaches the module's threshold of {threshold:.4f}"
        reason += f"; {remark}" if remark else "; there is no champion yet" if not champion else ""
    else:
        beside = f"{told} against {champion_value:.4f} of champion {champion}, difference {gap:+.4f}"
        if low is None or high is None:
            accepted, noise = gap >= 0, "no predictions image by image to tell noise by"
        else:
            accepted, noise = high >= 0, f"95 % interval {low:+.4f} to {high:+.4f}"
        reason = f"{beside} ({noise}): {'not worse beyond noise' if accepted else 'worse'}"
    return Verdict(
        accepted=accepted, reason=reason, metric=metric, value=value, threshold=threshold, champion=champion,
        champion_value=champion_value, difference=gap, low=low, high=high,
    )  # fmt: skip


def _outcome(labels: Labels, probabilities: Array, metric: str) -> Labels:
    """What of a prediction the metric looks at, as one integer an image: the class chosen, or a hit."""
    if metric == "top5_accuracy":
        return in_top(labels, probabilities, 5).astype(np.int64)
    return probabilities.argmax(axis=1)


def _metric(drawn: NDArray, labels: Labels, outcome: Labels, metric: str, classes: int) -> Array:
    """The metric of each of B draws, shape (B,), where draw b holds outcome k `drawn[b, k]` times."""
    if metric == "top5_accuracy":
        return drawn @ outcome / drawn.sum(axis=1)
    hit = outcome == labels
    if metric == "accuracy":
        return drawn @ hit / drawn.sum(axis=1)
    weights = drawn.astype(float)
    true = np.eye(classes)[labels]  # (K, C)
    hits, actual = weights @ (true * hit[:, None]), weights @ true  # (B, C)
    if metric == "balanced_accuracy":
        return _mean_ratio(hits, actual)
    return _mean_ratio(2 * hits, actual + weights @ np.eye(classes)[outcome])


def _mean_ratio(numerator: Array, denominator: Array) -> Array:
    """Mean over classes, shape (B,), of the ratios that are defined."""
    defined = denominator > 0
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
    return ratio.sum(axis=1) / defined.sum(axis=1)
