"""The worker's side, without a server: what it makes of requests and results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from volvox.worker.answering import Answering, Gathering

MODULE = """
import io
from marshmallow import fields

class ValidationError(ValueError):
    messages = {"x": ["not this one"]}

class HTTPException(Exception):
    status, reason = 418, "a teapot"

class Number:
    def tolist(self):
        return [1.5, 2]

def get_predict_args():
    return {
        "kind": fields.String(data_key="what-kind", load_default="number"),
        "mime": fields.String(data_key="Accept", metadata={"location": "headers"}),
        "only_query": fields.Integer(metadata={"location": "query"}),
        "table": fields.Dict(),
        "many": fields.List(fields.Integer()),
    }

def predict(kind, **given):
    if kind == "number":
        return Number()
    if kind == "stream":
        return io.BytesIO(b"streamed")
    if kind == "refuse":
        raise ValidationError("no")
    if kind == "teapot":
        raise HTTPException()
    if kind == "set":
        return {1, 2}
    if kind == "later":
        raise NotImplementedError
    return given
"""


@pytest.fixture
def answering(install_module) -> Answering:
    install_module("odd", MODULE)
    return Answering("odd")


def _ask(answering: Answering, **request: Any) -> tuple[dict[str, Any], bytes]:
    header, body = answering.answer(request)
    return json.loads(json.dumps(header)), body if isinstance(body, bytes) else b"".join(body)


def _ask_kind(answering: Answering, kind: str) -> tuple[dict[str, Any], bytes]:
    return _ask(answering, query={"what-kind": [kind]})


def test_numpy_like_results_become_lists(answering: Answering) -> None:
    assert json.loads(_ask_kind(answering, "number")[1]) == {"status": "OK", "predictions": [1.5, 2]}


def test_a_stream_is_answered_as_bytes(answering: Answering) -> None:
    assert _ask_kind(answering, "stream") == ({"content_type": "application/octet-stream"}, b"streamed")


def test_a_validation_error_raised_by_predict_is_a_refusal(answering: Answering) -> None:
    error = _ask_kind(answering, "refuse")[0]["error"]
    assert (error["kind"], error["messages"]) == ("refused", {"x": ["not this one"]})


def test_an_http_error_raised_by_predict_keeps_its_status(answering: Answering) -> None:
    error = _ask_kind(answering, "teapot")[0]["error"]
    assert (error["kind"], error["status"], error["message"]) == ("http", 418, "418: a teapot")


def test_a_result_that_is_not_json_is_a_failure_with_its_trace(answering: Answering) -> None:
    error = _ask_kind(answering, "set")[0]["error"]
    assert error["kind"] == "failed"
    assert "a set cannot be returned" in error["message"]
    assert "Traceback" in error["trace"]


def test_predict_that_is_not_implemented_is_told_as_missing(answering: Answering) -> None:
    assert _ask_kind(answering, "later")[0]["error"] == {
        "kind": "missing",
        "message": "Not implemented by underlying model (loaded 'odd')",
    }


def test_values_come_from_where_their_field_allows(answering: Answering) -> None:
    request = {
        "query": {"what-kind": ["echo"], "many": ["1"]},
        "form": {"only_query": ["3"], "many": ["7", "8"], "kind": ["number"]},
        "json": {"table": {"a": 1}, "many": [9]},
        "headers": {"accept": "text/csv"},
    }
    _, body = _ask(answering, **request)
    assert json.loads(body)["predictions"] == {"many": [1], "mime": "text/csv", "table": {"a": 1}}


def test_text_in_a_file_field_reaches_the_module_as_text() -> None:
    from marshmallow import fields

    image = fields.Raw(metadata={"type": "file", "location": "form"})
    assert Gathering({"image": image})({"form": {"image": ["text"]}}) == {"image": "text"}


def test_a_file_is_handed_over_as_deepaas_does() -> None:
    from marshmallow import fields

    image = fields.Raw(metadata={"type": "file", "location": "form"}, data_key="data")
    sent = {"data": [{"path": "/tmp/x.png", "content_type": "image/png", "name": "été.png"}]}
    found = Gathering({"image": image})({"files": sent})["data"]
    assert (found.name, found.filename, found.content_type, found.original_filename) == (
        "data", "/tmp/x.png", "image/png", "été.png",
    )  # fmt: skip
