"""The database of the local Prefect server, and how to start on it without making it anew.

A new SQLite database takes Prefect ten seconds of migrations, the same ones each time. Setup makes one empty database
and keeps it with the interpreter (`python -m volvox.stack.prefect_database`); a new home starts from a copy of it. A
database that this very installation has started on before needs no look at its migrations and blocks either.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from functools import cache
from pathlib import Path

from volvox.identity import digest_of
from volvox.settings import Home

_URL = "PREFECT_API_DATABASE_CONNECTION_URL"
_ALIASES = (_URL, "PREFECT_SERVER_DATABASE_CONNECTION_URL")


@cache
def key() -> str:
    """Digest of the versions that decide what a ready database looks like: Prefect and its collections."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str] = {}
    for name in ("prefect", "prefect-aws", "prefect-docker", "prefect-kubernetes"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return digest_of(versions)[:16]


def path(home: Home) -> Path:
    """Where the database of this home lies."""
    return home.folder("prefect") / "prefect.db"


def marker(home: Home) -> Path:
    """The file that says which installation brought this home's database up to date."""
    return home.folder("prefect") / "prepared"


def template() -> Path:
    """The empty, ready database that belongs to this interpreter."""
    return Path(sys.prefix) / "share" / "volvox" / f"prefect-{key()}.db"


def environment(home: Home) -> dict[str, str]:
    """Where the server shall keep its data, and what it need not look at; an address of the operator's is kept."""
    given = next((os.environ[name] for name in _ALIASES if os.environ.get(name)), "")
    if given:
        return {_URL: given}
    database = path(home)
    if not database.exists() and template().exists():
        temporary = database.with_name(f".prefect-{os.getpid()}.db")
        shutil.copyfile(template(), temporary)
        marker(home).write_text(key())
        temporary.replace(database)
    chosen = {_URL: f"sqlite+aiosqlite:///{database}"}
    if database.exists() and marker(home).exists() and marker(home).read_text() == key():
        chosen["PREFECT_API_DATABASE_MIGRATE_ON_START"] = "false"
        chosen["PREFECT_API_BLOCKS_REGISTER_ON_START"] = "false"
        chosen["PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION"] = "false"
    return chosen


def make_template() -> Path:
    """Make the empty database by starting a server once; does nothing if it is there."""
    from volvox.stack import stack

    target = template()
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(prefix="volvox-prefect-") as folder:
        home = Home(Path(folder))
        try:
            stack.ensure(home, ["prefect"], local=True)
            stack.wait_ready(home, "prefect")
        finally:
            stack.stop(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}-{os.getpid()}")
        source, copy = sqlite3.connect(path(home)), sqlite3.connect(temporary)
        try:
            source.backup(copy)
        finally:
            source.close()
            copy.close()
        temporary.replace(target)
    return target


if __name__ == "__main__":
    print(make_template())
