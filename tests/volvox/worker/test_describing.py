"""Arguments: what marshmallow itself would say, for any fields and any values."""

from __future__ import annotations

import json
import string
from typing import Any

import marshmallow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import fields, validate

from volvox.worker import describing
from volvox.worker.describing import Arguments, Refused

NAMES = st.text(string.ascii_letters + "_-", min_size=1, max_size=6)
PLAIN = {
    fields.Integer: st.integers(),
    fields.Float: st.floats(allow_nan=False, allow_infinity=False),
    fields.Boolean: st.booleans(),
    fields.String: st.text(),
    fields.Dict: st.dictionaries(st.text(), st.integers(), max_size=2),
    fields.Date: st.dates(),
    fields.DateTime: st.datetimes(),
    fields.UUID: st.uuids(),
    fields.Email: st.emails(),
    fields.Raw: st.text(),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from(["1", "1.0", "true", "2024-01-02", "a@example.com", "12345678123456781234567812345678"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2), max_leaves=3,
)  # fmt: skip


@st.composite
def field(draw: st.DrawFn, deep: bool = True) -> fields.Field:
    """Any field that a module might declare."""
    options: dict[str, Any] = {"metadata": {"description": draw(st.text(max_size=3))}}
    if draw(st.booleans()):
        options["data_key"] = draw(NAMES)
    if deep and draw(st.integers(0, 3)) == 0:
        return fields.List(draw(field(deep=False)), required=draw(st.booleans()), **options)
    if deep and draw(st.integers(0, 5)) == 0:
        return fields.Nested(marshmallow.Schema.from_dict({"part": draw(field(deep=False))}), **options)
    kind = draw(st.sampled_from(list(PLAIN)))
    if kind is fields.Integer and draw(st.booleans()):
        options["validate"] = validate.Range(draw(st.none() | st.integers(0, 3)), draw(st.none() | st.integers(5, 9)))
    if kind is fields.String and draw(st.booleans()):
        options["validate"] = draw(st.sampled_from([validate.OneOf(["1", "true"]), validate.Length(max=2)]))
    if draw(st.booleans()):
        options["required"] = True
    elif draw(st.booleans()):
        options["load_default"] = draw(st.none() | PLAIN[kind])
    return kind(**options)


def _apart(declared: dict[str, fields.Field]) -> bool:
    """Two arguments of one name are an error of the module, which marshmallow tells."""
    renamed = [asked.data_key for asked in declared.values() if asked.data_key]
    return len({*declared, *renamed}) == len(declared) + len(renamed)


DECLARED = st.dictionaries(NAMES, field(), max_size=4).filter(_apart)


@st.composite
def declared_and_sent(draw: st.DrawFn) -> tuple[dict[str, fields.Field], dict[str, Any]]:
    declared = draw(DECLARED)
    names = [given.data_key or keyword for keyword, given in declared.items()]
    raw = draw(st.dictionaries(st.sampled_from([*names, "nobody"]), VALUES, max_size=5))
    return declared, raw


def _outcome(call: Any) -> tuple[str, Any]:
    try:
        return "loaded", call()
    except marshmallow.ValidationError as error:
        return "refused", error.messages
    except Refused as error:
        return "refused", error.messages


@settings(deadline=None)
@given(declared_and_sent())
def test_values_become_what_marshmallow_makes_of_them(case: tuple[dict[str, fields.Field], dict[str, Any]]) -> None:
    declared, raw = case
    schema = marshmallow.Schema.from_dict(declared)(unknown=marshmallow.EXCLUDE)
    expected = _outcome(lambda: dict(schema.load(raw))) if declared else ("loaded", {})
    arguments = Arguments(declared)
    for _ in range(2):  # made once, asked often
        assert _outcome(lambda: arguments.validated(raw)) == expected
    assert _outcome(lambda: describing.validated(declared, raw)) == expected


@settings(deadline=None)
@given(DECLARED)
def test_every_field_is_described_as_json_with_what_is_asked_of_it(declared: dict[str, fields.Field]) -> None:
    told = Arguments(declared).description
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    for argument, (keyword, asked) in zip(told, declared.items(), strict=True):
        assert argument["keyword"] == keyword
        assert argument["name"] == (asked.data_key or keyword)
        assert argument["required"] == asked.required
        assert ("default" in argument) == (asked.load_default is not marshmallow.missing)
        assert argument.get("nullable", False) == asked.allow_none


def test_a_refusal_carries_the_messages_and_reads_as_json() -> None:
    with pytest.raises(Refused) as refusal:
        Arguments({"count": fields.Integer(required=True)}).validated({"count": "x"})
    assert refusal.value.messages == {"count": ["Not a valid integer."]}
    assert json.loads(str(refusal.value)) == refusal.value.messages


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (fields.Date(), {"type": "date", "format": "date"}),
        (fields.Url(), {"type": "url", "format": "url"}),
        (fields.Raw(), {"type": "string", "untyped": True}),
        (fields.String(dump_only=True), {"type": "string", "read_only": True}),
        (fields.String(validate=validate.Equal("a")), {"type": "string", "choices": ["a"]}),
        (fields.Dict(values=fields.Float()), {"type": "object"}),
        (fields.List(fields.List(fields.Date())), {"type": "array", "items": "array"}),
        (fields.Raw(metadata={"type": "file"}), {"type": "file", "untyped": True}),
        (fields.Integer(load_default=lambda: 4), {"default": 4, "default_is_made": True}),
        (fields.Float(load_default=object), {"default_is_made": True}),
    ],
)
def test_fields_are_told_apart(declared: fields.Field, expected: dict[str, Any]) -> None:
    told = describing.describe({"argument": declared})[0]
    assert {name: told[name] for name in expected} == expected


def test_what_a_collection_holds_is_described() -> None:
    mapping, listing = describing.describe(
        {"mapping": fields.Dict(values=fields.Float()), "listing": fields.List(fields.List(fields.Date()))}
    )
    assert mapping["values"]["format"] == "float"
    assert listing["item"]["item"]["format"] == "date"
