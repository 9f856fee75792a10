"""The Swagger document from what a module's fields say; the comparison with DEEPaaS itself is in `reference/`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from marshmallow import Schema, fields, validate

from tests.volvox.worker.test_describing import DECLARED
from volvox.serving import swagger
from volvox.worker.describing import describe, describe_schema


def _model(predict: dict[str, Any], train: dict[str, Any] | None = None, schema: Any = None, name: str = "m") -> Any:
    description = {
        "predict": describe(predict), "train": describe(train or {}), "response": describe_schema(schema),
    }  # fmt: skip
    return SimpleNamespace(deployed=SimpleNamespace(name=name), description=description)


def _parameters(**declared: Any) -> list[dict[str, Any]]:
    document = swagger.document([_model(declared)])
    return document["paths"]["/v2/models/m/predict/"]["post"]["parameters"]


def test_paths_are_those_of_deepaas() -> None:
    document = swagger.document([_model({})], base_path="/base")
    assert document["swagger"] == "2.0"
    assert sorted(document["paths"]) == [
        "/base", "/base/v2/", "/base/v2/debug/", "/base/v2/models/", "/base/v2/models/m/",
        "/base/v2/models/m/predict/", "/base/v2/models/m/train/", "/base/v2/models/m/train/{uuid}",
    ]  # fmt: skip


@pytest.mark.parametrize(("off", "missing"), [("predict", {"Prediction"}), ("train", {"Training", "TrainingList"})])
def test_what_is_not_offered_is_not_documented(off: str, missing: set[str]) -> None:
    document = swagger.document([_model({})], **{off: False})
    assert not [path for path in document["paths"] if off in path]
    assert set(swagger.document([_model({})])["definitions"]) - set(document["definitions"]) == missing


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (fields.Integer(load_default=3, validate=validate.Range(1, 9)),
         {"type": "integer", "format": "int32", "default": 3, "minimum": 1, "maximum": 9}),
        (fields.List(fields.Float(), validate=validate.Length(max=2)),
         {"type": "array", "collectionFormat": "multi", "items": {"type": "number", "format": "float"}, "maxItems": 2}),
        (fields.String(load_default=None), {"type": "string", "default": None, "x-nullable": True}),
        (fields.String(load_default=lambda: "made"), {"type": "string"}),
        (fields.String(metadata={"enum": ["a"], "format": "password", "x_more": 1, "nonsense": 2}),
         {"type": "string", "enum": ["a"], "format": "password", "x-more": 1}),
        (fields.Raw(metadata={"type": "file", "location": "form", "description": "A file"}),
         {"type": "file", "in": "formData", "description": "A file"}),
        (fields.String(data_key="X-A", metadata={"location": "headers"}),
         {"type": "string", "in": "header", "name": "X-A"}),
        (fields.Dict(values=fields.Date()),
         {"type": "object", "additionalProperties": {"type": "string", "format": "date"}}),
        (fields.String(validate=validate.OneOf(["a", "b"]), required=True),
         {"type": "string", "enum": ["a", "b"], "required": True}),
    ],
)  # fmt: skip
def test_a_field_is_a_parameter(declared: fields.Field, expected: dict[str, Any]) -> None:
    assert _parameters(argument=declared) == [{"in": "query", "name": "argument", "required": False, **expected}]


def test_arguments_of_the_json_body_are_one_parameter() -> None:
    first, body = _parameters(
        a=fields.Integer(),
        b=fields.String(required=True, metadata={"location": "json"}),
        c=fields.Boolean(metadata={"location": "json"}),
    )
    assert first["name"] == "a"
    assert body == {
        "in": "body", "name": "body", "required": False,
        "schema": {
            "type": "object", "required": ["b"],
            "properties": {"b": {"type": "string"}, "c": {"type": "boolean"}},
        },
    }  # fmt: skip


def test_accept_produces_its_choices_and_anything() -> None:
    accept = fields.String(validate=validate.OneOf(["image/png", "application/json"]), load_default="application/json")
    operation = swagger.document([_model({"accept": accept})])["paths"]["/v2/models/m/predict/"]["post"]
    assert operation["produces"] == ["image/png", "application/json", "*/*"]
    assert operation["parameters"][0]["default"] == "image/png"


class Part(Schema):
    size = fields.Integer(required=True)


class AnswerSchema(Schema):
    parts = fields.List(fields.Nested(Part))
    first = fields.Nested(Part, metadata={"description": "The first"})


def test_schemas_are_defined_once_by_their_name() -> None:
    document = swagger.document([_model({}, schema=AnswerSchema)])
    part = {"$ref": "#/definitions/Part"}
    assert document["definitions"]["Answer"]["properties"] == {
        "parts": {"type": "array", "items": part},
        "first": {"description": "The first", "allOf": [part]},
    }
    assert document["definitions"]["Part"]["required"] == ["size"]
    response = document["paths"]["/v2/models/m/predict/"]["post"]["responses"]["200"]
    assert response["schema"] == {"$ref": "#/definitions/Answer"}
    assert "Prediction" not in document["definitions"]


def test_two_models_with_schemas_of_the_same_name_keep_apart() -> None:
    one = _model({}, schema={"a": fields.Integer()}, name="one")
    two = _model({}, schema={"b": fields.Integer()}, name="two")
    definitions = swagger.document([one, two])["definitions"]
    assert list(definitions["ModelPredictionResponse"]["properties"]) == ["a"]
    assert list(definitions["ModelPredictionResponse1"]["properties"]) == ["b"]


@settings(deadline=None)
@given(DECLARED)
def test_every_reference_is_defined_and_every_definition_used(declared: dict[str, fields.Field]) -> None:
    document = swagger.document([_model(declared, declared, schema=declared)])
    assert set(document["definitions"]) == set(swagger._references(document))
