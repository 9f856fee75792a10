"""Arrivals become jobs: the place is asked what is there, and the functions which of it is theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from volvox.dispatch.matching import Match, job_for, matches
from volvox.dispatch.pausing import pause
from volvox.dispatch.publishing import Open
from volvox.errors import AccessRefused, InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.inbox import Inbox, NewJob, Waiting
from volvox.places import Found
from volvox.places.keys import checked

Foresee = Callable[[Function, int], Mapping[str, Any]]

_MOST_BEFORE = 10_000  # of jobs that are counted to foresee a wait
_LOOK_SECONDS = 1.0  # at most between two looks at what may be looked at
_MOST = 200
_PLACES = 6  # that are asked at a time
_AT_ONCE = 8  # questions to one place at a time
_QUICK_SECONDS = 0.003  # a place that answers so soon is asked one after the other: threads would only cost
_GONE_SECONDS = 60.0  # a bucket that is gone or refuses is asked again so often: somebody has to mend it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a place said of an arrival that a function answers.

    Attributes:
        refused: Why such an object cannot be had; it never will.
        trouble: Why the place cannot say, which it may later, after `again_in` seconds.
        silent: Whether it does not answer at all.
    """

    waiting: Waiting
    match: Match
    found: Found | None = None
    refused: str = ""
    trouble: str = ""
    again_in: float = 0.0
    silent: bool = False


class Resolver:
    """Turns arrivals into jobs."""

    def __init__(
        self,
        inbox: Inbox,
        open_place: Open,
        foresee: Foresee = lambda _function, _ahead: {},
        applied: Callable[[], Iterable[Function]] = tuple,
    ) -> None:
        """Ask places about arrivals.

        Args:
            inbox: Where arrivals are found and jobs entered.
            open_place: Opens a URL with a function's credentials.
            foresee: What a job of a function is thought to wait, take and cost that has so many before it.
            applied: The functions that are applied at this moment; asked before an arrival is forgotten, since who
                follows what is applied may be a moment behind whoever told of the arrival.
        """
        self._inbox, self._open, self._foresee, self._applied = inbox, open_place, foresee, applied
        self._places = ThreadPoolExecutor(_PLACES, "arrivals")
        self._askers = ThreadPoolExecutor(_PLACES * _AT_ONCE, "asking")

    async def run(
        self, functions: Callable[[], Sequence[Function]], arrived: asyncio.Event, entered: Callable[[], None]
    ) -> None:
        """Look at what arrives until cancelled, each place by itself: one that does not answer holds up no other.

        Args:
            functions: Those that there are.
            arrived: Is set when there may be something to look at.
            entered: Is called when there may be new jobs.
        """
        at_it: dict[str, asyncio.Task[None]] = {}

        def done(place: str) -> None:
            del at_it[place]
            arrived.set()
            entered()

        try:
            while True:
                arrived.clear()
                known = functions()
                together: dict[str, list[Waiting]] = defaultdict(list)
                for one in await self._waiting([*at_it]) if known else ():
                    together[one.arrival.place].append(one)
                for place, some in together.items():
                    at_it[place] = asyncio.create_task(self._of_place(known, some))
                    at_it[place].add_done_callback(lambda _, place=place: done(place))
                if not together:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_SECONDS):
                            await arrived.wait()
        finally:
            for task in at_it.values():
                task.cancel()

    def close(self) -> None:
        """Ask no more; what is being asked is not waited for."""
        for threads in (self._places, self._askers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _waiting(self, but: Sequence[str]) -> list[Waiting]:
        try:
            return await asyncio.to_thread(self._inbox.arrivals, _MOST, but=but)
        except VolvoxError as error:
            log.error("%s", error)
            return []

    async def _of_place(self, functions: Sequence[Function], waiting: Sequence[Waiting]) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._places, self.resolve, functions, waiting)
        except VolvoxError as error:  # of the inbox: they stay in it
            log.error("%s", error)
            await asyncio.sleep(_LOOK_SECONDS)
        except Exception:
            log.exception("what arrived in %s could not be looked at", waiting[0].arrival.place)
            await asyncio.sleep(_LOOK_SECONDS)

    def resolve(self, known: Sequence[Function], waiting: Sequence[Waiting]) -> None:
        """Look at arrivals of one place.

        One for which there is no function, or no object, is forgotten; one whose place does not answer stays.
        """
        pairs = _pairs(known, waiting)
        if strangers := _unmatched(waiting, pairs):
            pairs += _pairs([*self._applied()], strangers)
            for one in _unmatched(strangers, pairs):
                log.info("no function answers %s in %s", one.arrival.key, one.arrival.place)
        asked = self._asked(pairs)
        late: dict[tuple[str, float], set[int]] = defaultdict(set)
        for one in asked:
            if one.trouble:
                late[one.trouble, one.again_in].add(one.waiting.number)
        not_yet = {number for numbers in late.values() for number in numbers}
        jobs, refused = self._jobs(asked)
        self._inbox.enter(jobs, looked_at=[one.number for one in waiting if one.number not in not_yet])
        for job, reason in refused:
            self._inbox.refuse(job, reason)
        for (reason, seconds), numbers in late.items():
            self._inbox.postpone(numbers, reason, seconds)

    def _asked(self, pairs: Sequence[tuple[Waiting, Match]]) -> list[_Asked]:
        """What the place says of each; once it does not answer, it is not asked about the others now."""
        asked: list[_Asked] = []
        at_once = 1
        while len(asked) < len(pairs):
            some = pairs[len(asked) : len(asked) + at_once]
            began = time.monotonic()
            asked += [self._ask(*some[0])] if len(some) == 1 else self._askers.map(lambda pair: self._ask(*pair), some)
            if time.monotonic() - began > _QUICK_SECONDS:
                at_once = min(2 * at_once, _AT_ONCE)
            if silent := next((one for one in asked[-len(some) :] if one.silent), None):
                asked += [replace(silent, waiting=waiting, match=match) for waiting, match in pairs[len(asked) :]]
        return asked

    def _jobs(self, asked: Iterable[_Asked]) -> tuple[list[NewJob], list[tuple[NewJob, str]]]:
        jobs: list[NewJob] = []
        refused: list[tuple[NewJob, str]] = []
        before: dict[str, int] = {}
        for one in asked:
            arrival = one.waiting.arrival
            if one.refused:
                nothing = Found(one.match.key, arrival.version, 0, 0.0)
                refused.append((job_for(one.match, arrival, nothing), one.refused))
            elif one.found is not None:
                function = one.match.function
                if function.name not in before:
                    before[function.name] = self._inbox.runnable(
                        function.name, _MOST_BEFORE, priority=function.priority
                    )
                told = self._foresee(function, before[function.name])
                before[function.name] += 1
                jobs.append(replace(job_for(one.match, arrival, one.found), foreseen=told))
            elif not one.trouble:
                log.info("%s is not in %s (any more)", arrival.key, arrival.place)
        return jobs, refused

    def _ask(self, waiting: Waiting, match: Match) -> _Asked:
        arrival = waiting.arrival
        try:
            checked(match.key)
        except InvalidInput as error:
            return _Asked(waiting, match, refused=str(error))
        try:
            place = self._open(match.place, match.function, match.input.provider)
        except (InvalidInput, NotFound) as error:
            return _Asked(waiting, match, trouble=str(error), again_in=_GONE_SECONDS)
        try:
            found = place.find(match.key, arrival.version if match.place == arrival.place else "")
            return _Asked(waiting, match, found)
        except Unavailable as error:
            seconds = pause(waiting.tries + 1)
            return _Asked(waiting, match, trouble=str(error), again_in=seconds, silent=True)
        except (AccessRefused, NotFound) as error:
            return _Asked(waiting, match, trouble=str(error), again_in=_GONE_SECONDS)
        except InvalidInput as error:  # it is this object that cannot be had
            return _Asked(waiting, match, refused=str(error))


def _pairs(functions: Sequence[Function], waiting: Iterable[Waiting]) -> list[tuple[Waiting, Match]]:
    return [(one, match) for one in waiting for match in matches(functions, one.arrival)]


def _unmatched(waiting: Iterable[Waiting], pairs: Iterable[tuple[Waiting, Match]]) -> list[Waiting]:
    matched = {one.number for one, _ in pairs}
    return [one for one in waiting if one.number not in matched]
