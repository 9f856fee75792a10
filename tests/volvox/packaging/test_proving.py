from __future__ import annotations

from pathlib import Path

import pytest

from volvox.packaging.proving import Question, wrong_with

QUESTION = Question(Path("a.png"), "digits", "image", ("0", "1"), ("1", 0.8))


def _answer(labels: list[str], probabilities: list[float]) -> dict[str, object]:
    return {"status": "OK", "predictions": {"labels": labels, "probabilities": probabilities}}


def test_the_answer_that_the_evaluation_gave_is_right() -> None:
    assert wrong_with(_answer(["1", "0"], [0.801, 0.199]), QUESTION) == ""


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (_answer(["1", "0"], [0.7, 0.3]), "gave 1 0.800, it gives 0.700"),
        (_answer(["0"], [0.8]), "said 1 (0.800), it says 0 (0.800)"),
        (_answer(["1"], [1.4]), "not between 0 and 1"),
        (_answer(["cat"], [0.8]), "none of the 2 classes"),
        ({"status": "error", "message": "no weights"}, "no weights"),
    ],
)
def test_another_answer_is_wrong_and_says_how(answer: object, complaint: str) -> None:
    assert complaint in wrong_with(answer, QUESTION)


def test_an_answer_that_is_no_classification_only_has_to_come() -> None:
    assert wrong_with({"predictions": {"boxes": []}}, QUESTION) == ""
