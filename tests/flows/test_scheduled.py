"""A schedule while the whole stack is down for minutes, and an object that lands: by the commands that people type."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

import volvox
from tests.engines import engine_environment
from tests.flows import nearest
from tests.flows.conftest import Installation

pytestmark = [pytest.mark.cycle, pytest.mark.soak]

ROOT = Path(__file__).parents[2]
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


@pytest.mark.aws
def test_an_object_that_lands_is_trained_on_once(own: Installation, digits: Path, tmp_path: Path, monkeypatch) -> None:
    """The shipped automation is off; an operator's file of its name says which bucket and which module."""
    (shipped,) = [one for one in ask(own, "POST", "/automations/filter", {}) if "lands" in one["name"]]
    assert not shipped["enabled"]
    ask(own, "DELETE", f"/automations/{shipped['id']}")
    own.run("down")
    for name, value in engine_environment(["aws"]).items():
        monkeypatch.setenv(name, value)
    text = (ROOT / "deployments" / "automations" / "retrain-on-landed.yaml").read_text()
    for old, new in (
        ("enabled: false", "enabled: true"),
        ("    parameters:\n", "    parameters:\n      module: nearest\n      image: false\n"),
        ('"s3.*"', '"s3.lake-*/labelled/*"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (own.home / "automations").mkdir()
    (own.home / "automations" / "retrain-on-landed.yaml").write_text(text)
    own.run("up")
    bucket, key = f"lake-{uuid.uuid4().hex[:8]}", "labelled/a b.zip"
    archive = shutil.make_archive(str(tmp_path / "digits"), "zip", digits)
    versions = dropped(bucket, key, Path(archive), times=2)
    deployment = ask(own, "GET", "/deployments/name/cycle/local")["id"]
    volvox.landed("another", key, versions[0])
    for version in (versions[0], versions[0], versions[1]):  # told twice of one version
        volvox.landed(bucket, key, version, name="lake")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        found = runs(own, deployment)
        if len(found) >= 2 and all(run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") for run in found):
            break
        time.sleep(1)
    time.sleep(5)  # for one too many
    found = runs(own, deployment)
    assert {run["state_type"] for run in found} == {"COMPLETED"}, [run["state"]["message"] for run in found]
    told = sorted((run["parameters"]["source"], run["parameters"]["name"]) for run in found)
    assert told == sorted((f"s3://{bucket}/{key}?versionId={version}", "lake") for version in versions)
    pages = [page(own, run) for run in found]
    assert sum("New: data, training" in text for text in pages) == 1, "the same bytes are the same data"


def dropped(bucket: str, key: str, file: Path, times: int) -> list[str]:
    """Put a file into a bucket that keeps versions; their ids."""
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return [client.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())["VersionId"] for _ in range(times)]
