import math

import numpy as np
import pytest

from volvox.errors import InvalidInput
from volvox.evaluation import metrics

# Six images of three classes; what is chosen: 0 0 1 1 2 0
LABELS = np.array([0, 0, 0, 1, 2, 2])
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.3, 0.5, 0.2], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.5, 0.1, 0.4]]
)


def test_all_numbers_agree_with_those_worked_out_by_hand() -> None:
    scores = metrics.score(LABELS, PROBABILITIES, ["a", "b", "c"])
    assert scores.confusion.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert scores.metrics["accuracy"] == pytest.approx(4 / 6)
    assert scores.metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert scores.metrics["macro_f1"] == pytest.approx((4 / 6 + 2 / 3 + 2 / 3) / 3)
    expected = -(math.log(0.8) + math.log(0.6) + math.log(0.3) + 2 * math.log(0.7) + math.log(0.4)) / 6
    assert scores.metrics["log_loss"] == pytest.approx(expected)
    first = scores.per_class[0]
    assert (first.name, first.support) == ("a", 3)
    assert (first.precision, first.recall, first.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert scores.per_class[1].precision == pytest.approx(0.5)


def test_the_numbers_are_those_of_scikit_learn() -> None:
    from sklearn import metrics as theirs

    random = np.random.default_rng(3)
    labels, probabilities = random.integers(0, 7, 400), random.dirichlet(np.ones(9), 400)  # two classes never occur
    ours = metrics.score(labels, probabilities, [str(label) for label in range(9)]).metrics
    chosen = probabilities.argmax(axis=1)
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(labels, chosen))
    assert ours["macro_f1"] == pytest.approx(theirs.f1_score(labels, chosen, average="macro"))
    recalls = theirs.recall_score(labels, chosen, average=None, labels=range(7), zero_division=0)
    assert ours["balanced_accuracy"] == pytest.approx(recalls.mean())
    top5 = theirs.top_k_accuracy_score(labels, probabilities, k=5, labels=range(9))
    assert ours["top5_accuracy"] == pytest.approx(top5)
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(labels, probabilities, labels=range(9)))


def test_calibration_error_is_the_weighted_gap_of_each_bin() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    # two bins of width 0.5 .. with ten bins: (0.9, 1.0] holds 4 at 0.75 right, (0.5, 0.6] holds 2 at 0.5 right
    expected = 4 / 6 * abs(0.75 - 0.95) + 2 / 6 * abs(0.5 - 0.55)
    assert metrics.expected_calibration_error(confidence, correct, bins=10) == pytest.approx(expected)
    assert metrics.expected_calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0


def test_a_bin_holds_its_upper_end_and_not_its_lower() -> None:
    counts, _, _ = metrics.reliability(np.array([0.0, 0.5, 0.5000001, 1.0]), np.ones(4, bool), bins=2)
    assert counts.tolist() == [2, 2]


def test_top_five_is_told_only_where_there_are_more_than_five_classes() -> None:
    assert "top5_accuracy" not in metrics.score(LABELS, PROBABILITIES, ["a", "b", "c"]).metrics


def test_a_class_that_the_model_did_not_name_is_not_among_its_best() -> None:
    labels, probabilities = np.array([5, 0]), np.array([[0.9, 0, 0, 0, 0, 0], [0.9, 0.1, 0, 0, 0, 0]])
    assert metrics.in_top(labels, probabilities, 5).tolist() == [False, True]


def test_ties_go_to_the_first_class() -> None:
    assert metrics.in_top(np.array([0, 2]), np.full((2, 3), 0.3), 1).tolist() == [True, False]


def test_a_class_without_images_has_zeros_and_weighs_nothing() -> None:
    scores = metrics.score(np.array([0, 1]), np.eye(3)[[0, 1]], ["a", "b", "c"])
    assert scores.per_class[2].support == 0 and scores.per_class[2].f1 == 0.0
    assert scores.metrics["macro_f1"] == scores.metrics["balanced_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.array([], int), np.zeros((0, 2)), "at least one row"),
        (np.array([0, 1]), np.zeros((2, 3)), r"the shape must be \(2, 2\)"),
        (np.array([0, 2]), np.full((2, 2), 0.5), r"labels lie in 0\.\.2"),
        (np.array([-1, 0]), np.full((2, 2), 0.5), r"labels lie in -1\.\.0"),
        (np.array([0]), np.array([[np.nan, 0.5]]), "not a number"),
        (np.array([0]), np.array([[1.5, 0.5]]), "not a number in"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, probabilities, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        metrics.score(labels, probabilities, ["a", "b"])
