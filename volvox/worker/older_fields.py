"""One way of writing fields for marshmallow 2, 3 and 4.

Modules are written for the marshmallow of their day: `missing=`, `type="file"`, `location=` and `enum=` as keywords of
a field (which marshmallow 4 refuses), or `load_default=`, `data_key=` and `metadata={...}` (which marshmallow 2 does
not know). `mend` makes any of the three take both; `schema_class` and `loader` hide what else differs.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

_ALIASES = (("missing", "load_default"), ("load_default", "missing"), ("default", "dump_default"),
            ("dump_default", "default"), ("data_key", "load_from"))  # fmt: skip


def mend(_: types.ModuleType) -> None:
    """Let the fields of this marshmallow take the keywords of the others; what none knows becomes metadata."""
    field = importlib.import_module("marshmallow.fields").Field
    real = field.__init__
    if getattr(real, "takes_older_keywords", False):
        return
    validator = importlib.import_module("marshmallow.validate").Validator
    known = {
        name
        for name, parameter in inspect.signature(real).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }

    new = "missing" not in known

    def __init__(self: Any, *positional: Any, **named: Any) -> None:
        for theirs, ours in _ALIASES:
            if theirs in named and theirs not in known and ours in known:
                named.setdefault(ours, named.pop(theirs))
        extra = {name: named.pop(name) for name in list(named) if name not in known}
        metadata = extra.pop("metadata", None) or {}
        real(self, *positional, **named)
        self.metadata = {**(getattr(self, "metadata", None) or {}), **metadata, **extra}
        if new:
            self.validators = [_refusing(self, check, validator) for check in self.validators]

    __init__.takes_older_keywords = True  # type: ignore[attr-defined]
    field.__init__ = __init__
    if not hasattr(field, "fail"):  # gone with marshmallow 4; fields of a module's own call it

        def fail(self: Any, key: str, **named: Any) -> None:
            raise self.make_error(key, **named)

        field.fail = fail


def _refusing(field: Any, check: Callable[[Any], Any], kept: type) -> Callable[[Any], Any]:
    """A validator that refuses by returning False, which marshmallow 4 takes for consent, raises instead."""
    if isinstance(check, kept):
        return check

    def checked(value: Any) -> None:
        if check(value) is False:
            raise field.make_error("validator_failed")

    return checked


def schema_class(fields: Mapping[str, Any]) -> Any:
    """A Schema class of these fields."""
    schema: Any = importlib.import_module("marshmallow").Schema
    if hasattr(schema, "from_dict"):
        return schema.from_dict(dict(fields))
    return type("GeneratedSchema", (schema,), {**fields, "Meta": type("Meta", (), {"strict": True})})


def wire_name(keyword: str, field: Any) -> str:
    """What the argument is called in a request."""
    return getattr(field, "data_key", None) or getattr(field, "load_from", None) or keyword


def loader(fields: Mapping[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function from raw values by wire name to keywords, by these fields; unknown names are ignored.

    It raises marshmallow's own ValidationError, its `messages` by wire name. Defaults are not validated.
    """
    if hasattr(importlib.import_module("marshmallow"), "EXCLUDE"):
        return schema_class(fields)(unknown="exclude").load
    return _old_loader(fields)


def _old_loader(fields: Mapping[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The same with marshmallow 2, which answers by keyword, validates defaults and takes the keyword on the wire."""
    marshmallow: Any = importlib.import_module("marshmallow")
    names = {keyword: wire_name(keyword, field) for keyword, field in fields.items()}
    defaults = {keyword: field.missing for keyword, field in fields.items() if field.missing is not marshmallow.missing}
    copies = {}
    for keyword, field in fields.items():
        copies[keyword] = copy.copy(field)
        copies[keyword].missing, copies[keyword].load_from = marshmallow.missing, None
        copies[keyword].required = field.required and keyword not in defaults
    schema = schema_class(copies)()

    def load(raw: dict[str, Any]) -> dict[str, Any]:
        try:
            loaded = schema.load({keyword: raw[name] for keyword, name in names.items() if name in raw}).data
        except marshmallow.ValidationError as error:
            told = {names.get(keyword, keyword): messages for keyword, messages in error.messages.items()}
            raise marshmallow.ValidationError(told) from error
        for keyword, default in defaults.items():
            if names[keyword] not in raw:
                loaded[keyword] = default() if callable(default) else default
        return loaded

    return load
