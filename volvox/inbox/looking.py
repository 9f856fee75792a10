"""Looking at jobs without changing them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from volvox.errors import InvalidInput
from volvox.inbox import choosing, rows
from volvox.inbox.database import Database, chunks
from volvox.inbox.job import ENDED, Job, NewJob, State

_STATES = {"PENDING", "RUNNABLE", "STARTING", "RUNNING", *ENDED}


class Looking:
    """What there is in the inbox."""

    def __init__(self, database: Database) -> None:
        """`database` is that of one of this room's two kinds."""
        self._database = database

    def job(self, job_id: str) -> Job:
        """The job whose id begins so; eight digits are enough.

        Raises:
            NotFound: If there is none.
            InvalidInput: If there are several.
        """
        with self._database.reading() as here:
            return rows.one(here, job_id)

    def jobs(
        self,
        *,
        function: str = "",
        states: Collection[State] = (),
        user: str | None = None,
        key: str = "",
        before: int = 0,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs that fit, the newest first.

        Args:
            function: Of this function only.
            states: In one of these only.
            user: Of this user only; None: of everybody.
            key: Only those whose object's key holds this text.
            before: Only those with a smaller number, which is how the next page is asked for.
            limit: So many at most.

        Raises:
            InvalidInput: If there is no such state.
        """
        if unknown := set(states) - _STATES:
            raise InvalidInput(f"there is no state {min(unknown)!r}; there are {', '.join(sorted(_STATES))}")
        tests: dict[str, Any] = {}
        if function:
            tests["function = ?"] = [function]
        if states:
            tests[f"state IN ({', '.join('?' * len(states))})"] = [*states]
        if user is not None:
            tests["owner = ?"] = [user]
        if key:
            tests["key LIKE ? ESCAPE '\\'"] = ["".join(["%", rows.plain(key), "%"])]
        if before:
            tests["number < ?"] = [before]
        where = f"WHERE {' AND '.join(tests)} " if tests else ""
        values = [value for several in tests.values() for value in several]
        with self._database.reading() as here:
            found = here.read(f"SELECT {rows.JOB} FROM jobs {where}ORDER BY number DESC LIMIT ?", [*values, limit])  # noqa: S608
        return [rows.job(row) for row in found]

    def changes(self, after: int, limit: int = 500) -> list[Job]:
        """Jobs that have changed since the change number `after`, in the order of their last change."""
        with self._database.reading() as here:
            found = here.read(f"SELECT {rows.JOB} FROM jobs WHERE change > ? ORDER BY change LIMIT ?", (after, limit))  # noqa: S608
        return [rows.job(row) for row in found]

    def last_change(self) -> int:
        """The number of the last change."""
        with self._database.reading() as here:
            return here.read("SELECT value FROM counters WHERE name = 'change'")[0]["value"]

    def cancelled(self, holder: str) -> list[str]:
        """Jobs of this holder that somebody asked to end."""
        query = "SELECT id FROM jobs WHERE state IN ('STARTING', 'RUNNING') AND holder = ? AND cancel = 1"
        with self._database.reading() as here:
            return [row["id"] for row in here.read(query, (holder,))]

    def runnable(self, function: str, most: int, *, priority: int = -1_000) -> int:
        """How many jobs of a function may be taken that have at least this priority, counted up to `most`."""
        query = (
            "SELECT count(*) AS it FROM (SELECT 1 FROM jobs WHERE function = ? AND state = 'RUNNABLE' "
            "AND priority >= ? LIMIT ?) AS these"
        )
        with self._database.reading() as here:
            return here.read(query, (function, priority, most))[0]["it"]

    def crowd(self, function: str, least: int, most: int) -> tuple[str, int] | None:
        """Of whom at least `least` jobs wait that nobody tried before, and how many, counted up to `most`; or None.

        If that is so of several users, the one with most of them. Calls do not count: somebody waits for them.
        """
        with self._database.reading() as here:
            return choosing.crowd(here, function, least, most, time.time())

    def some(self, ids: Sequence[str]) -> dict[str, Job]:
        """Those of these jobs that there are, by id."""
        with self._database.reading() as here:
            return rows.jobs(here, ids)

    def counts(self) -> dict[str, dict[State, int]]:
        """Function -> state -> how many jobs are in it."""
        found: dict[str, dict[State, int]] = {}
        with self._database.reading() as here:
            for row in here.read("SELECT function, state, count(*) AS it FROM jobs GROUP BY function, state"):
                found.setdefault(row["function"], {})[row["state"]] = row["it"]
        return found

    def known(self, function: str, place: str, objects: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of these (key, version) have a job of `function` already; for a sweep."""
        ids = {NewJob(function, place, key, version).id: (key, version) for key, version in objects}
        found: set[tuple[str, str]] = set()
        with self._database.reading() as here:
            for some in chunks([*ids]):
                marks = ", ".join("?" * len(some))
                told = here.read(f"SELECT id FROM jobs WHERE id IN ({marks})", some)  # noqa: S608
                found |= {ids[row["id"]] for row in told}
        return found

    def before(self, job: Job) -> int:
        """How many jobs of its function are taken before it, if no user had to wait for another."""
        query = (
            "SELECT count(*) AS it FROM jobs WHERE function = ? AND state = 'RUNNABLE' "
            "AND (priority > ? OR (priority = ? AND number < ?))"
        )
        with self._database.reading() as here:
            return here.read(query, (job.function, job.priority, job.priority, job.number))[0]["it"]
