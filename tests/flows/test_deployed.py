"""Runs that Prefect's UI, a schedule or `run_deployment` starts go through the process worker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows.conftest import QUICK, Installation

pytestmark = pytest.mark.cycle


def _run(api: str, deployment: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Create a run as the UI's button does, wait for its end, return it."""
    with httpx.Client(base_url=api, timeout=30) as client:
        found = client.get(f"/deployments/name/{deployment}")
        assert found.status_code == 200, f"no deployment {deployment}"
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        run = client.post(f"/deployments/{found.json()['id']}/create_flow_run", json=body).json()
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            run = client.get(f"/flow_runs/{run['id']}").json()
            if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return run
            time.sleep(0.5)
    raise AssertionError(f"the run never ended: {run['state']}")


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
