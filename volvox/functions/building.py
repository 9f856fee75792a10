"""From what a file says to a `Function`: places, and mistakes that only the whole shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from volvox.functions.definition import Function, Input, Output
from volvox.functions.document import Value
from volvox.functions.entries import Entries, Reading
from volvox.functions.locations import ELSEWHERE, provided_url, provider_name, url_of
from volvox.functions.providers import Providers
from volvox.functions.values import near, said, texts, truth

_PLACE = ("url", "prefix", "suffix", "provider", "per_user")


def built(fields: Mapping[str, Any], entries: Entries) -> Function | None:
    """The function with these fields; None if they contradict each other, which is remembered as a mistake.

    Args:
        fields: As `Function` names them.
        entries: Where they were taken from, for file and line.
    """
    reading = entries.reading
    before = len(reading.mistakes)
    try:
        return Function.model_validate(dict(fields))
    except ValidationError as error:
        for each in error.errors():
            key = str(each["loc"][0]) if each["loc"] else ""
            spot = entries.value.get(key) if key else None
            reason = str(each.get("ctx", {}).get("error") or each["msg"])
            told = (spot or entries.value).wrong(
                f"is {spot.told}: {reason}" if spot else f"{key}: {reason}".strip(": ")
            )
            if str(told) not in reading.mistakes:
                reading.mistakes.append(str(told))
    assert len(reading.mistakes) > before
    return None


def own_place(value: Value, reading: Reading, *, output: bool) -> Input | Output | None:
    """A place in Volvox's own words: a path, a URL, or `{url, prefix, suffix, provider, per_user}`."""
    if value.kind in ("text", "number"):
        url = _url(value, reading)
        return (Output(url=url) if output else Input(url=url)) if url else None
    entries = Entries(value, reading)
    written = entries.get("url")
    if written is None:
        reading.mistakes.append(
            str(value.wrong("has no url; write a path, s3://bucket/folder, or {url: ..., suffix: ...}"))
        )
        return None
    url = _url(written, reading)
    told: dict[str, Any] = {
        "url": url,
        "prefix": tuple(entries.take("prefix", texts, [])),
        "suffix": tuple(entries.take("suffix", texts, [])),
        "provider": entries.take("provider", _provider, ""),
    }
    if not output:
        told["per_user"] = entries.take("per_user", truth, False)
    for name, each in entries.rest():
        allowed = [key for key in _PLACE if key != "per_user" or not output]
        reading.mistakes.append(
            f"{each.where}: there is no key {each.key!r}{near(name, allowed)}; allowed are {', '.join(allowed)}"
        )
    return (Output(**told) if output else Input(**told)) if url else None


def their_places(
    entries: Entries, service: str, providers: Providers, *, triggers: tuple[str, ...], otherwise: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`input` and `output` in SCAR's and OSCAR's words: lists of `{storage_provider, path, suffix, prefix}`.

    Args:
        entries: The map that they stand in.
        service: The service whose bucket a path without `/` is in; empty: the path is a bucket.
        providers: What the file says of storage providers.
        triggers: How the providers begin whose files they would be told of.
        otherwise: What to say of an input of another one.

    Returns:
        `inputs` and `outputs` as a function has them; and under `input` and `output`, as the file says them, those that
        no place of ours can be.
    """
    reading = entries.reading
    places: dict[str, Any] = {"inputs": (), "outputs": ()}
    elsewhere: dict[str, Any] = {}
    for key, field, kind in (("input", "inputs", Input), ("output", "outputs", Output)):
        for value in entries.items(key):
            told = _their_place(value, service, providers, reading)
            if told is None:
                continue
            if told["provider"].startswith(ELSEWHERE):
                reading.warn(value, "is kept: a place that an OSCAR cluster alone reaches; counts on runtime oscar")
                elsewhere.setdefault(key, []).append(value.plain())
                continue
            places[field] += (kind(**told),)
            if key == "input" and not told["provider"].startswith(triggers):
                reading.warn(value, otherwise)
    return places, elsewhere


def _their_place(value: Value, service: str, providers: Providers, reading: Reading) -> dict[str, Any] | None:
    entries = Entries(value, reading)
    provider = entries.need("storage_provider", _provider, "")
    path = entries.need("path", said, "")
    told: dict[str, Any] = {
        "prefix": tuple(entries.take("prefix", texts, [])),
        "suffix": tuple(entries.take("suffix", texts, [])),
        "provider": provider,
    }
    for name, each in entries.rest():
        known = ("storage_provider", "path", "suffix", "prefix")
        reading.warn(each, f"is not known{near(name, known)}; it does nothing")
    if not provider or not path:
        return None
    if provider.startswith(ELSEWHERE):
        return told
    try:
        return {**told, "url": provided_url(provider, path, service, providers.described.get(provider, {}))}
    except ValueError as error:
        spot = value.get("path") or value
        reading.mistakes.append(f"{spot.where}: {spot.key} is {spot.told}: {error}")
        return None


def _url(value: Value, reading: Reading) -> str:
    try:
        return url_of(said(value), reading.path.parent)
    except ValueError as error:
        reading.mistakes.append(f"{value.where}: {value.key} is {value.told}: {error}")
    except Exception as error:
        if type(error).__name__ != "Wrong":
            raise
        reading.mistakes.append(str(error))
    return ""


def _provider(value: Value) -> str:
    given = said(value)
    try:
        return provider_name(given)
    except ValueError as error:
        raise value.wrong(f"is {value.told}: {error}") from error
