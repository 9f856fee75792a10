"""Arrivals become jobs: the place is asked what is there, and the functions which of it is theirs."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from volvox.dispatch.matching import Match, Split, job_for, matches
from volvox.dispatch.pausing import pause
from volvox.dispatch.publishing import Open
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.functions.definition import Function
from volvox.inbox import Arrival, Inbox, NewJob, Waiting
from volvox.places import Found

_GONE_SECONDS = 60.0  # a bucket that is gone or refuses is asked again so often: somebody has to mend it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    waiting: Waiting
    found: Found | None = None
    trouble: str = ""
    again_in: float = 0.0


class Resolver:
    """Turns arrivals into jobs."""

    def __init__(self, inbox: Inbox, open_place: Open, split: Split, threads: Executor) -> None:
        """`open_place` opens a URL with a function's credentials; `threads` ask places, several at a time."""
        self._inbox, self._open, self._split, self._threads = inbox, open_place, split, threads

    def resolve(self, functions: Iterable[Function], limit: int = 200) -> int:
        """Look at the arrivals that may be looked at; how many there were.

        One for which there is no function, or no object, is forgotten; one whose place does not answer stays.
        """
        waiting = self._inbox.arrivals(limit)
        if not waiting:
            return 0
        answering: dict[int, list[Match]] = {}
        unwanted: list[int] = []
        known = [*functions]
        for one in waiting:
            if found := [*matches(known, one.arrival, self._split)]:
                answering[one.number] = found
            else:
                unwanted.append(one.number)
                log.info("no function answers %s in %s", one.arrival.key, one.arrival.place)
        asked = self._ask([one for one in waiting if one.number in answering], answering)
        jobs: list[NewJob] = []
        done = unwanted
        late: dict[tuple[str, float], list[int]] = defaultdict(list)
        for one in asked:
            if one.trouble:
                late[one.trouble, one.again_in].append(one.waiting.number)
                continue
            done.append(one.waiting.number)
            if one.found is None:
                log.info("%s is not in %s (any more)", one.waiting.arrival.key, one.waiting.arrival.place)
            else:
                jobs += [job_for(match, one.waiting.arrival, one.found) for match in answering[one.waiting.number]]
        self._inbox.enter(jobs, looked_at=done)
        for (reason, seconds), numbers in late.items():
            self._inbox.postpone(numbers, reason, seconds)
        return len(waiting)

    def _ask(self, waiting: Sequence[Waiting], answering: dict[int, list[Match]]) -> list[_Asked]:
        def ask(one: Waiting) -> _Asked:
            arrival = one.arrival
            try:
                first = answering[one.number][0]
                place = self._open(arrival.place, first.function, first.input.provider)
                return _Asked(one, place.find(arrival.key, arrival.version))
            except Unavailable as error:
                return _Asked(one, trouble=str(error), again_in=pause(one.tries + 1))
            except (InvalidInput, NotFound) as error:
                return _Asked(one, trouble=str(error), again_in=_GONE_SECONDS)

        if len(waiting) == 1:
            return [ask(waiting[0])]
        return [*self._threads.map(ask, waiting)]


def arrival_of(place: str, found: Found, source: str) -> Arrival:
    """What a sweep or a watch tells of an object that it found."""
    return Arrival(place, found.key, source=source, user=found.user)
