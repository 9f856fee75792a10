"""Whether a function whose runtime is `auto` fits any that is here, before it is deployed."""

from __future__ import annotations

from collections.abc import Iterator

from volvox.errors import InvalidInput
from volvox.functions.checks import Finding
from volvox.functions.definition import Function
from volvox.functions.filling import from_catalogue
from volvox.pricing.choice import Choice
from volvox.settings import Home


def fits(function: Function, home: Home, *, offline: bool) -> Iterator[Finding]:  # noqa: ARG001 - it asks nobody
    """A finding if there is no runtime for it; a check of functions (`volvox.functions.checks.Checks`)."""
    from volvox.runtimes.opening import runtime_of

    try:
        runtime_of(from_catalogue(home, function), home)
    except InvalidInput as error:
        mend = "ask for less under resources or timeout_seconds, or name its runtime"
        yield Finding("runtime", False, str(error), mend)


def choices(home: Home, *functions: Function) -> dict[str, Choice]:
    """Where those of the functions go whose runtime is `auto`, by name.

    Raises:
        InvalidInput: If a file of pools or prices is wrong.
    """
    from volvox.runtimes.opening import choice_of

    return {
        one.name: choice_of(from_catalogue(home, one), home)
        for one in functions
        if one.runtime == "auto" and not one.flow
    }


def choice_lines(name: str, choice: Choice) -> list[str]:
    """A choice for people: where the function goes, and why to no other runtime."""
    head = (
        f"function {name!r} goes to {choice.runtime}" if choice.runtime else f"function {name!r} fits no runtime here"
    )
    seconds = f"{choice.call_seconds:g} s a call"
    taken = f"{seconds}, as placement.call_seconds says nothing" if choice.assumed else seconds
    return [f"{head} ({taken}):", *(f"  {reason}" for reason in choice.reasons)]
