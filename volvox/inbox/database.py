"""What the inbox needs of a database, and the tables in it; the same for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

VERSION = 2

# `{number}` is a column that counts by itself. Times are seconds since the epoch; `steps`, `outputs`, `error`,
# `foreseen` and `bill` are JSON, of `steps` without the brackets, so that another one is added without reading the
# others.
TABLES = """
CREATE TABLE arrivals (
    number {number},
    place TEXT NOT NULL,
    key TEXT NOT NULL,
    version TEXT NOT NULL,
    source TEXT NOT NULL,
    owner TEXT NOT NULL,
    event TEXT NOT NULL,
    function TEXT NOT NULL,
    priority INTEGER NOT NULL,
    received DOUBLE PRECISION NOT NULL,
    not_before DOUBLE PRECISION NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE jobs (
    number {number},
    id TEXT NOT NULL UNIQUE,
    function TEXT NOT NULL,
    place TEXT NOT NULL,
    key TEXT NOT NULL,
    version TEXT NOT NULL,
    size BIGINT NOT NULL,
    owner TEXT NOT NULL,
    priority INTEGER NOT NULL,
    deadline DOUBLE PRECISION NOT NULL,
    event TEXT NOT NULL,
    source TEXT NOT NULL,
    inside TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    not_before DOUBLE PRECISION NOT NULL DEFAULT 0,
    holder TEXT NOT NULL DEFAULT '',
    change BIGINT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    ended DOUBLE PRECISION NOT NULL DEFAULT 0,
    function_version TEXT NOT NULL DEFAULT '',
    outputs TEXT NOT NULL DEFAULT '[]',
    error TEXT NOT NULL DEFAULT '{{}}',
    cancel INTEGER NOT NULL DEFAULT 0,
    steps TEXT NOT NULL,
    foreseen TEXT NOT NULL DEFAULT '{{}}',
    bill TEXT NOT NULL DEFAULT '{{}}'
);
CREATE INDEX jobs_in_turn ON jobs (function, state, owner, priority DESC, number);
CREATE INDEX jobs_by_change ON jobs (change);
CREATE INDEX jobs_at_work ON jobs (state, not_before) WHERE state IN ('PENDING', 'STARTING', 'RUNNING');
CREATE TABLE holders (
    holder TEXT NOT NULL PRIMARY KEY,
    seen DOUBLE PRECISION NOT NULL
);
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('change', 0), ('version', {version});
"""

# What makes the next form of the tables out of one; a database goes through all that it lacks when it is opened.
UPGRADES = {
    1: (
        "ALTER TABLE jobs ADD COLUMN foreseen TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE jobs ADD COLUMN bill TEXT NOT NULL DEFAULT '{}'",
    )
}


class Transaction(Protocol):
    """Statements that are done together or not at all; `?` stands for a value in each."""

    def read(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query, each a dict by column."""
        ...

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Do a statement; how many rows it changed."""
        ...

    def write_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Do a statement once for each row of values."""
        ...


class Database(Protocol):
    """A database that several processes may have open; every method may raise Unavailable."""

    def reading(self) -> AbstractContextManager[Transaction]:
        """A view of one moment."""
        ...

    def writing(self) -> AbstractContextManager[Transaction]:
        """A transaction; one at a time, whoever asks. What it wrote is on the disk when the block is left."""
        ...

    def changed(self) -> bool:
        """Whether somebody else has written since this thread asked last; asked for the first time, yes."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def upgrade(here: Transaction, found: int) -> bool:
    """Bring tables of the form `found` into the present one; False: there is no way from there."""
    if found not in (*UPGRADES, VERSION):
        return False
    for form in range(found, VERSION):
        for statement in UPGRADES[form]:
            here.write(statement)
    if found != VERSION:
        here.write("UPDATE counters SET value = ? WHERE name = 'version'", (VERSION,))
    return True


def chunks(values: Sequence[Any], size: int = 500) -> Iterator[Sequence[Any]]:
    """`values` in parts that fit into one statement."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
