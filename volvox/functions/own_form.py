"""Volvox's own form of a definition: three lines for the common case, and every field of `Function`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, get_args

from volvox.functions import kubernetes_keys, runtime_settings, values
from volvox.functions.building import built, own_place
from volvox.functions.definition import NAME, Function, Input, Output, RuntimeName
from volvox.functions.document import Value
from volvox.functions.entries import Entries, Reading
from volvox.functions.providers import Providers
from volvox.functions.secrecy import is_reference, names_secret
from volvox.functions.values import Kind, anything, choice, near, number, said, text, texts, truth, whole
from volvox.returned import RETURNED_BY

_YEAR_SECONDS = 366 * 86_400.0
_WARM = re.compile(r"(\S+\s+){5}for\s+\d+(\.\d+)?\s*(s|m|min|h|d)")
_DEPLOYMENT = values.matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "write the name of a work pool (`volvox pools`)")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*([/@][A-Za-z0-9._-]+)?")


def _command(value: Value) -> list[str]:
    if value.kind == "list":
        for each in value.items:
            values.text(each)  # tells if it is none
        return [each.text for each in value.items]
    try:
        return shlex.split(said(value))
    except ValueError as error:
        raise value.wrong(f"is {value.told}, which no shell can read ({error}); write a list of words") from error


def _model(value: Value) -> str:
    if not _MODEL.fullmatch(given := said(value)):
        raise value.wrong(f"is {value.told}; write NAME, NAME/VERSION or NAME@ALIAS of a published model")
    return given


def _windows(value: Value) -> list[str]:
    found = texts(value)
    for each in found:
        if not _WARM.fullmatch(each):
            raise value.wrong(f"holds {each!r}; write a cron expression and how long, such as '0 8 * * 1-5 for 10h'")
    return found


def _variables(value: Value) -> dict[str, str]:
    found = {}
    for name, each in value.entries:
        values.variable_name(name, each)
        if each.kind == "truth":
            raise each.wrong(f"is read as a truth value; put it in quotes: '{each.text}'")
        if each.kind in ("list", "map"):
            raise each.wrong(f"is {each.told}; the value of a variable is a text")
        if names_secret(name) and each.text and not is_reference(each.text):
            raise each.wrong(
                "looks like a secret, and what stands here is kept in plain text; save it as a block and write "
                f'{name}: "{{{{ prefect.blocks.secret.NAME }}}}"'
            )
        found[name] = each.text
    return found


_RESOURCES: dict[str, tuple[str, Kind[Any]]] = {
    "memory": ("memory_mb", values.memory_mb),
    "memory_mb": ("memory_mb", whole(1, 1 << 40, "MB")),
    "cpu": ("cpu", values.cores),
    "gpus": ("gpus", whole(0, 64)),
    "storage": ("storage_mb", values.memory_mb),
    "storage_mb": ("storage_mb", whole(1, 1 << 40, "MB")),
}
_SCALING: dict[str, tuple[str, Kind[Any]]] = {
    "min_scale": ("min_scale", whole(0, 1000)),
    "max_scale": ("max_scale", whole(1, 1000)),
    "idle_seconds": ("idle_seconds", number(0, _YEAR_SECONDS)),
    "warm": ("warm", _windows),
    "concurrency": ("concurrency", whole(1, 1000)),
    "batch": ("batch", whole(1, 1024)),
}
_RETRIES: dict[str, tuple[str, Kind[Any]]] = {
    "attempts": ("attempts", whole(1, 100)),
    "first_pause_seconds": ("first_pause_seconds", number(0, _YEAR_SECONDS)),
    "longest_pause_seconds": ("longest_pause_seconds", number(0, _YEAR_SECONDS)),
}


def _preference(value: Value) -> str | float:
    return number(0, 1)(value) if value.kind == "number" else choice("cheapest", "fastest")(value)


def _runtimes(value: Value) -> list[str]:
    return values.words(*(name for name in get_args(RuntimeName) if name not in ("auto", "flow")))(value)


_PLACEMENT: dict[str, tuple[str, Kind[Any]]] = {
    "prefer": ("prefer", _preference),
    "call_seconds": ("call_seconds", number(0, _YEAR_SECONDS)),
    "calls_per_hour": ("calls_per_hour", number(0, 1e9)),
    "image_mb": ("image_mb", number(0, 1e9)),
    "payload_mb": ("payload_mb", number(0, 1e9)),
    "among": ("among", _runtimes),
}
_BULK: dict[str, tuple[str, Kind[Any]]] = {
    "from": ("least", whole(2, 1_000_000, "files")),
    "on": ("on", _DEPLOYMENT),
    "most": ("most", whole(2, 100_000, "files")),
}
_PLAIN: dict[str, Kind[Any]] = {
    "description": text,
    "origin": choice("volvox", "scar", "oscar"),
    "model": _model,
    "image": said,
    "flow": choice(*RETURNED_BY),
    "command": _command,
    "runtime": choice(*get_args(RuntimeName)),
    "arguments": values.mapping,
    "accept": text,
    "timeout_seconds": number(0.001, _YEAR_SECONDS),
    "deadline_seconds": number(0, _YEAR_SECONDS),
    "priority": whole(-100, 100),
    "per_user": whole(0, 1_000_000),
    "keep_days": number(0, 36_600),
    "max_object_mb": whole(0, 1 << 30, "MB"),
    "fetches": truth,
    "trigger": choice("inbox", "direct"),
}
_PARTS = {"resources": _RESOURCES, "scaling": _SCALING, "retries": _RETRIES, "placement": _PLACEMENT}
KEYS = (*Function.model_fields, "places")


def read(value: Value, reading: Reading, *, alone: bool, shared: Value | None = None) -> Function | None:
    """The function that a map in Volvox's own words defines; None if there are mistakes, which are remembered.

    Args:
        value: The map.
        reading: Takes mistakes, warnings and what is missing.
        alone: Whether it is the only one of its file, so that it may have the file's name.
        shared: `providers` of the whole file.
    """
    before = len(reading.mistakes)
    entries = Entries(value, reading)
    told: dict[str, Any] = {}
    _kubernetes_settings(value, reading)
    for key, kind in _PLAIN.items():
        if (found := entries.take(key, kind, None)) is not None:
            told[key] = found
    for key, part in _PARTS.items():
        if (found := _part(entries.inner(key), part)) != {}:
            told[key] = found
    told |= _bulk(entries.get("bulk"), reading)
    told["environment"] = entries.take("environment", _environment(reading), {})
    told["inputs"], told["outputs"] = _places(entries, reading)
    told["name"] = entries.take("name", said, "") or _name(told, reading, alone)
    if not told["name"]:
        reading.mistakes.append(str(value.wrong("has no name; write name: NAME")))
    if (script := entries.get("script")) is not None:
        told["script"] = reading.tried(lambda value: _script(value, told["name"], reading), script, "")
    told |= _settings(entries, told)
    providers, stated = Providers(reading), entries.get("providers")
    used = {place.provider for place in (*told["inputs"], *told["outputs"])}
    for each in (shared, stated):
        for name, keys in Entries(each, reading).value.entries if each else ():
            if named := reading.tried(lambda keys, name=name: _provided(keys, name), keys, ""):
                providers.describe(named, keys, plain=False)
                used |= {named} if each is stated else set()
    for name, each in entries.rest():
        reading.mistakes.append(
            f"{each.where}: there is no key {each.key!r}{near(name, KEYS)}; allowed are {', '.join(KEYS)}"
        )
    told["providers"], described = providers.attached(used)
    if described:
        settings = told.get("settings", {})
        told["settings"] = {**settings, "storage_providers": {**settings.get("storage_providers", {}), **described}}
    if len(reading.mistakes) > before:
        return None
    return built(told, entries)


def _kubernetes_settings(value: Value, reading: Reading) -> None:
    """Those of a runtime that says what it takes, if the function was written for it and not brought from elsewhere."""
    runtime, origin, settings = value.get("runtime"), value.get("origin"), value.get("settings")
    if runtime is None or settings is None or runtime.text.strip().lower() != "kubernetes":
        return
    if origin is None or origin.text.strip().lower() == "volvox":
        reading.mistakes += kubernetes_keys.checked(settings)


def _part(entries: Entries, keys: dict[str, tuple[str, Kind[Any]]]) -> dict[str, Any]:
    found = {}
    for key, (name, kind) in keys.items():
        if (told := entries.take(key, kind, None)) is not None:
            found[name] = told
    for name, value in entries.rest():
        entries.reading.mistakes.append(
            f"{value.where}: there is no key {value.key!r}{near(name, keys)}; allowed are {', '.join(keys)}"
        )
    return found


def _bulk(value: Value | None, reading: Reading) -> dict[str, Any]:
    if value is None:
        return {}
    entries = Entries(value, reading)
    entries.need("from", anything, None)  # tells if it is missing
    return {"bulk": _part(entries, _BULK)}


def _settings(entries: Entries, told: dict[str, Any]) -> dict[str, Any]:
    if (stated := entries.get("settings")) is None:
        return {}
    if told.get("runtime") == "kubernetes":  # they were looked at by its own keys
        return {"settings": entries.reading.tried(values.mapping, stated, {})}
    if "script" in told and not told["script"]:
        told = {**told, "script": "#"}  # one that is not there yet is one all the same
    reading = entries.reading
    return {"settings": reading.tried(lambda value: runtime_settings.read(value, told, reading), stated, {})}


def _environment(reading: Reading) -> Callable[[Value], dict[str, str]]:
    def read(value: Value) -> dict[str, str]:
        Entries(value, reading)  # tells if it holds no keys and values, or one twice
        return _variables(value)

    return read


def _places(entries: Entries, reading: Reading) -> tuple[list[Any], list[Any]]:
    short = entries.inner("places")
    inputs = [*short.items("in"), *short.items("inputs"), *entries.items("inputs")]
    outputs = [*short.items("out"), *short.items("outputs"), *entries.items("outputs")]
    for name, value in short.rest():
        reading.mistakes.append(
            f"{value.where}: there is no key {value.key!r}{near(name, ('in', 'out'))}; allowed are in, out"
        )
    found_in = [own_place(each, reading, output=False) for each in inputs]
    found_out = [own_place(each, reading, output=True) for each in outputs]
    return [each for each in found_in if isinstance(each, Input)], [
        each for each in found_out if isinstance(each, Output)
    ]


def _name(told: dict[str, Any], reading: Reading, alone: bool) -> str:
    """A function without a name has its model's, or its file's if there is no other in it."""
    model = re.split(r"[/@]", told.get("model", ""))[0]
    stem = reading.path.stem if alone and NAME.fullmatch(reading.path.stem) else ""
    return model or stem


def _script(value: Value, function: str, reading: Reading) -> str:
    if value.kind == "map" and [name.lower() for name, _ in value.entries] == ["text"]:
        return (value.get("text") or value).text
    return reading.script(value, function)


def _provided(value: Value, name: str) -> str:
    from volvox.functions.locations import provider_name

    if name.lower().startswith("clusters."):
        return f"clusters.{name.partition('.')[2]}"
    try:
        return provider_name(name)
    except ValueError as error:
        raise value.wrong(f": {error}") from error
