"""A schedule while the whole stack is down for minutes, and an object that lands: by the commands that people type."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import volvox
from tests.flows import nearest
from tests.flows.conftest import Installation

pytestmark = [pytest.mark.cycle, pytest.mark.soak]

_DOWN_SECONDS = 200  # three or four times of a schedule that runs each minute


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """An installation that the test may stop and start."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_STORE"):
        monkeypatch.delenv(name, raising=False)
    nearest.install(tmp_path / "site")
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    made = Installation(tmp_path / "home", {"PYTHONPATH": os.pathsep.join(paths)})
    monkeypatch.setenv("VOLVOX_HOME", str(made.home))
    made.run("up")
    yield made
    made.run("down", check=False)


def ask(installation: Installation, method: str, path: str, body: Any = None) -> Any:
    api = json.loads((installation.home / "stack" / "prefect.json").read_text())["url"] + "/api"
    answer = httpx.request(method, f"{api}{path}", json=body, timeout=60).raise_for_status()
    return answer.json() if answer.content else None


def runs(installation: Installation, deployment: str) -> list[dict[str, Any]]:
    wanted = {"flow_runs": {"deployment_id": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return ask(installation, "POST", "/flow_runs/filter", wanted)


def completed(installation: Installation, deployment: str, after: datetime, seconds: float = 240) -> dict[str, Any]:
    """The first run that began after a time and was completed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for run in runs(installation, deployment):
            assert run["state_type"] not in ("FAILED", "CRASHED"), run["state"]["message"]
            begun = run["start_time"] and datetime.fromisoformat(run["start_time"]) > after
            if begun and run["state_type"] == "COMPLETED":
                return run
        time.sleep(1)
    raise AssertionError(f"no run: {[run['state_name'] for run in runs(installation, deployment)]}")


def page(installation: Installation, run: dict[str, Any]) -> str:
    asked = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "key": {"like_": "cycle-"}}}
    (found,) = ask(installation, "POST", "/artifacts/filter", asked)
    return found["data"]


def test_after_a_downtime_one_run_stands_for_all_missed_times_and_reuses_what_is_unchanged(
    own: Installation, digits: Path
) -> None:
    deployment = ask(own, "GET", "/deployments/name/cycle/local")
    (schedule,) = deployment["schedules"]
    assert not schedule["active"], "nothing is scheduled until an operator says so"
    given = {"source": str(digits), "name": "scheduled", "module": "nearest", "image": False}
    path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    cron = {"cron": "* * * * *", "timezone": "UTC"}
    ask(own, "PATCH", path, {"active": True, "schedule": cron, "parameters": given})
    first = completed(own, deployment["id"], datetime.min.replace(tzinfo=UTC))
    assert "New: data, training" in page(own, first)
    own.run("down")
    went = datetime.now(UTC)
    time.sleep(_DOWN_SECONDS)
    own.run("up")
    stood = completed(own, deployment["id"], went)
    ask(own, "PATCH", path, {"active": False})
    until = datetime.fromisoformat(stood["start_time"])
    missed = [
        run for run in runs(own, deployment["id"]) if went < datetime.fromisoformat(run["expected_start_time"]) < until
    ]
    assert [run["id"] for run in missed if run["state_name"] != "Skipped"] == [stood["id"]]
    assert len(missed) >= 3
    assert all("stands for it" in run["state"]["message"] for run in missed if run["id"] != stood["id"])
    assert "Nothing was new" in page(own, stood)


def test_an_object_that_lands_is_trained_on_once(own: Installation, digits: Path) -> None:
    """The shipped automation, switched on as its page says; the bucket itself is none, so the runs end with that."""
    deployment = ask(own, "GET", "/deployments/name/cycle/local")["id"]
    (automation,) = [one for one in ask(own, "POST", "/automations/filter", {}) if "lands" in one["name"]]
    assert not automation["enabled"]
    volvox.landed("before", "off.zip", "1")
    ask(own, "PATCH", f"/automations/{automation['id']}", {"enabled": True})
    time.sleep(2)
    volvox.landed("lake", "labelled/a b.zip", "v/1", name="lake")
    volvox.landed("lake", "labelled/a b.zip", "v/1", name="lake")
    volvox.landed("lake", "labelled/a b.zip", "v2", name="lake")
    deadline = time.monotonic() + 60
    while len(runs(own, deployment)) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    time.sleep(10)
    found = sorted((run["parameters"]["source"], run["parameters"]["name"]) for run in runs(own, deployment))
    assert found == [
        ("s3://lake/labelled/a b.zip?versionId=v/1", "lake"), ("s3://lake/labelled/a b.zip?versionId=v2", "lake"),
    ]  # fmt: skip
