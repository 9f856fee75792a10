"""The settings that the runtimes of this machine understand, checked where a file states them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from volvox.functions.document import Value
from volvox.functions.entries import Reading
from volvox.functions.values import Kind, mapping, matching, said, truth

_user = matching(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?",
    "write a user of the image, or a user and a group, such as '1000:1000'",
)
_KINDS: dict[str, Kind[Any]] = {"as_process": truth, "python": said, "user": _user, "on": said}
# Where each one counts, and whether it does for a function of these fields.
_COUNTS: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "as_process": ("a script on runtime local", lambda told: "image" in told and _on(told, "local")),
    "python": ("a model on runtime local", lambda told: "model" in told and _on(told, "local")),
    "user": ("an image on runtime docker", lambda told: "image" in told and _on(told, "docker")),
    "on": ("a flow", lambda told: "flow" in told),
}


def read(value: Value, told: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """`settings` with those that are known here as they are used; all others stay as they stand there.

    Args:
        value: What the file says.
        told: The function's other fields, as far as they were read.
        reading: Takes mistakes, warnings, and the interpreter if it is not there.

    Raises:
        Wrong: If it is no map.
    """
    found = mapping(value)
    for name, each in value.entries:
        key = name.lower()
        if key not in _KINDS or each.kind == "nothing":
            continue
        found.pop(name)
        setting = reading.tried(_KINDS[key], each, None)
        if setting is None:
            continue
        where, counts = _COUNTS[key]
        if not counts(told):
            reading.warn(each, f"counts for {where} alone; it does nothing here")
        if key == "python":
            path = reading.beside(setting)  # not resolved: where a link lies says which environment it is
            if counts(told) and not path.exists():
                reading.miss(each, str(told.get("name", "")), "interpreter", path)
            setting = str(path)
        found[key] = setting
    if found.get("as_process") and "image" in told and not told.get("command") and not told.get("script"):
        raise value.wrong(
            "has as_process, and there is neither a script nor a command that could run without the image; write one"
        )
    return found


def _on(told: dict[str, Any], runtime: str) -> bool:
    return told.get("runtime", "auto") in ("auto", runtime)
