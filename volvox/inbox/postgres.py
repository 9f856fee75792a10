"""The inbox in PostgreSQL, for several machines."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from volvox.errors import InvalidInput, Unavailable
from volvox.inbox.database import TABLES, VERSION, Transaction, upgrade

if TYPE_CHECKING:
    import psycopg

_SCHEMA = "volvox"
_CHANNEL = "volvox_inbox"
_LOCK = 0x766F6C766F78  # one number for every process: writers go one after the other, so that changes are in order
_CONNECT_SECONDS = 10


class Postgres:
    """A schema `volvox` in a database; every thread has a connection of its own."""

    def __init__(self, address: str) -> None:
        """Connect to `address`, `postgresql://user@host/database`, and make the tables where they are missing.

        Raises:
            InvalidInput: If the address or its credentials are refused, or psycopg is not installed.
            Unavailable: If the server does not answer.
        """
        try:
            import psycopg
        except ImportError as error:
            raise InvalidInput(
                f"an inbox in PostgreSQL needs psycopg: pip install 'volvox[postgres]' ({error})"
            ) from error
        self._psycopg = psycopg
        self._address = address
        self._shown = shown(address)
        self._here = threading.local()
        self._all: list[psycopg.Connection[dict[str, Any]]] = []
        self._lock = threading.Lock()
        with self.writing() as here:
            self._make(here)

    def _make(self, here: Transaction) -> None:
        here.write(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}")
        there = here.read("SELECT 1 AS it FROM pg_tables WHERE schemaname = ? AND tablename = ?", (_SCHEMA, "counters"))
        if there:
            (found,) = here.read("SELECT value FROM counters WHERE name = 'version'")
            if not upgrade(here, found["value"]):
                raise InvalidInput(
                    f"{self._shown} was written by another release (form {found['value']}, here {VERSION})"
                )
            return
        number = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
        for statement in TABLES.format(number=number, version=VERSION).split(";\n"):
            if statement.strip():
                here.write(statement)

    @property
    def _connection(self) -> psycopg.Connection[dict[str, Any]]:
        db: psycopg.Connection[dict[str, Any]] | None = getattr(self._here, "db", None)
        if db is None or db.closed:
            db = self._here.db = self._connect()
            with self._lock:
                self._all = [one for one in self._all if not one.closed] + [db]
        return db

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        from psycopg.rows import dict_row

        return self._psycopg.Connection[dict[str, Any]].connect(
            self._address, row_factory=dict_row, autocommit=True, connect_timeout=_CONNECT_SECONDS,
            options=f"-c search_path={_SCHEMA} -c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000",
            keepalives_idle=10, keepalives_interval=5, keepalives_count=3, application_name="volvox-inbox",
        )  # fmt: skip

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self._telling(), self._connection.transaction():
            yield _Statements(self._connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Transaction]:
        with self._telling():
            db = self._connection
            with db.transaction():
                db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                yield _Statements(db)
                db.execute(f"NOTIFY {_CHANNEL}")

    def changed(self) -> bool:
        with self._telling():
            listening = getattr(self._here, "listening", None)
            if listening is None or listening.closed:
                listening = self._here.listening = self._connect()
                listening.execute(f"LISTEN {_CHANNEL}")
                with self._lock:
                    self._all.append(listening)
                return True  # what came before, nobody told this connection
            own = self._connection.info.backend_pid
            return any([told.pid != own for told in listening.notifies(timeout=0)])  # noqa: C419 - takes them all

    def close(self) -> None:
        with self._lock:
            for db in self._all:
                with contextlib.suppress(self._psycopg.Error):
                    db.close()
            self._all.clear()
        self._here = threading.local()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.OperationalError as error:
            said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if isinstance(error, self._psycopg.errors.InvalidPassword) or "authentication failed" in said:
                raise InvalidInput(f"the PostgreSQL server at {self._shown} refuses the credentials") from error
            raise Unavailable(f"the inbox at {self._shown} does not answer: {said}") from error
        except self._psycopg.ProgrammingError as error:
            raise InvalidInput(f"the inbox at {self._shown} cannot be used: {str(error).splitlines()[0]}") from error


class _Statements:
    def __init__(self, db: psycopg.Connection[dict[str, Any]]) -> None:
        self._db = db

    def read(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return self._db.execute(_own(query), _kept(values)).fetchall()  # pyright: ignore[reportArgumentType]

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._db.execute(_own(statement), _kept(values)).rowcount  # pyright: ignore[reportArgumentType]

    def write_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._db.cursor() as cursor:
            cursor.executemany(_own(statement), [_kept(row) for row in rows])  # pyright: ignore[reportArgumentType]


def _kept(values: Sequence[Any]) -> list[Any]:
    """Texts of PostgreSQL hold no NUL; where one is told in a key, no place has such an object anyway."""
    return [value.replace("\0", "\N{SYMBOL FOR NULL}") if isinstance(value, str) else value for value in values]


def _own(statement: str) -> str:
    """Our statements hold neither a `?` nor a `%` but for values."""
    return statement.replace("?", "%s")


def shown(address: str) -> str:
    """An address without its password, for messages."""
    parts = urlsplit(address)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
