"""Functions for people and for machines: a table of all, a page of one, what a change did."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from volvox.functions.chains import Link
from volvox.functions.definition import Function
from volvox.functions.locations import shown
from volvox.functions.registry import Change, Registered

TITLES = ("function", "what", "runtime", "in", "out", "version", "applied")


def as_values(found: Registered) -> dict[str, Any]:
    """A registered version for machines; secrets are not in it, only where they stand."""
    return {
        **found.function.model_dump(mode="json"),
        "resources": found.filled.resources.model_dump(mode="json"),
        "version": found.version,
        "source": found.source,
        "applied": time_of(found.applied),
        "active": found.active,
    }


def change_values(change: Change) -> dict[str, Any]:
    """A change for machines."""
    return {
        "name": change.name, "change": change.kind, "version": change.version, "before": change.before,
        "fields": list(change.fields),
    }  # fmt: skip


def row(found: Registered) -> tuple[str, ...]:
    """The cells under `TITLES`."""
    function = found.function
    return (
        function.name, function.model or function.image, function.runtime,
        _places(place.url for place in function.inputs), _places(place.url for place in function.outputs),
        found.version[:12], time_of(found.applied)[:16],
    )  # fmt: skip


def change_line(change: Change, *, dry_run: bool = False) -> str:
    """A change in a sentence."""
    would = "would be " if dry_run else ""
    name, version = f"function {change.name!r}", change.version[:12]
    if change.kind == "unchanged":
        return f"{name} is so already (version {version}); nothing to change"
    if change.kind == "added":
        return f"{name} {would}added (version {version})"
    if change.kind == "removed":
        return f"{name} {would}removed; what lies in its places stays"
    what = ", ".join(change.fields) or "everything"
    if change.kind == "changed" and change.version == change.before:
        return f"{name} {would}filled in anew from the model's metadata (version {version})"
    verb = "changed" if change.kind == "changed" else "made active again"
    return f"{name} {would}{verb}: {what} (version {change.before[:12]} -> {version})"


def comments(found: Registered, versions: Iterable[Registered], before: Iterable[Link], after: Iterable[Link]) -> str:
    """What goes before the definition on the page of a function, as comments of YAML."""
    function = found.function
    lines = [f"function {function.name}, version {found.version[:12]}, applied {time_of(found.applied)}"]
    if found.source:
        lines.append(f"read from {found.source}")
    others = [f"{each.version[:12]} ({time_of(each.applied)[:16]})" for each in versions if not each.active]
    if others:
        lines.append(f"other versions: {', '.join(others)}")
    lines += [f"fed by {link.source}, which writes to {link.output}" for link in before]
    lines += [f"feeds {link.target} from {link.output}" for link in after]
    filled = _filled(function, found.filled)
    if filled:
        lines.append(f"by the model's metadata: {', '.join(f'{key} {value:g}' for key, value in filled.items())}")
    return "".join(f"# {line}\n" for line in lines)


def time_of(seconds: float) -> str:
    """A time with its zone, ISO 8601."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def _filled(stated: Function, filled: Function) -> Mapping[str, float]:
    return {
        key: value
        for key, value in filled.resources.model_dump().items()
        if value is not None and value != getattr(stated.resources, key)
    }


def _places(urls: Iterable[str]) -> str:
    return "\n".join(map(shown, urls)) or "-"
