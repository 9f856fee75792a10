"""Where arrivals come from when nobody tells: a sweep lists each input place and finds what no event told of."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from volvox.dispatch.matching import answers
from volvox.dispatch.publishing import Open
from volvox.errors import VolvoxError
from volvox.functions import registry
from volvox.functions.definition import Function, Input
from volvox.inbox import Arrival, Inbox, open_inbox
from volvox.places import Found, split
from volvox.settings import Home

VARIABLE = "VOLVOX_SWEEP_SECONDS"
_FOLDER_SECONDS = 1.0  # a folder of this machine costs little to list
_PLACE_SECONDS = 300.0
_LOOK_SECONDS = 0.5
_TOGETHER = 500

log = logging.getLogger(__name__)


@dataclass
class _Swept:
    """When an input is listed next, and why it could not be."""

    due: float = 0.0
    trouble: str = ""


class Sources:
    """Sweeps the input places of everything that is applied."""

    def __init__(self, home: Home, open_place: Open) -> None:
        """The input places of `home`'s functions, opened by `open_place`."""
        self._home, self._open = home, open_place
        self._swept: dict[tuple[str, str], _Swept] = {}

    async def run(self) -> None:
        """Sweep until cancelled."""
        inbox = open_inbox(self._home)
        try:
            while True:
                known = await asyncio.to_thread(registry.functions, self._home)
                due = [
                    (one.filled, place)
                    for one in known.values()
                    for place in one.filled.inputs
                    if one.filled.trigger == "inbox"
                    and self._swept.setdefault((one.filled.name, place.url), _Swept()).due <= time.monotonic()
                ]
                for function, place in due:
                    await self._sweep(inbox, function, place)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            inbox.close()

    async def _sweep(self, inbox: Inbox, function: Function, place: Input) -> None:
        swept = self._swept[function.name, place.url]
        began = time.monotonic()
        try:
            found = await asyncio.to_thread(sweep, inbox, self._open, function, place)
            if found:
                log.info("a sweep found %d files for %r that nothing had told of", found, function.name)
            swept.trouble = ""
        except VolvoxError as error:
            if str(error) != swept.trouble:
                log.error("the input %s of function %r cannot be listed: %s", place.url, function.name, error)
            swept.trouble = str(error)
        took = time.monotonic() - began
        swept.due = time.monotonic() + max(_pause(place), 20 * took)  # a large place is not listed all the time


def sweep(inbox: Inbox, open_place: Open, function: Function, place: Input) -> int:
    """List an input, and record every object that has no job; how many those were.

    What is listed is taken as it comes, some hundred at a time, so that a million objects fit in memory.
    """
    root, folder = split(place.url)
    inside = f"{folder}/" if folder else ""
    listed = (
        found for found in open_place(root, place.provider).list(inside) if answers(place, found.key[len(inside) :])
    )
    new = 0
    for some in _together(listed):
        known = inbox.known(function.name, root, [(found.key, found.version) for found in some])
        arrivals = [
            Arrival(root, found.key, source="sweep", user=found.user, function=function.name)
            for found in some
            if (found.key, found.version) not in known
        ]
        inbox.record(arrivals)
        new += len(arrivals)
    return new


def _together(found: Iterator[Found]) -> Iterator[list[Found]]:
    while some := list(itertools.islice(found, _TOGETHER)):
        yield some


def _pause(place: Input) -> float:
    if given := os.environ.get(VARIABLE, ""):
        return float(given)
    return _FOLDER_SECONDS if split(place.url)[0].startswith("file:") else _PLACE_SECONDS
