import numpy as np
import pytest

from volvox.errors import InvalidInput
from volvox.evaluation import metrics
from volvox.evaluation.comparison import COMPARABLE, Difference, judge, paired_bootstrap


def predictions(right: int, images: int = 200, classes: int = 8, shift: int = 0):
    """Labels and probabilities of a model that is right about `right` images, beginning with number `shift`."""
    labels = np.arange(images) % classes
    chosen = labels.copy()
    wrong = np.roll(np.arange(images) >= right, shift)
    chosen[wrong] = (labels[wrong] + 1) % classes
    return labels, np.eye(classes)[chosen] * 0.9 + 0.01


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "balanced_accuracy"])
def test_a_clearly_worse_model_has_an_interval_below_zero(metric) -> None:
    labels, better = predictions(195)
    _, worse = predictions(150, shift=40)
    told = paired_bootstrap(labels, worse, better, metric)
    assert told.low <= told.value - told.other <= told.high < 0
    back = paired_bootstrap(labels, better, worse, metric)
    assert back.low > 0 and (back.value, back.other) == (told.other, told.value)


def test_a_model_that_errs_as_often_on_other_images_is_within_noise() -> None:
    labels, one = predictions(180)
    _, other = predictions(180, shift=70)
    told = paired_bootstrap(labels, one, other)
    assert told.value == told.other and told.low < 0 < told.high


def test_two_equal_models_differ_by_nothing_at_all() -> None:
    labels, one = predictions(170)
    told = paired_bootstrap(labels, one, one, "macro_f1")
    assert (told.low, told.high) == (0.0, 0.0)


def test_the_interval_is_that_of_resampling_the_images_themselves() -> None:
    """The fast form, which draws counts of distinct outcomes, against the textbook form."""
    random = np.random.default_rng(5)
    labels = random.integers(0, 4, 150)
    one, other = (np.where(random.random(150) < share, labels, random.integers(0, 4, 150)) for share in (0.7, 0.8))
    told = paired_bootstrap(labels, np.eye(4)[one], np.eye(4)[other], "macro_f1", resamples=4000)

    def f1(rows, chosen) -> float:
        return metrics.macro_f1(metrics.confusion_matrix(labels[rows], chosen[rows], 4))

    draws = [random.integers(0, 150, 150) for _ in range(2000)]
    low, high = np.quantile([f1(rows, one) - f1(rows, other) for rows in draws], [0.025, 0.975])
    assert (told.low, told.high) == pytest.approx((low, high), abs=0.012)


@pytest.mark.parametrize("metric", COMPARABLE)
def test_its_values_are_those_of_the_evaluation(metric) -> None:
    labels, one = predictions(190)
    _, other = predictions(160, shift=20)
    told = paired_bootstrap(labels, one, other, metric, resamples=50)
    names = [str(label) for label in range(8)]
    assert told.value == pytest.approx(metrics.score(labels, one, names).metrics[metric])
    assert told.other == pytest.approx(metrics.score(labels, other, names).metrics[metric])


def test_the_same_seed_gives_the_same_interval() -> None:
    labels, one = predictions(190)
    _, other = predictions(160, shift=20)
    assert paired_bootstrap(labels, one, other) == paired_bootstrap(labels, one, other)
    assert paired_bootstrap(labels, one, other) != paired_bootstrap(labels, one, other, seed=1)


def test_an_interval_over_fifty_thousand_images_takes_seconds_at_most() -> None:
    import time

    labels, one = predictions(49_000, images=50_000, classes=100)
    _, other = predictions(48_000, images=50_000, classes=100, shift=700)
    began = time.process_time()
    paired_bootstrap(labels, one, other, "macro_f1")
    assert time.process_time() - began < 8


def test_what_cannot_be_compared_is_refused() -> None:
    labels, one = predictions(10, images=20)
    with pytest.raises(InvalidInput, match="known: accuracy"):
        paired_bootstrap(labels, one, one, "log_loss")
    with pytest.raises(InvalidInput, match="different images"):
        paired_bootstrap(labels, one, one[:5])


@pytest.mark.parametrize(
    ("value", "difference", "accepted", "words"),
    [
        (0.4, None, False, "accuracy 0.4000 is below the module's threshold of 0.5000"),
        (0.9, None, True, "reaches the module's threshold"),
        (
            0.90,
            Difference(0.90, 0.95, -0.08, -0.02),
            False,
            "difference -0.0500 (95 % interval -0.0800 to -0.0200): worse",
        ),
        (0.94, Difference(0.94, 0.95, -0.03, 0.01), True, "not worse beyond noise"),
        (0.45, Difference(0.45, 0.40, 0.01, 0.09), False, "below the module's threshold"),
    ],
)
def test_the_verdict_explains_itself_with_the_numbers(value, difference, accepted, words) -> None:
    verdict = judge("accuracy", value, 0.5, champion="3" if difference else "", difference=difference)
    assert verdict.accepted is accepted and words in verdict.reason
    if difference:
        assert verdict.champion_value == difference.other and verdict.low == difference.low


def test_without_predictions_image_by_image_only_a_model_that_is_not_lower_is_accepted() -> None:
    assert judge("map50", 0.70, 0.5, champion="1", champion_value=0.69).accepted
    refused = judge("map50", 0.68, 0.5, champion="1", champion_value=0.69)
    assert not refused.accepted and "no predictions image by image" in refused.reason
