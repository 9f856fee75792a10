"""An inbox that an earlier release wrote is brought into the present form when it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.volvox.inbox.conftest import job, opened
from volvox.errors import InvalidInput
from volvox.inbox.database import VERSION


def as_first_release(address: str) -> None:
    """Take away from an inbox what has been added since."""
    statements = [
        "ALTER TABLE jobs DROP COLUMN foreseen", "ALTER TABLE jobs DROP COLUMN bill",
        "UPDATE counters SET value = 1 WHERE name = 'version'",
    ]  # fmt: skip
    run(address, statements)


def run(address: str, statements: list[str]) -> None:
    if address.startswith("postgres"):
        import psycopg

        with psycopg.connect(address, autocommit=True, options="-c search_path=volvox") as db:
            for statement in statements:
                db.execute(statement.encode())
        return
    db = sqlite3.connect(address)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def test_an_earlier_inbox_keeps_its_jobs_and_takes_new_ones(address: str) -> None:
    inbox = opened(address)
    inbox.enter([job("old.png")])
    inbox.close()
    as_first_release(address)
    for _ in range(2):  # and again: nothing is added twice
        inbox = opened(address)
        assert inbox.jobs(key="old")[0].foreseen == {}
        inbox.close()
    inbox = opened(address)
    inbox.enter([job("new.png", foreseen={"wait_seconds": 1.5})])
    new, old = inbox.jobs()
    assert (new.foreseen, new.bill) == ({"wait_seconds": 1.5}, {})
    assert old.key == "old.png"
    inbox.close()


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_an_inbox_of_a_later_release_is_refused(tmp_path: Path, version: int) -> None:
    address = str(tmp_path / "inbox.db")
    opened(address).close()
    run(address, [f"UPDATE counters SET value = {version} WHERE name = 'version'"])
    with pytest.raises(InvalidInput, match=f"form {version}, here {VERSION}"):
        opened(address)
