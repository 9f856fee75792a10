"""Runs that Prefect's UI, a schedule or `run_deployment` starts go through the process worker."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows.conftest import QUICK, Installation

pytestmark = pytest.mark.cycle


def _run(api: str, deployment: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Create a run as the UI's button does, wait for its end, return it."""
    with httpx.Client(base_url=api, timeout=30) as client:
        found = _answer(client, "GET", f"/deployments/name/{deployment}")
        key = str(uuid.uuid4())  # one run, however often it is asked for
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}, "idempotency_key": key}
        run = _answer(client, "POST", f"/deployments/{found['id']}/create_flow_run", body)
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            run = _answer(client, "GET", f"/flow_runs/{run['id']}")
            if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return run
            time.sleep(0.5)
    raise AssertionError(f"the run never ended: {run['state']}")


def _answer(client: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What Prefect answers; asked again where it says that its database is busy."""
    for _ in range(10):
        answer = client.request(method, path, json=body)
        if answer.status_code < 500:
            break
        time.sleep(1)
    return answer.raise_for_status().json()


@pytest.fixture
def api(installation: Installation) -> str:
    services = installation.json("status")["services"]
    return next(service["url"] for service in services if service["name"] == "prefect") + "/api"


def test_a_cycle_started_from_prefect_serves_its_model(installation: Installation, digits: Path, api: str) -> None:
    asked = {"source": str(digits), "name": "deployed", "module": "nearest", "arguments": {"seed": 1}, "image": False}
    run = _run(api, "cycle/local", asked)
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert [version["name"] for version in installation.json("models")].count("deployed") == 1
    assert installation.run("predict", str(next((digits / "2").iterdir())), "--name", "deployed").returncode == 0
    same = installation.json("cycle", str(digits), "--name", "deployed", *QUICK, "--seed", "1")
    assert next(stage for stage in same["stages"] if stage["stage"] == "training")["reused"], "one key here and there"


def test_a_stage_started_from_prefect_fails_with_the_sentence_that_the_command_line_prints(
    installation: Installation, api: str
) -> None:
    run = _run(api, "data/local", {"source": "/nowhere/at/all"})
    assert run["state"]["type"] == "FAILED"
    assert "/nowhere/at/all" in run["state"]["message"]


def test_applying_again_changes_nothing(installation: Installation) -> None:
    assert installation.json("apply")["changes"] == []
