"""Which answers cannot be right."""

from __future__ import annotations

import pytest

from volvox.serving.smoke import classifications, fault, file_argument

GOOD = {"labels": ["a", "b"], "probabilities": [0.7, 0.3], "labels_info": ["", ""]}


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        {"status": "OK", "predictions": GOOD},
        {"status": "OK", "predictions": {"status": "OK", "predictions": GOOD}},
        {"status": "OK", "predictions": {"pred_lab": [["a"], ["b"]], "pred_prob": [[1.0], [0.5]]}},
        {"status": "OK", "predictions": "no classification at all"},
        {"labels": ["a", "b"], "probabilities": [0.9, 0.9]},
        {"labels": ["z", "b"], "probabilities": [0.1, 0.9]},
        {"anything": 1},
        [1, 2],
        None,
    ],
)
def test_a_sound_answer_passes(answer: object) -> None:
    assert fault(answer, ("a", "b")) == ""


@pytest.mark.parametrize(
    ("predictions", "reason"),
    [
        ({"labels": ["a"], "probabilities": [0.7, 0.3]}, "1 labels and 2 probabilities"),
        ({"labels": [], "probabilities": []}, "not lists"),
        ({"labels": "a", "probabilities": 0.3}, "not lists"),
        ({"labels": ["a"], "probabilities": [1.01]}, "not between 0 and 1"),
        ({"labels": ["a"], "probabilities": [-0.01]}, "not between 0 and 1"),
        ({"labels": ["a"], "probabilities": [float("nan")]}, "not a number"),
        ({"labels": ["a"], "probabilities": ["0.5"]}, "not a number"),
        ({"labels": ["a"], "probabilities": [True]}, "not a number"),
        ({"labels": ["a", "z"], "probabilities": [0.3, 0.7]}, "label 'z' is none of the 2 classes"),
        ({"labels": ["z"], "probabilities": [1.0]}, "none of the 2 classes"),
        ({"pred_lab": [["a"], ["z"]], "pred_prob": [[1.0], [1.0]]}, "none of the 2 classes"),
    ],
)
def test_an_answer_that_cannot_be_right_is_told(predictions: dict, reason: str) -> None:
    assert reason in fault({"status": "OK", "predictions": predictions}, ("a", "b"))


def test_a_module_that_reports_an_error_with_status_200_is_found_out() -> None:
    assert fault({"status": "error", "message": "no weights"}) == "no weights"


def test_several_images_give_several_classifications() -> None:
    answer = {"predictions": {"pred_lab": [["a"], ["b"]], "pred_prob": [[1.0], [0.5]]}}
    assert classifications(answer) == [(["a"], [1.0]), (["b"], [0.5])]


def test_a_required_file_comes_before_an_optional_one() -> None:
    told = [
        {"name": "archive", "type": "file", "required": False},
        {"name": "top", "type": "integer", "required": True},
        {"name": "image", "type": "file", "required": True},
    ]
    assert file_argument(told) == "image"
    assert file_argument(told[:2]) == "archive"
    assert file_argument([]) is None
