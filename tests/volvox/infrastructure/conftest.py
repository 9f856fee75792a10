from __future__ import annotations

import os
import re
import subprocess

import pytest


def up(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an engine of VOLVOX_ENGINES run and know its addresses; it is left running for the next test."""
    engines = os.environ.get("VOLVOX_ENGINES")
    if not engines:
        pytest.skip(f"VOLVOX_ENGINES is not set: no engine {engine!r} to test with")
    told = subprocess.run([f"{engines}/up", engine], capture_output=True, text=True, timeout=300, check=True).stdout
    for name, value in re.findall(r"\b([A-Z_]+)=(\S+)", told):
        monkeypatch.setenv(name, value)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> None:
    up("docker", monkeypatch)


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    up("k8s", monkeypatch)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    up("aws", monkeypatch)
