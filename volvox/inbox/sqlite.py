"""The inbox in a file of this machine."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, Unavailable
from volvox.inbox.database import TABLES, VERSION, Transaction, upgrade

_PATIENCE_SECONDS = 30.0


class SQLite:
    """A file in write-ahead mode: readers never wait, writers wait for each other."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make it.

        Raises:
            InvalidInput: If it is none of ours, or a newer release wrote it.
            Unavailable: If it cannot be opened now.
        """
        self._path = path
        self._here = threading.local()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._all: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        with self._telling():
            db = self._connection
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            try:
                self._make(db)
                db.execute("COMMIT")
            except BaseException:
                db.execute("ROLLBACK")
                raise

    def _make(self, db: sqlite3.Connection) -> None:
        tables = {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "counters" in tables:
            (found,) = db.execute("SELECT value FROM counters WHERE name = 'version'").fetchone()
            if not upgrade(_Statements(db), found):
                raise InvalidInput(f"{self._path} was written by another release (form {found}, here {VERSION})")
            return
        if tables - {"sqlite_sequence"}:
            raise InvalidInput(f"{self._path} is a database of something else; name another file")
        for statement in TABLES.format(number="INTEGER PRIMARY KEY AUTOINCREMENT", version=VERSION).split(";\n"):
            if statement.strip():
                db.execute(statement)

    @property
    def _connection(self) -> sqlite3.Connection:
        """This thread's own; SQLite's transactions belong to a connection."""
        db: sqlite3.Connection | None = getattr(self._here, "db", None)
        if db is None:
            db = sqlite3.connect(self._path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA synchronous = FULL")  # what was acknowledged outlives a cut of the power
            self._here.db = db
            with self._lock:
                self._all.append(db)
        return db

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self._telling():
            db = self._connection
            db.execute("BEGIN")
            try:
                yield _Statements(db)
            finally:
                db.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[Transaction]:
        with self._telling():
            db = self._connection
            db.execute("BEGIN IMMEDIATE")
            try:
                yield _Statements(db)
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk has ended the transaction already
                    db.execute("ROLLBACK")
                raise

    def changed(self) -> bool:
        with self._telling():
            found = self._connection.execute("PRAGMA data_version").fetchone()[0]  # of a page that is in memory
        seen, self._here.seen = getattr(self._here, "seen", None), found
        return found != seen

    def close(self) -> None:
        with self._lock:
            for db in self._all:
                db.close()
            self._all.clear()
        self._here = threading.local()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            with telling_full_disks(self._path.parent):
                yield
        except sqlite3.OperationalError as error:
            said = str(error)
            if "full" in said:
                raise Unavailable(f"the disk of {self._path} is full; make room, and what waits goes on") from error
            raise Unavailable(f"the inbox {self._path} cannot be used now: {said}") from error
        except sqlite3.DatabaseError as error:
            raise InvalidInput(f"{self._path} cannot be read as a database: {error}") from error


class _Statements:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def read(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return [dict(row) for row in self._db.execute(query, values)]

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._db.execute(statement, values).rowcount

    def write_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        self._db.executemany(statement, rows)
