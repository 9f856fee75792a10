from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import engine_environment
from volvox.inbox import Inbox, NewJob
from volvox.inbox.sqlite import SQLite


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an inbox that is empty."""
    if request.param == "sqlite":
        yield str(tmp_path / "inbox.db")
        return
    server = engine_environment(["postgres"])["POSTGRES_URL"]
    import psycopg

    name = f"inbox_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
        yield f"{server.rpartition('/')[0]}/{name}"
        db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def opened(address: str) -> Inbox:
    if address.startswith("postgres"):
        from volvox.inbox.postgres import Postgres

        return Inbox(Postgres(address))
    return Inbox(SQLite(Path(address)))


@pytest.fixture
def inbox(address: str) -> Iterator[Inbox]:
    inbox = opened(address)
    yield inbox
    inbox.close()


def job(key: str = "a.png", *, function: str = "f", version: str = "1", **more: Any) -> NewJob:
    return NewJob(function, "s3://b", key, version, **more)
