"""Which functions answer an object, and as whose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from volvox.functions.definition import Function, Input, Output
from volvox.inbox import Arrival, NewJob
from volvox.places import Found

Split = Callable[[str], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Match:
    """A function whose files an object is among.

    Attributes:
        function: The function.
        input: Which of its inputs.
        inside: The folder that the input is, as a key prefix with its last `/`, or empty.
    """

    function: Function
    input: Input
    inside: str


def matches(functions: Iterable[Function], arrival: Arrival, split: Split) -> Iterator[Match]:
    """Every function that answers what arrived, each once.

    Args:
        functions: Those that there are.
        arrival: Where the object is, and for whom if that was said.
        split: URL of an input -> URL of its place, and the folder in it.
    """
    for function in functions:
        if arrival.function and function.name != arrival.function:
            continue
        for one in function.inputs:
            place, folder = split(one.url)
            inside = f"{folder.strip('/')}/" if folder.strip("/") else ""
            if place == arrival.place and arrival.key.startswith(inside) and answers(one, arrival.key[len(inside) :]):
                yield Match(function, one, inside)
                break


def answers(place: Input | Output, path: str) -> bool:
    """Whether a file of this path below the place's folder is among those that are meant; a folder's marker is none."""
    if not path or path.endswith("/"):
        return False
    fits_prefix = not place.prefix or path.startswith(place.prefix)
    return fits_prefix and (not place.suffix or path.endswith(place.suffix))


def job_for(match: Match, arrival: Arrival, found: Found) -> NewJob:
    """The job that answers the object `found` at the place of `arrival`."""
    function, relative = match.function, arrival.key[len(match.inside) :]
    user = arrival.user or found.user
    if match.input.per_user and "/" in relative:
        user = relative.partition("/")[0]  # the folder decides: whoever may write there is that user
    return NewJob(
        function=function.name,
        place=arrival.place,
        key=arrival.key,
        version=found.version,
        size=found.size,
        user=user,
        priority=arrival.priority or function.priority,
        deadline=time.time() + function.deadline_seconds if function.deadline_seconds else 0.0,
        event=arrival.event,
        source=arrival.source,
        inside=match.inside,
    )
