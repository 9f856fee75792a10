"""The inbox: arrivals and jobs, kept for good before anybody is told that they are.

Whoever tells of an object records an *arrival*. A dispatcher asks the object's place what is there and enters a *job*
for it, whose id is made of function, place, key and version, so that it is entered once however often it is told. It
takes jobs, does them, and says what became of them. Every method is one transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from volvox.errors import InvalidInput
from volvox.inbox import choosing, rows
from volvox.inbox.database import Database, Transaction
from volvox.inbox.job import ENDED, Arrival, Ending, Job, NewJob, State, Waiting
from volvox.inbox.looking import Looking

_MOST_USERS = 100_000  # whose last turns are remembered
_MOST_DEATHS = 10  # of dispatchers that were at one job; then the job is taken for the reason


class Inbox(Looking):
    """What was told of every object, and what became of it."""

    def __init__(self, database: Database) -> None:
        """`database` is that of one of this room's two kinds."""
        super().__init__(database)
        # Only what this process has taken: who takes alone is fair for good, and several are each by themselves.
        self._served: dict[str, dict[str, int]] = {}
        self._turn = 0

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def changed(self) -> bool:
        """Whether another process has written since this thread asked last."""
        return self._database.changed()

    # -- arrivals ------------------------------------------------------------------------------------------------

    def record(self, arrivals: Sequence[Arrival]) -> None:
        """Keep what was told. When this returns, it is on the disk, and whoever told may be told so."""
        now = time.time()
        rows = [
            (one.place, one.key, one.version, one.source, one.user, one.event, one.function, one.priority, now)
            for one in arrivals
        ]
        if rows:
            with self._database.writing() as here:
                here.write_each(
                    "INSERT INTO arrivals (place, key, version, source, owner, event, function, priority, received) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    rows,
                )

    def arrivals(self, limit: int = 100, *, but: Collection[str] = ()) -> list[Waiting]:
        """Those that may be looked at now, the oldest first; those in the places `but` are left out."""
        elsewhere = f"AND place NOT IN ({', '.join('?' * len(but))}) " if but else ""
        query = f"SELECT * FROM arrivals WHERE not_before <= ? {elsewhere}ORDER BY number LIMIT ?"  # noqa: S608
        with self._database.reading() as here:
            found = here.read(query, (time.time(), *but, limit))
        return [rows.waiting(row) for row in found]

    def arrivals_waiting(self) -> int:
        """How many have not been looked at, or could not be."""
        with self._database.reading() as here:
            return here.read("SELECT count(*) AS it FROM arrivals")[0]["it"]

    def enter(self, jobs: Sequence[NewJob], *, looked_at: Iterable[int] = ()) -> list[str]:
        """Enter jobs, each once, and forget the arrivals that they come from.

        Returns:
            The ids of those that are new.
        """
        now = time.time()
        new: list[str] = []
        with self._database.writing() as here:
            change = _changes(here, len(jobs))
            told = f"{rows.step(now, 'PENDING')},{rows.step(now, 'RUNNABLE')}"
            for number, job in enumerate(jobs):
                values = (
                    job.id, job.function, job.place, job.key, job.version, job.size, job.user, job.priority,
                    job.deadline, job.event, job.source, job.inside, change + number, now, told,
                    json.dumps(dict(job.foreseen)),
                )  # fmt: skip
                new += [job.id] * here.write(
                    "INSERT INTO jobs (id, function, place, key, version, size, owner, priority, deadline, event, "
                    "source, inside, state, change, created, steps, foreseen) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'RUNNABLE', ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                    values,
                )
            here.write_each("DELETE FROM arrivals WHERE number = ?", [(number,) for number in looked_at])
        return new

    def refuse(self, job: NewJob, reason: str) -> None:
        """Enter a job that can never be done, with the reason; one that is there already stays as it is."""
        if self.enter([job]):
            with self._database.writing() as here:
                self._move(here, [job.id], "FAILED", of=("RUNNABLE",), columns={"ended": time.time()}, reason=reason,
                           error={"kind": "refused"})  # fmt: skip

    def postpone(self, numbers: Iterable[int], reason: str, seconds: float) -> None:
        """Look at arrivals again later, since their place does not answer."""
        until = time.time() + seconds
        with self._database.writing() as here:
            here.write_each(
                "UPDATE arrivals SET not_before = ?, reason = ?, tries = tries + 1 WHERE number = ?",
                [(until, reason, number) for number in numbers],
            )

    # -- doing jobs ----------------------------------------------------------------------------------------------

    def wake(self) -> int:
        """Let those run whose pause before another try is over; how many."""
        now = time.time()
        with self._database.reading() as here:
            due = here.read("SELECT id FROM jobs WHERE state = 'PENDING' AND not_before <= ? LIMIT 1000", (now,))
        if not due:
            return 0
        with self._database.writing() as here:
            return self._move(here, [row["id"] for row in due], "RUNNABLE", of=("PENDING",))

    def next_wake(self) -> float | None:
        """When `wake` has something to do next, seconds since the epoch; None: nothing waits so."""
        with self._database.reading() as here:
            return here.read("SELECT min(not_before) AS it FROM jobs WHERE state = 'PENDING'")[0]["it"]

    def take(self, function: str, count: int, holder: str, *, per_user: int = 0, crowd_from: int = 0) -> list[Job]:
        """Take up to `count` jobs of a function: by priority, then in turn by user, then as they came.

        They are STARTING then, and this `holder`'s to end. Those whose deadline has passed fail instead.

        Args:
            function: Its name.
            count: How many at most.
            holder: Who takes them.
            per_user: How many of one user may be under way at a time, those of before counted; 0: any.
            crowd_from: Of a user of whom so many wait that nobody tried before, none of these: they are for
                `take_together`. 0: there are no crowds.
        """
        with self._database.writing() as here:
            self._overdue(here, function)
            served = self._served.setdefault(function, {})
            turns = choosing.choose(here, function, count, per_user, served, crowd_from=crowd_from, now=time.time())
            chosen = [job_id for job_id, _ in turns]
            self._move(here, chosen, "STARTING", of=("RUNNABLE",), columns={"holder": holder}, begun=True)
            taken = rows.in_order(rows.jobs(here, chosen), chosen)
        if len(served) > _MOST_USERS:
            served.clear()
        for _, user in turns:
            self._turn += 1
            served[user] = self._turn
        return taken

    def overdue(self, function: str) -> int:
        """Let those of a function fail whose deadline has passed, though nobody takes any; how many."""
        with self._database.writing() as here:
            return self._overdue(here, function)

    def take_together(self, function: str, user: str, count: int, holder: str) -> list[Job]:
        """Take up to `count` jobs of one user that nobody tried before, without calls; as `take` does otherwise."""
        with self._database.writing() as here:
            chosen = choosing.together(here, function, user, count, time.time())
            self._move(here, chosen, "STARTING", of=("RUNNABLE",), columns={"holder": holder}, begun=True)
            return rows.in_order(rows.jobs(here, chosen), chosen)

    def adopt(self, ids: Sequence[str], before: Collection[str], holder: str) -> list[str]:
        """Jobs that are under way elsewhere, whose holder, one of `before`, is gone, are this `holder`'s from now on.

        Returns:
            The ids of those that were under way, and held so.
        """
        marks = ", ".join("?" * len(before))
        query = f"UPDATE jobs SET holder = ? WHERE id = ? AND state IN ('STARTING', 'RUNNING') AND holder IN ({marks})"  # noqa: S608
        with self._database.writing() as here:
            return [one for one in ids if here.write(query, (holder, one, *before))]

    def tell(self, ids: Sequence[str], holder: str, reason: str) -> None:
        """Say of jobs that are under way that they are being started, or are again, and where."""
        with self._database.writing() as here:
            self._move(here, ids, "STARTING", of=("STARTING", "RUNNING"), holder=holder, reason=reason)

    def running(self, ids: Sequence[str], holder: str, function_version: str = "", reason: str = "") -> None:
        """The model or script is at these jobs now; `reason` may say where."""
        with self._database.writing() as here:
            self._move(here, ids, "RUNNING", of=("STARTING",), holder=holder, reason=reason,
                       columns={"function_version": function_version})  # fmt: skip

    def end(self, endings: Sequence[Ending], holder: str) -> list[str]:
        """Say what became of jobs that this holder took; the ids of those that were still its own."""
        ended: list[str] = []
        now = time.time()
        with self._database.writing() as here:
            for one in endings:
                columns: dict[str, Any] = {"holder": "", "outputs": json.dumps([*map(dict, one.outputs)])}
                if one.function_version:
                    columns["function_version"] = one.function_version
                if one.bill:
                    columns["bill"] = json.dumps(dict(one.bill))
                if one.state in ENDED:
                    columns["ended"] = now
                if one.state == "PENDING":
                    columns["not_before"] = now + one.again_in
                moved = self._move(here, [one.id], one.state, of=("STARTING", "RUNNING"), holder=holder,
                                   reason=one.reason, columns=columns, error=one.error)  # fmt: skip
                ended += [one.id] * moved
        return ended

    def give_back(self, ids: Sequence[str], holder: str, reason: str) -> None:
        """Jobs that were taken and not begun wait again, and this was no attempt."""
        with self._database.writing() as here:
            here.write_each(
                "UPDATE jobs SET attempts = attempts - 1 WHERE id = ? AND holder = ?", [(one, holder) for one in ids]
            )
            self._move(here, ids, "RUNNABLE", of=("STARTING", "RUNNING"), holder=holder, reason=reason,
                       columns={"holder": ""})  # fmt: skip

    def beat(self, holder: str) -> None:
        """This holder is alive; say so often enough that `reclaim` of another does not take it for dead."""
        with self._database.writing() as here:
            here.write(
                "INSERT INTO holders (holder, seen) VALUES (?, ?) "
                "ON CONFLICT (holder) DO UPDATE SET seen = excluded.seen", (holder, time.time()),
            )  # fmt: skip

    def reclaim(self, holder: str, *, silent_seconds: float = 0.0) -> list[str]:
        """Let jobs run again whose holder is gone: every other one that was not heard of for so long.

        That was no attempt of theirs, unless it happened to one job so often that it must be the reason.

        Returns:
            The ids of the jobs.
        """
        now = time.time()
        with self._database.writing() as here:
            dead = [
                row["holder"]
                for row in here.read("SELECT DISTINCT holder FROM jobs WHERE state IN ('STARTING', 'RUNNING')")
                if row["holder"] != holder
            ]
            alive = {
                row["holder"]
                for row in here.read("SELECT holder FROM holders WHERE seen > ?", (now - silent_seconds,))
                if silent_seconds
            }
            taken: list[str] = []
            for one in set(dead) - alive:
                found = here.read("SELECT id, deaths FROM jobs WHERE holder = ?", (one,))
                here.write("UPDATE jobs SET attempts = attempts - 1, deaths = deaths + 1 WHERE holder = ?", (one,))
                guilty = [row["id"] for row in found if row["deaths"] + 1 >= _MOST_DEATHS]
                others = [row["id"] for row in found if row["deaths"] + 1 < _MOST_DEATHS]
                self._move(here, guilty, "FAILED", of=("STARTING", "RUNNING"), columns={"holder": "", "ended": now},
                           reason=f"what was at it ended {_MOST_DEATHS} times", error={"kind": "gone"})  # fmt: skip
                self._move(here, others, "RUNNABLE", of=("STARTING", "RUNNING"), columns={"holder": ""},
                           reason="what was at it ended; it is begun again")  # fmt: skip
                here.write("DELETE FROM holders WHERE holder = ?", (one,))
                taken += guilty + others
            return taken

    # -- asking for something ------------------------------------------------------------------------------------

    def cancel(self, job_id: str, by: str = "") -> Job:
        """End a job: one that waits fails at once, one that is under way is ended by its holder.

        Raises:
            NotFound: If there is none.
            InvalidInput: If it has ended already.
        """
        said = f"cancelled{f' by {by}' if by else ''}"
        with self._database.writing() as here:
            job = rows.one(here, job_id)
            if job.state in ENDED:
                raise InvalidInput(f"job {job_id} has ended already: {job.state}")
            if job.state in ("PENDING", "RUNNABLE"):
                columns = {"ended": time.time()}
                self._move(here, [job_id], "FAILED", of=("PENDING", "RUNNABLE"), reason=said, columns=columns,
                           error={"kind": "cancelled"})  # fmt: skip
            else:
                here.write("UPDATE jobs SET cancel = 1, change = ? WHERE id = ?", (_changes(here, 1), job_id))
            return rows.one(here, job_id)

    def retry(self, job_id: str, by: str = "") -> Job:
        """Let a job that failed run again from its first attempt.

        Raises:
            NotFound: If there is none.
            InvalidInput: If it has not failed.
        """
        with self._database.writing() as here:
            job = rows.one(here, job_id)
            if job.state != "FAILED":
                raise InvalidInput(f"job {job_id} is {job.state}; one that failed can be run again")
            columns = {"ended": 0, "attempts": 0, "cancel": 0, "not_before": 0, "deadline": 0}
            self._move(here, [job_id], "RUNNABLE", of=("FAILED",), columns=columns, error={},
                       reason=f"asked to run again{f' by {by}' if by else ''}")  # fmt: skip
            here.write("UPDATE jobs SET deaths = 0 WHERE id = ?", (job_id,))
            return rows.one(here, job_id)

    def expire(self, function: str, days: float, limit: int = 1000) -> list[Job]:
        """Forget jobs that ended longer ago than `days`; what they were, so that what was kept with them goes too."""
        until = time.time() - days * 86400
        query = f"SELECT {rows.JOB} FROM jobs WHERE function = ? AND state = ? AND ended < ? LIMIT ?"  # noqa: S608
        with self._database.writing() as here:
            gone = [
                rows.job(row) for state in sorted(ENDED) for row in here.read(query, (function, state, until, limit))
            ]
            here.write_each("DELETE FROM jobs WHERE id = ?", [(job.id,) for job in gone])
        return gone

    # -- inside --------------------------------------------------------------------------------------------------

    def _overdue(self, here: Transaction, function: str) -> int:
        now = time.time()
        late = here.read(
            "SELECT id FROM jobs WHERE function = ? AND state = 'RUNNABLE' AND deadline > 0 AND deadline < ? LIMIT 500",
            (function, now),
        )
        return self._move(here, [row["id"] for row in late], "FAILED", of=("RUNNABLE",), columns={"ended": now},
                          reason="its deadline passed before it was begun", error={"kind": "deadline"})  # fmt: skip

    def _move(
        self,
        here: Transaction,
        ids: Sequence[str],
        to: State,
        *,
        of: Collection[State],
        holder: str | None = None,
        reason: str = "",
        columns: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        begun: bool = False,
    ) -> int:
        """Bring jobs from one of the states `of` into the state `to`; how many there were to bring."""
        if not ids:
            return 0
        values: dict[str, Any] = {"state": to, "reason": reason, **(columns or {})}
        if error is not None:
            values["error"] = json.dumps(dict(error))
        change = _changes(here, len(ids))
        given = ", ".join(f"{name} = ?" for name in values) + (", attempts = attempts + 1" if begun else "")
        marks = ", ".join("?" * len(of))
        whose = " AND holder = ?" if holder is not None else ""
        told = f",{rows.step(time.time(), to, reason)}"
        query = f"UPDATE jobs SET {given}, change = ?, steps = steps || ? WHERE id = ? AND state IN ({marks}){whose}"  # noqa: S608
        last = [holder] if holder is not None else []
        return sum(
            here.write(query, [*values.values(), change + number, told, one, *of, *last])
            for number, one in enumerate(ids)
        )


def _changes(here: Transaction, count: int) -> int:
    """The first of `count` new change numbers."""
    if not count:
        return 0
    here.write("UPDATE counters SET value = value + ? WHERE name = 'change'", (count,))
    return here.read("SELECT value FROM counters WHERE name = 'change'")[0]["value"] - count + 1
