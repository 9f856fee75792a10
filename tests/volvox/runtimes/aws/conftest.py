"""The AWS engine of VOLVOX_ENGINES."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import engine_environment
from tests.volvox.runtimes.aws.cloud import Cloud


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    told = engine_environment(["docker", "aws"])
    for variable, value in told.items():
        if variable.startswith(("AWS_", "DOCKER_")):
            monkeypatch.setenv(variable, value)
    monkeypatch.setenv("VOLVOX_REGISTRY", "127.0.0.1:5000")
    made = Cloud(tmp_path, told["ENGINE_BASE_IMAGE"], f"volvox-{uuid.uuid4().hex[:12]}")
    yield made
    made.close()
