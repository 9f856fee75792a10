from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

PORTS = {f"VOLVOX_{name}_PORT": "0" for name in ("PREFECT", "MLFLOW", "WEB")}


def volvox(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    unset = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_WEB_URL", "VOLVOX_LOCAL_SERVICES")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, "-m", "volvox", *arguments], capture_output=True, text=True, timeout=300,
        env={**environment, **PORTS, "VOLVOX_HOME": str(home)},
    )  # fmt: skip


def test_status_and_down_of_a_home_that_never_ran_do_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = volvox(home, "status", "--json")
    assert done.returncode == 0
    assert {one["state"] for one in json.loads(done.stdout)["services"]} == {"stopped"}
    assert volvox(home, "down").stdout == "nothing was running\n"
    assert not home.exists()


def test_a_home_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = volvox(tmp_path / "file" / "home", "up")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: VOLVOX_HOME is {tmp_path}/file/home, which cannot be written")
    assert done.stderr.count("\n") == 1


@pytest.mark.cycle
def test_up_starts_everything_and_down_ends_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    try:
        done = volvox(home, "up", "--json")
        assert done.returncode == 0, done.stderr
        services = {one["name"]: one for one in json.loads(done.stdout)["services"]}
        assert {one["state"] for one in services.values()} == {"ready"}
        for name, path in (("prefect", "/"), ("mlflow", "/"), ("web", "/")):
            page = urllib.request.Request(services[name]["url"] + path, headers={"Accept": "text/html"})
            with urllib.request.urlopen(page, timeout=30) as answer:
                assert answer.status == 200
                assert "text/html" in answer.headers["content-type"]
        with urllib.request.urlopen(services["prefect"]["url"] + "/ui-settings", timeout=30) as answer:
            assert json.load(answer)["api_url"] == services["prefect"]["url"] + "/api"
        experiments = services["mlflow"]["url"] + "/api/2.0/mlflow/experiments/search?max_results=5"
        with urllib.request.urlopen(experiments, timeout=30) as answer:
            assert json.load(answer)["experiments"][0]["artifact_location"].startswith("mlflow-artifacts:")
        assert (home / "mlflow" / "mlflow.db").is_file()
        again = {one["name"]: one for one in json.loads(volvox(home, "up", "--json").stdout)["services"]}
        assert {name: one["pid"] for name, one in again.items()} == {name: one["pid"] for name, one in services.items()}
        assert volvox(home, "apply").stdout == "nothing to change\n"
    finally:
        ended = volvox(home, "down", "--json")
    assert set(json.loads(ended.stdout)["ended"]) == {"prefect", "mlflow", "web", "worker"}
    states = {one["state"] for one in json.loads(volvox(home, "status", "--json").stdout)["services"]}
    assert states == {"stopped"}
