"""Which functions answer an object, and as whose."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from volvox.functions.definition import Function, Input, Output
from volvox.inbox import Arrival, NewJob
from volvox.places import Found, relative, split

Split = Callable[[str], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Match:
    """A function whose files an object is among.

    Attributes:
        function: The function.
        input: Which of its inputs.
        place: URL of the input's place, which may be a folder of the place that was told of.
        key: The object's key there.
        inside: The folder that the input is, as a key prefix with its last `/`, or empty.
    """

    function: Function
    input: Input
    place: str
    key: str
    inside: str


def matches(functions: Iterable[Function], arrival: Arrival) -> Iterator[Match]:
    """Every function that answers what arrived, each once.

    Args:
        functions: Those that there are.
        arrival: Where the object is, and for whom if that was said.
    """
    for function in functions:
        if arrival.function and function.name != arrival.function:
            continue
        for one in function.inputs:
            path = relative(one.url, arrival.place, arrival.key)
            if path is not None and answers(one, path):
                yield match_of(function, one, path)
                break


def match_of(function: Function, given: Input, path: str) -> Match:
    """The match of the file `path` below an input."""
    place, folder = split(given.url)
    inside = f"{folder}/" if folder else ""
    return Match(function, given, place, f"{inside}{path}", inside)


def answers(place: Input | Output, path: str) -> bool:
    """Whether a file of this path below the place's folder is among those that are meant; a folder's marker is none."""
    if not path or path.endswith("/"):
        return False
    fits_prefix = not place.prefix or path.startswith(place.prefix)
    return fits_prefix and (not place.suffix or path.endswith(place.suffix))


def job_for(match: Match, arrival: Arrival, found: Found) -> NewJob:
    """The job that answers the object `found` at the place of `arrival`."""
    function, path = match.function, match.key[len(match.inside) :]
    user = arrival.user or found.user
    if match.input.per_user and "/" in path:
        user = path.partition("/")[0]  # the folder decides: whoever may write there is that user
    return NewJob(
        function=function.name,
        place=match.place,
        key=match.key,
        version=found.version,
        size=found.size,
        user=user,
        priority=arrival.priority or function.priority,
        deadline=time.time() + function.deadline_seconds if function.deadline_seconds else 0.0,
        event=arrival.event,
        source=arrival.source,
        inside=match.inside,
    )
