"""The jobs of one server in SQLite: what they are, in which state, since when, and how they came there.

A state changes by one statement that names the states it may change from, so that of two who want to change it, one
does. Times are ISO 8601 in UTC with microseconds: they sort as text.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from volvox.errors import NotFound

State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
Kind = Literal["predict", "train"]
STATES: tuple[State, ...] = ("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
OPEN: tuple[State, ...] = ("PENDING", "RUNNING")
FINISHED: tuple[State, ...] = ("SUCCEEDED", "FAILED", "CANCELLED")

_VERSION = 1
_TABLES = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    model TEXT NOT NULL,
    module TEXT NOT NULL,
    version TEXT NOT NULL DEFAULT '',
    model_version TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'PENDING',
    reason TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '',
    created TEXT NOT NULL,
    started TEXT,
    finished TEXT,
    runs INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    arguments TEXT NOT NULL DEFAULT '{}',
    weights TEXT NOT NULL DEFAULT '',
    status INTEGER,
    content_type TEXT NOT NULL DEFAULT '',
    unlisted INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_state ON jobs (state, kind, model, number);
CREATE TABLE changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid TEXT NOT NULL REFERENCES jobs (uuid) ON DELETE CASCADE,
    time TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX changes_of_job ON changes (uuid, number);
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One prediction or training that somebody does not wait for.

    Attributes:
        number: Jobs are numbered in the order they came.
        uuid: 32 hexadecimal digits.
        kind: `predict` or `train`.
        model: Name of the served model it was asked of.
        module: Entry-point name of the module.
        version: The model's version number: while it waits the one it was asked of, then the one that answered.
        model_version: Digest of that version.
        state: PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED.
        reason: Why it waits again, failed or was cancelled; one sentence.
        message: Of a failed one: what the module's exception says.
        created, started, finished: ISO 8601, UTC; None where that has not happened.
        runs: How often it was begun.
        deaths: During how many of these the server was killed.
        arguments: Those of a training as JSON, with defaults.
        weights: Folder of the version that a training may start from; empty if there is none.
        status: HTTP status of its answer, None while there is none.
        content_type: Of its answer.
        unlisted: Whether the list of trainings leaves it out.
    """

    number: int
    uuid: str
    kind: Kind
    model: str
    module: str
    version: str
    model_version: str
    state: State
    reason: str
    message: str
    created: str
    started: str | None
    finished: str | None
    runs: int
    deaths: int
    arguments: str
    weights: str
    status: int | None
    content_type: str
    unlisted: int

    @property
    def given(self) -> dict[str, Any]:
        """The arguments of a training."""
        return json.loads(self.arguments)


@dataclass(frozen=True)
class Change:
    """A state that a job came into, when and why."""

    number: int
    time: str
    state: State
    reason: str


def now() -> str:
    """This moment as it is kept."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Store:
    """The database; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open the database at `path`, or make it; one that cannot be read is put aside."""
        try:
            self._db = _opened(path)
        except sqlite3.DatabaseError as error:
            log.error("the jobs of before are unknown: %s cannot be read (%s)", path, error)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).rename(path.with_name(f"{path.name}.unreadable{suffix}"))
            self._db = _opened(path)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, uuid: str) -> Job:
        """The job `uuid`.

        Raises:
            NotFound: If there is none.
        """
        found = self._jobs("WHERE uuid = ?", uuid)
        if not found:
            raise NotFound(f"there is no job {uuid!r} here; it may have been removed, or was never made")
        return found[0]

    def newest(
        self, *, model: str = "", state: str = "", kind: str = "", listed: bool = False, limit: int = -1
    ) -> list[Job]:
        """Jobs that fit, the newest first; `limit` -1: all of them. `listed`: without those that were unlisted."""
        wanted = {"model": model, "state": state, "kind": kind}
        tests = [f"{column} = ?" for column, value in wanted.items() if value] + (["unlisted = 0"] if listed else [])
        where = f"WHERE {' AND '.join(tests)}" if tests else ""
        return self._jobs(f"{where} ORDER BY number DESC LIMIT ?", *filter(None, wanted.values()), limit)

    def waiting(self, kind: Kind, model: str = "", *, limit: int = -1) -> list[Job]:
        """Jobs that wait, the oldest first."""
        where = "WHERE state = 'PENDING' AND kind = ?" + (" AND model = ?" if model else "")
        return self._jobs(f"{where} ORDER BY number LIMIT ?", *filter(None, (kind, model)), limit)

    def running(self) -> list[Job]:
        """Jobs that run, or ran when the server was killed."""
        return self._jobs("WHERE state = 'RUNNING' ORDER BY number")

    def models_waited_for(self) -> list[str]:
        """Names of the models that predictions wait for."""
        query = "SELECT DISTINCT model FROM jobs WHERE state = 'PENDING' AND kind = 'predict'"
        return [row[0] for row in self._db.execute(query)]

    def count(self, state: State) -> int:
        """How many jobs are in `state`."""
        return self._db.execute("SELECT count(*) FROM jobs WHERE state = ?", (state,)).fetchone()[0]

    def before(self, job: Job) -> tuple[int, int]:
        """How many jobs wait before `job` for what it waits for, and how many of them have it now."""
        where = "kind = ? AND number < ?" + (" AND model = ?" if job.kind == "predict" else "")
        values = (job.kind, job.number, *([job.model] if job.kind == "predict" else []))
        query = f"SELECT count(*) FROM jobs WHERE state = ? AND {where}"  # noqa: S608 - no value is in it
        waiting = self._db.execute(query, ("PENDING", *values)).fetchone()[0]
        return waiting, self._db.execute(query, ("RUNNING", *values)).fetchone()[0]

    def changes(self, uuid: str, after: int = 0) -> list[Change]:
        """The states that job `uuid` came into, without those up to the number `after`."""
        query = "SELECT number, time, state, reason FROM changes WHERE uuid = ? AND number > ? ORDER BY number"
        return [Change(*row) for row in self._db.execute(query, (uuid, after))]

    def uuids(self) -> set[str]:
        """Every job."""
        return {row[0] for row in self._db.execute("SELECT uuid FROM jobs")}

    def expired(self, days: float, newest: int) -> list[str]:
        """Finished jobs that are older than `days`, or not among the `newest` finished ones."""
        oldest = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
        finished = "state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"
        query = (
            f"SELECT uuid FROM jobs WHERE {finished} AND (finished < ? OR number NOT IN "  # noqa: S608
            f"(SELECT number FROM jobs WHERE {finished} ORDER BY finished DESC, number DESC LIMIT ?))"
        )
        return [row[0] for row in self._db.execute(query, (oldest, newest))]

    # -- writing -------------------------------------------------------------------------------------------------

    def add(self, uuid: str, **columns: Any) -> Job:
        """A new job, which waits; `columns` are those of `Job`."""
        values = {"uuid": uuid, "created": now(), **columns}
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        with self._writing():
            self._db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", (*values.values(),))  # noqa: S608
            self._change(uuid, "PENDING", "")
        return self.get(uuid)

    def move(self, uuid: str, to: State, *, of: Collection[State], reason: str = "", **columns: Any) -> Job | None:
        """Bring job `uuid` from one of the states `of` into the state `to`; None if it is in none of them."""
        values: dict[str, Any] = {"state": to, "reason": reason, **columns}
        runs = ""
        if to == "RUNNING":
            values["started"], runs = now(), ", runs = runs + 1"
        if to == "PENDING":
            values["started"] = None
        if to in FINISHED:
            values["finished"] = now()
        changed = ", ".join(f"{name} = ?" for name in values) + runs
        query = f"UPDATE jobs SET {changed} WHERE uuid = ? AND state IN ({', '.join('?' * len(of))})"  # noqa: S608
        with self._writing():
            if not self._db.execute(query, (*values.values(), uuid, *of)).rowcount:
                return None
            self._change(uuid, to, reason)
        return self.get(uuid)

    def unlist(self, uuid: str) -> None:
        """Leave job `uuid` out of the list of trainings."""
        with self._writing():
            self._db.execute("UPDATE jobs SET unlisted = 1 WHERE uuid = ?", (uuid,))

    def remove(self, uuid: str) -> bool:
        """Forget job `uuid` if it has finished; whether it was forgotten."""
        query = f"DELETE FROM jobs WHERE uuid = ? AND state IN ({', '.join('?' * len(FINISHED))})"  # noqa: S608
        with self._writing():
            return self._db.execute(query, (uuid, *FINISHED)).rowcount > 0

    # -- inside --------------------------------------------------------------------------------------------------

    def _jobs(self, where: str, *values: Any) -> list[Job]:
        return [Job(**row) for row in self._db.execute(f"SELECT * FROM jobs {where}", values)]  # noqa: S608

    def _change(self, uuid: str, state: State, reason: str) -> None:
        query = "INSERT INTO changes (uuid, time, state, reason) VALUES (?, ?, ?, ?)"
        self._db.execute(query, (uuid, now(), state, reason))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a job that was acknowledged outlives a cut of the power
        db.execute("PRAGMA foreign_keys = ON")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it was written by a newer server: version {found}, this one reads {_VERSION}")
        if not found:
            db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_VERSION}; COMMIT;")
    except BaseException:
        db.close()
        raise
    return db
