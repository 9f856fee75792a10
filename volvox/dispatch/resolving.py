"""Arrivals become jobs: the place is asked what is there, and the functions which of it is theirs."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from volvox.dispatch.matching import Match, job_for, matches
from volvox.dispatch.pausing import pause
from volvox.dispatch.publishing import Open
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.functions.definition import Function
from volvox.inbox import Inbox, NewJob, Waiting
from volvox.places import Found
from volvox.places.keys import checked

Foresee = Callable[[Function, int], Mapping[str, Any]]

_MOST_BEFORE = 10_000  # of jobs that are counted to foresee a wait
_GONE_SECONDS = 60.0  # a bucket that is gone or refuses is asked again so often: somebody has to mend it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a place said of an arrival that a function answers.

    Attributes:
        refused: Why no place could hold such an object; it never will.
        trouble: Why the place cannot say, which it may later, after `again_in` seconds.
    """

    waiting: Waiting
    match: Match
    found: Found | None = None
    refused: str = ""
    trouble: str = ""
    again_in: float = 0.0


class Resolver:
    """Turns arrivals into jobs."""

    def __init__(
        self, inbox: Inbox, open_place: Open, threads: Executor, foresee: Foresee = lambda _function, _ahead: {}
    ) -> None:
        """Ask places about arrivals.

        Args:
            inbox: Where arrivals are found and jobs entered.
            open_place: Opens a URL with a function's credentials.
            threads: Ask places, several at a time.
            foresee: What a job of a function is thought to wait, take and cost that has so many before it.
        """
        self._inbox, self._open, self._threads, self._foresee = inbox, open_place, threads, foresee

    def resolve(self, functions: Iterable[Function], limit: int = 200) -> int:
        """Look at the arrivals that may be looked at; how many there were.

        One for which there is no function, or no object, is forgotten; one whose place does not answer stays.
        """
        waiting = self._inbox.arrivals(limit)
        if not waiting:
            return 0
        known = [*functions]
        pairs = [(one, match) for one in waiting for match in matches(known, one.arrival)]
        wanted = {one.number for one, _ in pairs}
        for one in waiting:
            if one.number not in wanted:
                log.info("no function answers %s in %s", one.arrival.key, one.arrival.place)
        asked = (
            [self._ask(*pairs[0])] if len(pairs) == 1 else [*self._threads.map(lambda pair: self._ask(*pair), pairs)]
        )
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
        return len(waiting)

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
            found = place.find(match.key, arrival.version if match.place == arrival.place else "")
            return _Asked(waiting, match, found)
        except Unavailable as error:
            return _Asked(waiting, match, trouble=str(error), again_in=pause(waiting.tries + 1))
        except (InvalidInput, NotFound) as error:
            return _Asked(waiting, match, trouble=str(error), again_in=_GONE_SECONDS)
