"""Who tells the inbox: watched folders, sweeps of every input place, and queues of SQS.

The runtimes of AWS say which queues the buckets of their functions tell.

`VOLVOX_SWEEP_SECONDS` is the pause between two sweeps of a place (default 300 s, a watched folder 60 s), and
`VOLVOX_SQS_QUEUES` the URLs of queues, parted by commas, that notifications of buckets arrive in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from volvox.dispatch.matching import answers
from volvox.dispatch.publishing import Open
from volvox.errors import InvalidInput, VolvoxError
from volvox.events.aside import Aside
from volvox.events.sources import Source
from volvox.events.sqs import SqsQueue
from volvox.events.sweep import Sweep
from volvox.events.watching import Watch
from volvox.functions import registry
from volvox.functions.definition import Function, Input
from volvox.identity import digest_of
from volvox.inbox import Arrival, Inbox
from volvox.places import Found, split
from volvox.places.directory import Directory
from volvox.runtimes.aws import queues
from volvox.settings import Home

_SWEEP, _QUEUES = "VOLVOX_SWEEP_SECONDS", "VOLVOX_SQS_QUEUES"
_PLACE_SECONDS, _FOLDER_SECONDS = 300.0, 60.0
_LOOK_SECONDS = 0.5
_DIRECT_SECONDS = 600.0  # Lambda tries an event twice more, with pauses
_OF_FUNCTIONS = "of a function: "
_AGAIN_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Key:
    """What makes two sources one."""

    function: str
    place: Input


class Sources:
    """Keeps a source running for every input of everything that is applied, and for the queues."""

    def __init__(self, home: Home, inbox: Inbox, open_place: Open) -> None:
        """Tell `inbox` of what comes into the input places of `home`'s functions."""
        self._home, self._inbox, self._open = home, inbox, open_place
        self._tasks: dict[_Key | str, asyncio.Task[None]] = {}
        self._thread = ThreadPoolExecutor(1, "sources")  # the inbox is written to by one of them at a time

    async def run(self) -> None:
        """Run them until cancelled."""
        seen = None
        for url in filter(None, (one.strip() for one in os.environ.get(_QUEUES, "").split(","))):
            self._begin(url, SqsQueue(url, Aside(self._home.folder("dispatch", "aside"))))
        try:
            while True:
                now = await asyncio.to_thread(registry.stamp, self._home)
                if now != seen:
                    seen = now
                    await self._follow()
                await self._follow_queues()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._thread.shutdown(wait=False)

    async def _follow(self) -> None:
        known = await asyncio.to_thread(registry.functions, self._home)
        wanted = {_Key(one.filled.name, place): one.filled for one in known.values() for place in one.filled.inputs}
        for key in [key for key in self._tasks if isinstance(key, _Key) and key not in wanted]:
            self._tasks.pop(key).cancel()
        for key, function in wanted.items():
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._of_input(function, key.place))

    async def _follow_queues(self) -> None:
        """Read the queues of functions that are deployed on AWS, and those of no others any more."""
        found = await asyncio.to_thread(queues.of_home, self._home)
        wanted = {f"{_OF_FUNCTIONS}{url}": one for url, one in found.items()}
        for key in [*self._tasks]:
            if isinstance(key, str) and key.startswith(_OF_FUNCTIONS) and key not in wanted:
                self._tasks.pop(key).cancel()
        for key, one in wanted.items():
            if key not in self._tasks:
                aside = Aside(self._home.folder("dispatch", "aside"))
                self._begin(key, SqsQueue(one.url, aside, client=one.client))

    async def _of_input(self, function: Function, place: Input) -> None:
        """Watch and sweep one input until cancelled; what cannot be opened now is opened later."""
        told = ""
        while True:
            try:
                sources = await asyncio.to_thread(lambda: [*self._made(function, place)])
                break
            except VolvoxError as error:
                if str(error) != told:
                    told = str(error)
                    log.error("the input %s of function %r: %s", place.url, function.name, error)
                await asyncio.sleep(_AGAIN_SECONDS)
        await asyncio.gather(*(self._kept_going(source) for source in sources))

    async def _kept_going(self, source: Source) -> None:
        while True:
            try:
                await source.run(self._record)
            except VolvoxError as error:
                log.error("%s", error)
            except Exception:
                log.exception("a source of events ended; it begins again in %.0f s", _AGAIN_SECONDS)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _begin(self, name: str, source: Source) -> None:
        self._tasks[name] = asyncio.create_task(self._kept_going(source))

    def _made(self, function: Function, given: Input) -> Iterator[Source]:
        root, folder = split(given.url)
        prefix = f"{folder}/" if folder else ""
        place = self._open(root, function, given.provider)
        watched = isinstance(place, Directory)
        if watched and function.trigger == "inbox":
            yield Watch(place, prefix, function=function.name)
        mark = self._home.folder("dispatch", "sweeps") / digest_of([function.name, given.url])[:32]

        # What its runtime's own events call is left to these for a while: the sweep is for what they lost.
        late = function.timeout_seconds + _DIRECT_SECONDS

        async def unknown(url: str, found: Sequence[Found]) -> list[Found]:
            meant = [one for one in found if answers(given, one.key[len(prefix) :])]
            if function.trigger == "direct":
                meant = [one for one in meant if one.modified <= time.time() - late]
            objects = [(one.key, one.version) for one in meant]
            known = await self._in_turn(lambda: self._inbox.known(function.name, url, objects))
            return [one for one in meant if (one.key, one.version) not in known]

        seconds = _seconds(_FOLDER_SECONDS if watched else _PLACE_SECONDS)
        yield Sweep(place, prefix, unknown=unknown, mark=mark, function=function.name, every_seconds=seconds)

    async def _record(self, arrivals: Sequence[Arrival]) -> None:
        await self._in_turn(lambda: self._inbox.record(arrivals))

    async def _in_turn(self, do):  # noqa: ANN001, ANN202 - as the inbox's own method
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)


def _seconds(default: float) -> float:
    given = os.environ.get(_SWEEP, "")
    with contextlib.suppress(ValueError):
        if not given or float(given) > 0:
            return float(given or default)
    raise InvalidInput(f"{_SWEEP} is {given!r}; give seconds, more than 0")
