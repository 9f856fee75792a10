"""Typed values of a definition file: what is allowed is checked here, and what is wrong is a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

from volvox.functions import quantities
from volvox.functions.document import Value, Wrong

T = TypeVar("T")
Kind = Callable[[Value], T]

_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WHOLE = re.compile(r"[+-]?\d{1,18}")


def text(value: Value) -> str:
    """A text; numbers and truth values are taken as they stand there."""
    if value.kind not in ("text", "number", "truth"):
        raise value.wrong(f"is {value.told}; write a text")
    return value.text.strip()


def said(value: Value) -> str:
    """A text that is not empty."""
    if value.kind == "nothing" or not (found := text(value)):
        raise value.wrong("is empty; write a text, or leave the key out")
    return found


def truth(value: Value) -> bool:
    """True or false, in quotes or not."""
    if value.kind in ("text", "number", "truth") and (word := value.text.strip().lower()) in _TRUTHS:
        return _TRUTHS[word]
    raise value.wrong(f"is {value.told}; write true or false")


def whole(low: int, high: int | None = None, unit: str = "") -> Kind[int]:
    """A whole number from `low` to `high`, in quotes or not."""

    def read(value: Value) -> int:
        given = value.text.strip() if value.kind in ("text", "number") else ""
        number = value.plain() if value.kind == "number" else int(given) if _WHOLE.fullmatch(given) else None
        if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
            number = int(number)
        if not isinstance(number, int) or number < low or (high is not None and number > high):
            bounds = f"from {low} upwards" if high is None else f"from {low} to {high}"
            raise value.wrong(f"is {value.told}; write a whole number{f' of {unit}' if unit else ''} {bounds}")
        return number

    return read


def number(low: float, high: float = math.inf) -> Kind[float]:
    """A number from `low` to `high`, in quotes or not."""

    def read(value: Value) -> float:
        found = value.plain() if value.kind == "number" else value.text
        try:
            found = float(found) if value.kind in ("text", "number") else math.nan
        except (ValueError, OverflowError):
            found = math.nan
        if not (low <= found <= high) or math.isinf(found):
            bounds = f"from {low:g} upwards" if math.isinf(high) else f"from {low:g} to {high:g}"
            raise value.wrong(f"is {value.told}; write a number {bounds}")
        return found

    return read


def choice(*allowed: str) -> Kind[str]:
    """One of a few words, whatever its case."""

    def read(value: Value) -> str:
        given = value.text.strip() if value.kind in ("text", "number", "truth") else ""
        for word in allowed:
            if word.lower() == given.lower():
                return word
        raise value.wrong(f"is {value.told}{near(given, allowed)}; allowed are {', '.join(allowed)}")

    return read


def matching(form: str, means: str) -> Kind[str]:
    """A text of a form that `means` describes to people."""
    compiled = re.compile(form)

    def read(value: Value) -> str:
        given = said(value)
        if not compiled.fullmatch(given):
            raise value.wrong(f"is {value.told}; {means}")
        return given

    return read


def texts(value: Value) -> list[str]:
    """A list of texts; a single one stands for a list of it, nothing for an empty one."""
    if value.kind == "nothing":
        return []
    return [said(each) for each in value.items] if value.kind == "list" else [said(value)]


def words(*allowed: str) -> Kind[list[str]]:
    """A list of some of a few words."""
    one = choice(*allowed)
    return lambda value: [one(each) for each in (value.items if value.kind == "list" else (value,))]


def wholes(low: int, high: int) -> Kind[list[int]]:
    """A list of whole numbers; a single one stands for a list of it."""
    one = whole(low, high)
    return lambda value: [one(each) for each in (value.items if value.kind == "list" else (value,))]


def quantity(value: Value) -> str:
    """An amount as Kubernetes writes it; kept as it stands there."""
    given = said(value)
    try:
        quantities.amount(given)
    except ValueError as error:
        raise value.wrong(f"is {value.told}; {error}") from error
    return given


def memory_mb(value: Value) -> int:
    """Memory or disk, a quantity of bytes, in MB."""
    try:
        return quantities.memory_mb(said(value))
    except ValueError as error:
        raise value.wrong(f"is {value.told}; {error}, such as 512Mi or 2Gi") from error


def cores(value: Value) -> float:
    """Processors, a quantity of cores."""
    try:
        return quantities.cores(said(value))
    except ValueError as error:
        raise value.wrong(f"is {value.told}; {error}") from error


def anything(value: Value) -> Any:
    """Whatever stands there, as JSON has it."""
    return value.plain()


def mapping(value: Value) -> dict[str, Any]:
    """Keys and values; nothing for none."""
    if value.kind not in ("map", "nothing"):
        raise value.wrong(f"is {value.told}; write keys and values")
    return value.plain() or {}


def listing(value: Value) -> list[Any]:
    """A list, whatever is in it; a single map stands for a list of it."""
    found = value.plain()
    return found if isinstance(found, list) else [] if found is None else [found]


def variable(value: Value) -> str:
    """The value of an environment variable: text, as it stands there.

    A list of single values, which is what YAML makes of the placeholder `[my_key]`, is taken for the text that it was.
    """
    if value.kind == "list" and all(each.kind not in ("list", "map") for each in value.items):
        return f"[{', '.join(each.text for each in value.items)}]"
    if value.kind in ("list", "map"):
        raise value.wrong(f"is {value.told}; the value of a variable is a text")
    return value.text


def variable_name(name: str, value: Value) -> str:
    """The name of an environment variable."""
    if not _VARIABLE.fullmatch(name):
        raise Wrong(f"{value.where}: {value.key} cannot name a variable: use letters, digits and '_'")
    return name


def near(name: str, allowed: Iterable[str]) -> str:
    """`, did you mean 'memory'?`, or nothing."""
    known: Sequence[str] = list(allowed)
    found = get_close_matches(name.lower(), [word.lower() for word in known], n=1)
    return next((f", did you mean {word!r}?" for word in known if found and word.lower() == found[0]), "")
