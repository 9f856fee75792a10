"""One file that lands starts one run: an automation rests where a function starts its flow for the same files.

A function that names a flow records each file in the inbox before it starts a run of it, and raises the event
`volvox.data.landed` beside it. An automation that starts the same flow from that event would make it two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volvox.functions import registry
from volvox.landing import LANDED
from volvox.places import split
from volvox.settings import Home

if TYPE_CHECKING:
    from deployments.automation_files import AutomationFile


@dataclass(frozen=True)
class Started:
    """What a function starts by itself.

    Attributes:
        function: Its name.
        flow: The flow.
        resources: How the resources begin that it raises the event of, one for each of its input places.
    """

    function: str
    flow: str
    resources: tuple[str, ...]


def started(home: Home) -> list[Started]:
    """Of every function of the home that names a flow."""
    functions = [one.filled for one in registry.functions(home).values() if one.filled.flow]
    return [Started(one.name, one.flow, tuple(_resource(place.url) for place in one.inputs)) for one in functions]


def reason(file: AutomationFile, functions: Iterable[Started]) -> str:
    """Why the automation of a file is to rest, a sentence; empty: it may be on."""
    flows = {name.partition("/")[0] for name in file.deployments.values()}
    asked = [*_asked(file.automation.trigger)]
    for one in functions:
        if one.flow in flows and any(_meet(pattern, begin) for pattern in asked for begin in one.resources):
            return f"function {one.function!r} starts {one.flow} for each of these files itself"
    return ""


def _resource(url: str) -> str:
    """As `volvox.landing` names an object, the key left out."""
    place, folder = split(url)
    return f"s3.{place.partition('://')[2]}/" + (f"{folder}/" if folder else "")


def _asked(trigger: Any) -> Iterator[str]:
    """The resources of the event that a trigger waits for, as it names them: a pattern may end with `*`."""
    for part in getattr(trigger, "triggers", ()):
        yield from _asked(part)
    if any(
        name == LANDED or (name.endswith("*") and LANDED.startswith(name[:-1]))
        for name in getattr(trigger, "expect", ())
    ):
        stated = trigger.match.model_dump().get("prefect.resource.id", "*")
        yield from [stated] if isinstance(stated, str) else stated


def _meet(pattern: str, begin: str) -> bool:
    """Whether some resource that begins so fits the pattern."""
    if not pattern.endswith("*"):
        return pattern.startswith(begin)
    return begin.startswith(pattern[:-1]) or pattern.startswith(begin)
