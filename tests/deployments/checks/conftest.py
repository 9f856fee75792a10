from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.checks import check_pool
from deployments.checks.check import Check
from volvox.settings import Home

ROOT = Path(__file__).parents[3]


def up(engine: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Have an engine of VOLVOX_ENGINES run and know its addresses; it is left running for the next test."""
    engines = os.environ.get("VOLVOX_ENGINES")
    if not engines:
        pytest.skip(f"VOLVOX_ENGINES is not set: no engine {engine!r} to test with")
    told = subprocess.run([f"{engines}/up", engine], capture_output=True, text=True, timeout=300, check=True).stdout
    found = dict(re.findall(r"\b([A-Z_]+)=(\S+)", told))
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def made(name: str, home: Home, *, probe: bool = True) -> dict[str, Check]:
    """Every check of a pool by its name."""
    import asyncio

    found: list[Check] = []
    asyncio.run(check_pool(name, home, found.append, probe=probe))
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def define(home: Home, name: str, text: str) -> None:
    (home.folder("pools") / f"{name}.yaml").write_text(text)


@pytest.fixture
def no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Prefect nor MLflow anywhere, and nothing waits for them."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")


@pytest.fixture(scope="session")
def probe_image() -> Iterator[str]:
    """A small image that holds this very `volvox`, so that the probe runs in it."""
    import docker

    client = docker.from_env()
    base = os.environ.get("ENGINE_BASE_IMAGE", "engines/python:3.11")
    tag = f"127.0.0.1:5000/volvox-probe-test:{uuid.uuid4().hex[:12]}"  # several workers make one each
    import io
    import tarfile

    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        archive.add(ROOT / "volvox", "volvox", filter=lambda one: None if "__pycache__" in one.name else one)
        dockerfile = f"FROM {base}\nCOPY volvox /app/volvox\nENV PYTHONPATH=/app\nUSER 1000\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        archive.addfile(entry, io.BytesIO(dockerfile))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    client.images.push(tag)
    yield tag
    client.images.remove(tag, force=True)
    client.close()


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A stand-in for Prefect and MLflow that answers as much as the checks ask, and a folder as the store."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("standin_services.py"))], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents):  # pytest keeps its folders to their owner
        if folder.stat().st_mode & 0o055 != 0o055:
            folder.chmod(folder.stat().st_mode | 0o055)
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("VOLVOX_STORE", str(tmp_path / "shared"))
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    monkeypatch.setenv("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", "false")
    monkeypatch.setenv("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()
    process.stdout.close()
