from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volvox.packaging import standin
from volvox.store import FolderStore, Store


@pytest.fixture(scope="session")
def engine_environment() -> Iterator[dict[str, str]]:
    with standin.docker() as environment:
        yield environment


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def made(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> standin.Made:
    return standin.cycle_until_packaging(tmp_path, store, monkeypatch)
