from __future__ import annotations

from pathlib import Path

import pytest

from volvox.settings import Home
from volvox.stack import prefect_database

URL = "PREFECT_API_DATABASE_CONNECTION_URL"
SKIPPED = "PREFECT_API_DATABASE_MIGRATE_ON_START"


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (URL, "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "template.db"
    monkeypatch.setattr(prefect_database, "template", lambda: path)
    return path


def test_a_new_home_starts_from_a_copy_of_the_template(tmp_path: Path, template: Path) -> None:
    template.write_bytes(b"ready")
    home = Home(tmp_path / "home")
    told = prefect_database.environment(home)
    assert prefect_database.path(home).read_bytes() == b"ready"
    assert told[URL] == f"sqlite+aiosqlite:///{prefect_database.path(home)}"
    assert told[SKIPPED] == "false"


def test_without_a_template_the_server_makes_its_database(tmp_path: Path, template: Path) -> None:
    home = Home(tmp_path / "home")
    assert SKIPPED not in prefect_database.environment(home)
    assert not prefect_database.path(home).exists()


def test_another_version_of_prefect_looks_at_its_migrations(tmp_path: Path, template: Path) -> None:
    template.write_bytes(b"new")
    home = Home(tmp_path / "home")
    prefect_database.path(home).write_bytes(b"mine")
    prefect_database.marker(home).write_text("an older installation")
    assert SKIPPED not in prefect_database.environment(home)
    assert prefect_database.path(home).read_bytes() == b"mine"
    prefect_database.marker(home).write_text(prefect_database.key())
    assert prefect_database.environment(home)[SKIPPED] == "false"


def test_an_operators_database_is_used_and_never_assumed_ready(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template.write_bytes(b"ready")
    monkeypatch.setenv(URL, "postgresql+asyncpg://db/prefect")
    home = Home(tmp_path / "home")
    assert prefect_database.environment(home) == {URL: "postgresql+asyncpg://db/prefect"}
    assert not prefect_database.path(home).exists()
