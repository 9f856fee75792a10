from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volvox.packaging import standin
from volvox.store import Store


@pytest.fixture(scope="session")
def engine_environment() -> Iterator[dict[str, str]]:
    """What the Docker engine of VOLVOX_ENGINES needs in the environment; it is stopped if it was started here."""
    engines = os.environ.get("VOLVOX_ENGINES")
    if not engines:
        pytest.skip("VOLVOX_ENGINES is not set: no Docker engine to test with")
    running = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    told = subprocess.run([f"{engines}/up", "docker"], capture_output=True, text=True, timeout=300, check=True).stdout
    words = told.replace("export ", "").split()
    yield dict(word.split("=", 1) for word in words)
    if not running:
        subprocess.run([f"{engines}/down", "docker"], capture_output=True, timeout=60, check=False)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def made(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> standin.Made:
    monkeypatch.setenv("VOLVOX_HOME", str(tmp_path / "home"))
    standin.install(tmp_path / "site", monkeypatch)
    return standin.trained(store, tmp_path / "made")
