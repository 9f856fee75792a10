from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

import pytest
from image_classifier import api, arguments
from marshmallow import EXCLUDE, Schema
from webargs import ValidationError


def _installed() -> bool:
    try:
        distribution(api.DISTRIBUTION)
    except PackageNotFoundError:
        return False
    return True


def read(fields: dict, given: dict) -> dict:
    return Schema.from_dict(fields)(unknown=EXCLUDE).load(given)


@pytest.mark.parametrize(
    ("name", "given", "read_as"),
    [
        ("epochs", "15", 15),
        ("epochs", '"15"', 15),
        ("epochs", 15, 15),
        ("epochs", "null", None),
        ("learning_rate", "1e-3", 0.001),
        ("flip", "true", True),
        ("flip", '"false"', False),
        ("backbone", '"timm:resnet18"', "timm:resnet18"),
        ("image_size", 32, "32"),
        ("image_size", "32", "32"),
        ("devices", "2", "2"),
        ("class_weights", True, "true"),
    ],
)
def test_values_are_read_bare_and_as_json_in_a_string(name, given, read_as):
    value = read(api.get_train_args(), {name: given})[name]
    assert value == read_as
    assert type(value) is type(read_as)


def test_what_was_read_once_can_be_read_again():
    once = arguments.defaults({"epochs": '"3"', "image_size": 32, "class_weights": False, "devices": "2"})
    assert arguments.defaults(once) == once


@pytest.mark.parametrize(
    "given", [{"learning_rate": -1}, {"learning_rate": 0}, {"learning_rate": "nan"}, {"epochs": 1.5}]
)
def test_values_out_of_range_are_refused(given):
    with pytest.raises(ValidationError):
        arguments.defaults(given)


@pytest.mark.parametrize(
    ("given", "read_as"), [("http://a/b", ["http://a/b"]), (["x", "y"], ["x", "y"]), ('["x", "y"]', ["x", "y"])]
)
def test_one_address_or_several_are_taken(given, read_as):
    assert read(api.get_predict_args(), {"urls": given})["urls"] == read_as


def test_files_are_told_apart_from_values():
    fields = api.get_predict_args()
    assert [name for name, field in fields.items() if field.metadata.get("type") == "file"] == [
        "image",
        "data",
        "zip_data",
    ]
    assert read(fields, {})["top"] == 5
    with pytest.raises(ValidationError):
        read(fields, {"top": 0})


def test_every_argument_says_what_it_is():
    for fields in (api.get_train_args(), api.get_predict_args()):
        assert all(len(field.metadata["description"]) > 10 for field in fields.values())


def test_the_schema_takes_what_predict_answers():
    assert not Schema.from_dict(api.schema)().validate({"status": "OK", "predictions": {"labels": []}})
    assert Schema.from_dict(api.schema)().validate({"status": "OK"})


@pytest.mark.skipif(
    not _installed(), reason="the module is not installed here: its metadata is that of the distribution"
)
def test_the_metadata_says_who_made_it():
    told = api.get_metadata()
    assert told["name"] == "image_classifier"
    assert {"version", "description", "license", "author"} <= told.keys()
