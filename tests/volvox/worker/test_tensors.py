"""Tensors on the worker's side: what a module declares, gets and gives."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from volvox.worker.tensors import Tensors, Wrong, fits, joined, of, split

ROWS = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
OUT = {"name": "y", "datatype": "FP32", "shape": [-1]}


def module(infer: Any = None, inputs: Any = (ROWS,), outputs: Any = (OUT,)) -> Any:
    return SimpleNamespace(
        get_tensors=lambda: {"inputs": list(inputs), "outputs": list(outputs)},
        infer=infer or (lambda inputs: {"y": inputs["x"].sum(axis=1)}),
    )


def request(rows: Any, outputs: tuple[str, ...] = (), **parameters: Any) -> dict[str, Any]:
    array = np.asarray(rows, "<f4")
    told = {"name": "x", "datatype": "FP32", "shape": list(array.shape), "bytes": array.nbytes}
    return {
        "tensors": {"inputs": [told], "outputs": list(outputs), "parameters": parameters},
        "payload": array.tobytes(),
    }


def failure(error: Exception) -> Any:
    return {"error": f"{type(error).__name__}: {error}"}, b""


def values(answer: Any) -> list[float]:
    return np.frombuffer(answer[1], "<f4").tolist()


def test_requests_that_agree_are_computed_in_one_call_and_each_gets_its_rows() -> None:
    calls: list[int] = []

    def infer(inputs: dict[str, Any]) -> dict[str, Any]:
        calls.append(len(inputs["x"]))
        return {"y": inputs["x"].sum(axis=1)}

    answers = Tensors(module(infer)).answer_many(
        [request([[1, 2]]), request([[3, 4], [5, 6]]), request([[0, 0]])], failure
    )
    assert calls == [4]
    assert [values(answer) for answer in answers] == [[3], [7, 11], [0]]
    assert [answer[0]["tensors"][0]["shape"] for answer in answers] == [[1], [2], [1]]


def test_requests_of_other_shapes_are_computed_apart() -> None:
    calls: list[tuple[int, ...]] = []

    def infer(inputs: dict[str, Any]) -> dict[str, Any]:
        calls.append(inputs["x"].shape)
        return {"y": inputs["x"].sum(axis=1)}

    anything = {**ROWS, "shape": [-1, -1]}
    answers = Tensors(module(infer, [anything])).answer_many(
        [request([[1, 2]]), request([[1, 2, 3]]), request([[4, 5]])], failure
    )
    assert sorted(calls) == [(1, 3), (2, 2)]
    assert [values(answer) for answer in answers] == [[3], [6], [9]]


def test_one_that_the_module_refuses_does_not_harm_the_others() -> None:
    def infer(inputs: dict[str, Any]) -> dict[str, Any]:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return {"y": inputs["x"].sum(axis=1)}

    answers = Tensors(module(infer)).answer_many([request([[1, 2]]), request([[-1, 2]]), request([[3, 4]])], failure)
    assert answers[1][0] == {"error": "ValueError: negative"}
    assert [values(answers[at]) for at in (0, 2)] == [[3], [7]]


def test_a_module_that_does_not_give_a_row_for_each_is_asked_one_by_one() -> None:
    def infer(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"].sum(axis=1)[:1]}

    answers = Tensors(module(infer)).answer_many([request([[1, 2]]), request([[3, 4]])], failure)
    assert [values(answer) for answer in answers] == [[3], [7]]


def test_nothing_is_computed_together_where_the_first_length_is_fixed() -> None:
    calls: list[int] = []

    def infer(inputs: dict[str, Any]) -> dict[str, Any]:
        calls.append(len(inputs["x"]))
        return {"y": inputs["x"].sum(axis=1)}

    fixed = Tensors(module(infer, [{**ROWS, "shape": [1, 2]}], [{**OUT, "shape": [1]}]))
    assert not fixed.batches
    fixed.answer_many([request([[1, 2]]), request([[3, 4]])], failure)
    assert calls == [1, 1]


def test_parameters_reach_a_module_that_names_them_and_keep_requests_apart() -> None:
    def infer(inputs: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"].sum(axis=1) * parameters.get("times", 1)}

    answers = Tensors(module(infer)).answer_many(
        [request([[1, 2]], times=10), request([[1, 2]]), request([[3, 4]], times=10)], failure
    )
    assert [values(answer) for answer in answers] == [[30], [3], [70]]


def test_a_module_may_write_to_its_inputs() -> None:
    def infer(inputs: dict[str, Any]) -> dict[str, Any]:
        inputs["x"] *= 2
        return {"y": inputs["x"].sum(axis=1)}

    assert values(Tensors(module(infer)).answer_many([request([[1, 2]])], failure)[0]) == [6]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "gave a list"),
        ({}, "no output 'y'"),
        ({"y": np.zeros((1, 1), "f4")}, r"of shape \[1, 1\]; \[-1\] is declared"),
        ({"y": np.zeros(1, "c8")}, "as complex64; FP32 is declared"),
    ],
)
def test_what_a_module_gives_has_to_be_what_it_declared(given: Any, message: str) -> None:
    answers = Tensors(module(lambda inputs: given)).answer_many([request([[1, 2]])], failure)
    import re

    assert re.search(message, answers[0][0]["error"])


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (None, "has to give"),
        ({"inputs": [], "outputs": [OUT]}, "name each of the inputs"),
        ({"inputs": [ROWS, ROWS], "outputs": [OUT]}, "names of their own"),
        ({"inputs": [{**ROWS, "datatype": "FP8"}], "outputs": [OUT]}, "'x' as 'FP8'"),
        ({"inputs": [{**ROWS, "shape": [-2]}], "outputs": [OUT]}, r"shape \[-2\]"),
    ],
)
def test_a_declaration_that_cannot_be_understood_is_told(declared: Any, message: str) -> None:
    with pytest.raises(Wrong, match=message):
        of(SimpleNamespace(get_tensors=lambda: declared, infer=lambda inputs: inputs))
    with pytest.raises(Wrong, match="no infer"):
        of(SimpleNamespace(get_tensors=lambda: {"inputs": [ROWS], "outputs": [OUT]}))
    assert of(SimpleNamespace()) is None


@pytest.mark.parametrize("elements", [[], [b""], [b"a", b"", b"\xff\x00"]])
def test_elements_come_back_as_they_went(elements: list[bytes]) -> None:
    assert split(joined(elements)) == elements


@pytest.mark.parametrize("data", [b"\x01", b"\x02\x00\x00\x00a", joined([b"a"]) + b"\xff\xff\xff\xff"])
def test_a_length_that_leads_past_the_end_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="leads past its end"):
        split(data)


def test_a_shape_fits_where_every_fixed_length_agrees() -> None:
    assert fits([2, 3], [-1, 3])
    assert not fits([2, 4], [-1, 3])
    assert not fits([2], [-1, 3])


def test_numpy_is_not_imported_for_a_module_without_tensors() -> None:
    code = "import sys, volvox.worker.loop, volvox.serving.tensors; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
