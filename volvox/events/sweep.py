"""A sweep: lists a place from one end to the other and tells of what no event has told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from volvox.errors import VolvoxError
from volvox.events.sources import Record
from volvox.inbox import Arrival
from volvox.places import Found, Place
from volvox.places.directory import Directory

log = logging.getLogger(__name__)

Unknown = Callable[[str, Sequence[Found]], Awaitable[Sequence[Found]]]
"""Of objects of a place, given by its URL, those without a job: by key and version, so that an overwrite counts."""

_BATCH = 500
_SETTLED_SECONDS = 2.0
_PAUSE_SECONDS = (1.0, 60.0)


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did.

    Attributes:
        listed: How many objects it saw, from where it went on.
        told: How many of them nobody had told of.
        left: How many of a folder were written a moment ago, and are left for the next one.
    """

    listed: int
    told: int
    left: int


class Sweep:
    """Sweeps one place, again and again.

    Some hundred objects at a time are asked of the inbox and told to it; then the last key is kept in a small file, so
    that a sweep which was killed goes on where it was.
    """

    def __init__(
        self,
        place: Place,
        prefix: str = "",
        *,
        unknown: Unknown,
        mark: Path,
        function: str = "",
        every_seconds: float = 300.0,
        batch: int = _BATCH,
    ) -> None:
        """Sweep what lies below `prefix`.

        Args:
            place: What is listed.
            prefix: With what keys begin, usually a folder with a `/` at its end.
            unknown: Which of them the inbox does not know.
            mark: The file that keeps how far it came.
            function: Whom the files are for; empty: every function whose input they are in.
            every_seconds: How long after one sweep the next begins.
            batch: How many objects are held in memory.
        """
        self._place, self._prefix, self._unknown, self._mark = place, prefix, unknown, mark
        self._function, self._every, self._batch = function, every_seconds, batch
        # What is written into a folder from outside is there before it is complete; elsewhere objects appear whole.
        self._settled = _SETTLED_SECONDS if isinstance(place, Directory) else 0.0

    async def run(self, record: Record) -> None:
        """Sweep at once and then on schedule, until it is cancelled; what fails is tried again."""
        pause, first = _PAUSE_SECONDS[0], True
        while True:
            try:
                swept = await self.once(record)
            except VolvoxError as error:
                log.warning("the sweep of %s goes on in %.0f s: %s", self._place.url, pause, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _PAUSE_SECONDS[1])
                continue
            pause = _PAUSE_SECONDS[0]
            if swept.told:
                log.info("%d files of %s were found that nobody had told of", swept.told, self._place.url)
            # What was written just before anybody watched is not left for an hour.
            await asyncio.sleep(min(self._every, self._settled) if first and swept.left else self._every)
            first = False

    async def once(self, record: Record) -> Swept:
        """One sweep, from where the last one was ended if that was in its midst.

        Raises:
            NotFound: If the place is gone.
            InvalidInput: If the credentials are refused.
            Unavailable: If the place or the inbox does not answer; the next one goes on from there.
        """
        after = await asyncio.to_thread(self._read)
        pages = _pages(self._place, self._prefix, after, self._batch)
        listed = told = left = 0
        while page := await asyncio.to_thread(next, pages, None):
            listed += len(page)
            settled = [one for one in page if one.modified <= time.time() - self._settled] if self._settled else page
            left += len(page) - len(settled)
            if settled and (missed := await self._unknown(self._place.url, settled)):
                await record([self._arrival(one) for one in missed])
                told += len(missed)
            await asyncio.to_thread(self._write, page[-1].key)
        await asyncio.to_thread(self._write, "")
        return Swept(listed, told, left)

    # -- inside --------------------------------------------------------------------------------------------------

    def _arrival(self, found: Found) -> Arrival:
        # Only the store's own version ids may be named in an arrival; else it is what is there when it is looked at.
        return Arrival(self._place.url, found.key, source="sweep", user=found.user, function=self._function)

    def _read(self) -> str:
        try:
            told = json.loads(self._mark.read_text())
            return str(told["after"]) if told["of"] == [self._place.url, self._prefix] else ""
        except (OSError, ValueError, KeyError, TypeError):  # none, or not ours: from the beginning
            return ""

    def _write(self, after: str) -> None:
        if not after:
            with contextlib.suppress(FileNotFoundError):
                self._mark.unlink()
            return
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._mark.with_name(f".{self._mark.name}.{os.getpid()}")
        temporary.write_text(json.dumps({"of": [self._place.url, self._prefix], "after": after}))
        temporary.replace(self._mark)


def _pages(place: Place, prefix: str, after: str, batch: int) -> Iterator[list[Found]]:
    found = iter(place.list(prefix, after))
    while page := list(itertools.islice(found, batch)):
        yield page
