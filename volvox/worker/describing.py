"""What a module's webargs or marshmallow fields say, as plain JSON; and raw values through those fields.

Both styles that modules are written in are read: `missing=`, `type="file"`, `location=`, `enum=` as extra keywords
(they end up in `field.metadata`), and `load_default=` with `metadata={...}`; with marshmallow 2, 3 and 4.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from volvox.worker import older_fields

_TYPES = {  # of the class that comes first in a field's own line of parents
    "DelimitedList": "string",  # one text with commas
    "Boolean": "boolean", "Integer": "integer", "Float": "number", "Decimal": "number", "Number": "number",
    "List": "array", "Tuple": "array", "Dict": "object", "Mapping": "object", "Nested": "object",
    "DateTime": "datetime", "Date": "date", "Url": "url", "URL": "url", "Email": "email", "UUID": "uuid",
    "String": "string",
}  # fmt: skip
_FORMATS = {
    "Integer": "int32", "Float": "float", "UUID": "uuid", "DateTime": "date-time", "Date": "date", "Email": "email",
    "Url": "url", "URL": "url",
}  # fmt: skip


def file_argument(described: Sequence[Mapping[str, Any]]) -> str | None:
    """The wire name of the argument that takes one file: a required one, else the first."""
    files = [argument for argument in described if argument["type"] == "file"]
    return next((argument["name"] for argument in sorted(files, key=lambda told: not told["required"])), None)


class Refused(Exception):
    """The module's own validation refused the arguments.

    Attributes:
        messages: `{argument: [message, ...]}`.
    """

    def __init__(self, messages: Any) -> None:
        super().__init__(json.dumps(messages, default=str))
        self.messages = messages


class Arguments:
    """The arguments of one function of a module, described and checked; made once, used for every request.

    Attributes:
        description: What `describe` tells.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """The arguments that `fields`, keyword -> field, declare."""
        self.description = describe(fields)
        self._load = older_fields.loader(fields) if fields else None

    def validated(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Raw values by wire name, turned into keyword arguments by the module's own fields; defaults filled in.

        Names that no field has are ignored.

        Raises:
            Refused: With the module's messages by wire name, all of them at once.
        """
        return _loaded(self._load, raw) if self._load else {}


def describe(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One JSON object for each argument.

    Always: `name` (on the wire), `keyword` (of the function), `type` (boolean integer number string array object date
    datetime url email uuid file), `required`, `help`. Where it applies: `default` (`default_is_made` if anew for each
    call), `choices`, `minimum`, `maximum`, `min_length`, `max_length`, `pattern`, `format` (int32 float date-time date
    url uuid email, or the module's own, such as password), `nullable`, `read_only`, `location` (where it is fixed),
    `untyped` (anything goes), `items` (the type of an array's elements) with `item` (their description), `values`
    (the description of a mapping's), `fields` (the descriptions of an object's) with `many` and `schema` (the name of
    its class), and `metadata` (the rest of what the module says of the field).
    """
    return [_describe(keyword, field) for keyword, field in fields.items()]


def describe_schema(schema: Any) -> dict[str, Any] | None:
    """What a module's `schema` (a dict of fields or a Schema class) says of its answers: `schema`, `fields`."""
    if isinstance(schema, Mapping):
        return {"schema": "ModelPredictionResponse", "fields": describe(schema)}
    declared = getattr(schema, "_declared_fields", None)
    if declared is None:
        return None
    return {"schema": getattr(schema, "__name__", type(schema).__name__), "fields": describe(dict(declared))}


def kind(field: Any) -> str:
    """The type of one field, in the words of `describe`."""
    if _metadata(field).get("type") == "file":
        return "file"
    return _first(field, _TYPES) or "string"


def validated(fields: Mapping[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """`Arguments.validated` for one call only."""
    return _loaded(older_fields.loader(fields), raw) if fields else {}


def _loaded(load: Callable[[dict[str, Any]], Any], raw: dict[str, Any]) -> dict[str, Any]:
    refusal: type[Exception] = importlib.import_module("marshmallow").ValidationError
    try:
        return dict(load(raw))
    except refusal as error:
        raise Refused(getattr(error, "messages", [str(error)])) from error


def _first(field: Any, table: dict[str, str]) -> str | None:
    return next((table[parent.__name__] for parent in type(field).__mro__ if parent.__name__ in table), None)


def _metadata(field: Any) -> dict[str, Any]:
    """The field's metadata; a marshmallow that does not know `metadata={...}` keeps it one level down."""
    metadata = dict(getattr(field, "metadata", None) or {})
    inner = metadata.pop("metadata", None)
    return {**inner, **metadata} if isinstance(inner, dict) else metadata


def _describe(keyword: str, field: Any) -> dict[str, Any]:
    metadata = _metadata(field)
    told: dict[str, Any] = {
        "name": older_fields.wire_name(keyword, field),
        "keyword": keyword,
        "type": kind(field),
        "required": bool(field.required),
        "help": str(metadata.get("description") or "").strip(),
        **_default(field),
    }
    if choices := metadata.get("enum"):
        told["choices"] = _plain(list(choices))
    if location := metadata.get("location"):
        told["location"] = location
    for validator in getattr(field, "validators", []):
        for name, value in _bounds(validator).items():
            told.setdefault(name, value)
    if said := metadata.get("format") or _first(field, _FORMATS):
        told["format"] = str(said)
    flags = {
        "nullable": getattr(field, "allow_none", False),
        "read_only": getattr(field, "dump_only", False),
        "untyped": _first(field, _TYPES) is None,
    }
    told |= {name: True for name, holds in flags.items() if holds}
    told |= _parts(field)
    if more := {name: value for name, value in metadata.items() if isinstance(name, str)}:
        told["metadata"] = _plain(more)
    return told


def _default(field: Any) -> dict[str, Any]:
    default = getattr(field, "load_default", getattr(field, "missing", None))
    if field.required or type(default).__name__ == "_Missing" or str(default) == "<marshmallow.missing>":
        return {}
    if callable(default):
        return {"default": _plain(default()), "default_is_made": True}
    try:
        return {"default": _plain(field._serialize(default, None, None))}
    except Exception:  # a default may be anything: the reference hands it over unchecked
        return {"default": _plain(default)}


def _bounds(validator: Any) -> dict[str, Any]:
    """What a validator of marshmallow's demands, in the words of `describe`."""
    names = [parent.__name__ for parent in type(validator).__mro__]
    if getattr(validator, "choices", None) is not None:
        return {"choices": _plain(list(validator.choices))}
    if "Equal" in names:
        return {"choices": [_plain(validator.comparable)]}
    if "Regexp" in names:
        return {"pattern": validator.regex.pattern}
    if "Length" in names:  # with marshmallow 2 a kind of Range
        equal = getattr(validator, "equal", None)
        bounds = {"min_length": validator.min, "max_length": validator.max}
        return {name: equal or bound for name, bound in bounds.items() if equal or bound is not None}
    if "Range" in names:
        bounds = {"minimum": validator.min, "maximum": validator.max}
        return {name: _plain(bound) for name, bound in bounds.items() if bound is not None}
    return {}


def _parts(field: Any) -> dict[str, Any]:
    """What an array, a mapping or an object is made of."""
    told: dict[str, Any] = {}
    inner = getattr(field, "inner", None) or getattr(field, "container", None)
    if inner is not None:
        told |= {"items": kind(inner), "item": _describe("", inner)}
    if (values := getattr(field, "value_field", None)) is not None:
        told["values"] = _describe("", values)
    if getattr(field, "nested", None) is not None:
        used = field.schema.fields  # in no order before marshmallow 4
        fields = {name: declared for name, declared in field.schema.declared_fields.items() if name in used}
        told |= {"fields": describe(fields), "many": bool(getattr(field, "many", False))}
        told["schema"] = type(field.schema).__name__
    return told


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
