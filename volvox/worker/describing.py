"""What a module's webargs or marshmallow fields say, as plain JSON; and raw values through those fields.

Both styles that modules are written in are read: `missing=`, `type="file"`, `location=`, `enum=` as extra keywords
(they end up in `field.metadata`), and `load_default=` with `metadata={...}`.
"""

from __future__ import annotations

import json
from typing import Any

_TYPES = (  # first match wins: a Boolean is no Integer, an Integer is a Number
    ("Boolean", "boolean"), ("Integer", "integer"), ("Float", "number"), ("Decimal", "number"), ("Number", "number"),
    ("List", "array"), ("Tuple", "array"), ("Dict", "object"), ("Mapping", "object"), ("Nested", "object"),
    ("DateTime", "datetime"), ("Date", "date"), ("Url", "url"), ("URL", "url"), ("Email", "email"), ("UUID", "uuid"),
    ("String", "string"),
)  # fmt: skip


class Refused(Exception):
    """The module's own validation refused the arguments.

    Attributes:
        messages: `{argument: [message, ...]}`.
    """

    def __init__(self, messages: Any) -> None:
        super().__init__(json.dumps(messages, default=str))
        self.messages = messages


def describe(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """One JSON object for each argument.

    Keys: `name` (on the wire), `keyword` (of the function), `type` (boolean integer number string array object date
    datetime url email uuid file), `required`, `default` (where there is one), `help`, `choices`, `minimum`, `maximum`,
    `items` (of an array), `location` (where it is fixed).
    """
    return [_describe(keyword, field) for keyword, field in fields.items()]


def kind(field: Any) -> str:
    """The type of one field, in the words of `describe`."""
    if (getattr(field, "metadata", None) or {}).get("type") == "file":
        return "file"
    names = [parent.__name__ for parent in type(field).__mro__]
    return next((ours for theirs, ours in _TYPES if theirs in names), "string")


class Arguments:
    """The arguments of one function: a schema made once, for as many requests as come."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._schema = None
        if fields:
            from marshmallow import EXCLUDE, Schema

            self._schema = Schema.from_dict(fields)(unknown=EXCLUDE)

    def validated(self, raw: dict[str, Any]) -> dict[str, Any]:
        if self._schema is None:
            return {}
        from marshmallow import ValidationError

        try:
            loaded: Any = self._schema.load(raw)
            return dict(loaded)
        except ValidationError as error:
            raise Refused(error.messages) from error


def validated(fields: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Raw values by wire name, turned into keyword arguments by the module's own fields; defaults filled in.

    Raises:
        Refused: With the module's messages, all of them at once.
    """
    if not fields:
        return {}
    from marshmallow import EXCLUDE, Schema, ValidationError

    try:
        loaded: Any = Schema.from_dict(fields)(unknown=EXCLUDE).load(raw)
        return dict(loaded)
    except ValidationError as error:
        raise Refused(error.messages) from error


def _describe(keyword: str, field: Any) -> dict[str, Any]:
    metadata = getattr(field, "metadata", None) or {}
    told: dict[str, Any] = {
        "name": getattr(field, "data_key", None) or keyword,
        "keyword": keyword,
        "type": kind(field),
        "required": bool(field.required),
        "help": str(metadata.get("description") or "").strip(),
    }
    default = getattr(field, "load_default", getattr(field, "missing", None))
    if not field.required and type(default).__name__ != "_Missing" and str(default) != "<marshmallow.missing>":
        told["default"] = _plain(default() if callable(default) else default)
    if choices := metadata.get("enum"):
        told["choices"] = _plain(list(choices))
    if location := metadata.get("location"):
        told["location"] = location
    for validator in getattr(field, "validators", []):
        if getattr(validator, "choices", None) is not None:
            told.setdefault("choices", _plain(list(validator.choices)))
        for theirs, ours in (("min", "minimum"), ("max", "maximum")):
            bound = getattr(validator, theirs, None)
            if bound is not None and type(validator).__name__ == "Range":
                told[ours] = _plain(bound)
    inner = getattr(field, "inner", None)
    if inner is not None:
        told["items"] = kind(inner)
    return told


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
