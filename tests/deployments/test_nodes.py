"""A stage on several nodes of a real Kubernetes: its own job, and the pods beside it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import engine_environment
from tests.flows import nearest
from tests.flows.conftest import Installation, digits

__all__ = ["digits"]  # a fixture
pytestmark = [pytest.mark.cycle, pytest.mark.docker, pytest.mark.k8s, pytest.mark.soak]

METADATA = "metadata_version: 2.3.0\nresources: {training: {cpu: 0.25, memory_MB: 700}}\n"
# The last process of four fails where it is told to; the others would wait for ever.
FAILS = """
_together = train

def train(data, output, checkpoints, steps, seed, wrong):
    if seed in (13, 14):
        if seed == 13 and os.environ["RANK"] == "3":
            raise RuntimeError("the disk is on fire")
        time.sleep(600)
    return _together(data, output, checkpoints, steps, seed, wrong)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """An installation with a pool on the cluster, and an image of a module for it."""
    environment = engine_environment(["docker", "k8s"])
    nearest.install(tmp_path / "site", "together", nearest.TOGETHER + FAILS, METADATA)
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = {**environment, "PYTHONPATH": os.pathsep.join(paths), "DOCKER_HOST": "unix:///var/run/docker.sock"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = Installation(tmp_path / "home", told)
    (tmp_path / "home" / "pools").mkdir(parents=True)
    (tmp_path / "home" / "pools" / "cluster.yaml").write_text(
        "{type: kubernetes, offers: {cpu: 1, memory_mb: 1500}, job_variables: {host_network: true}}"
    )
    made.run("images", "--training", "--module", "together", timeout=900)
    made.run("up")
    yield made
    made.run("down", check=False)


OURS = "app.kubernetes.io/managed-by=volvox"
BESIDE_A_JOB = re.compile(r"volvox-[0-9a-f]{12}(-\d+)?")  # functions of other tests have pods on the cluster, too


def listed(kind: str) -> list[dict[str, Any]]:
    asked = ["kubectl", "get", kind, "-l", OURS, "-o", "json"]
    found = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)["items"]
    return [one for one in found if BESIDE_A_JOB.fullmatch(one["metadata"]["name"])]


@contextlib.contextmanager
def watching() -> Iterator[dict[str, dict[str, Any]]]:
    """What was beside the job while the block ran, by kind, as it was last seen."""
    seen: dict[str, dict[str, Any]] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.3):
            for kind in ("pods", "secrets"):
                for one in listed(kind):
                    seen[kind] = one

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_a_stage_trains_on_two_nodes_and_what_fails_on_one_ends_both(cluster: Installation, digits: Path) -> None:
    asked = ("cycle", str(digits), "--name", "nodes", "--module", "together", "--no-image", "--on", "training=cluster")
    asked = (*asked, "--processes", "2", "--nodes", "2")
    with watching() as seen:
        made = cluster.json(*asked)
    assert made["model"]["metrics"]["world"] == made["model"]["processes"] == 4
    assert made["model"]["place"] == "cluster"
    (owner,), (same,) = (seen[kind]["metadata"]["ownerReferences"] for kind in ("pods", "secrets"))
    assert owner["kind"] == "Job"
    assert owner["uid"] == same["uid"]
    assert seen["pods"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "700Mi"
    gone()
    began = time.monotonic()
    failed = cluster.run(*asked, "--seed", "13", check=False)
    assert failed.returncode
    assert "rank 3 on node 1 ended with exit code 1: RuntimeError: the disk is on fire" in failed.stderr
    assert time.monotonic() - began < 400, "nobody waited for the processes that would have gone on"
    gone()


def test_ctrl_c_ends_the_pods_of_all_nodes(cluster: Installation, digits: Path) -> None:
    asked = ("cycle", str(digits), "--name", "nodes", "--module", "together", "--no-image", "--on", "training=cluster")
    asked = (*asked, "--processes", "2", "--nodes", "2", "--seed", "14")
    job: list[str] = []

    def both_run() -> None:
        deadline = time.monotonic() + 200
        while not (pods := [pod for pod in listed("pods") if pod["status"].get("phase") == "Running"]):
            assert time.monotonic() < deadline, listed("pods")
            time.sleep(0.5)
        (owner,) = pods[0]["metadata"]["ownerReferences"]
        job.append(owner["name"])
        assert len(of_job(job[0])) == 2, "the job and the pod that it has itself"

    assert cluster.run_until("on pool cluster: run", *asked, number=signal.SIGINT, then=both_run) == 130
    gone()
    deadline = time.monotonic() + 60
    while left := of_job(job[0]):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def of_job(name: str) -> list[str]:
    """A job and its own pods, as far as they are there."""
    found: list[str] = []
    for asked in (["jobs", "--field-selector", f"metadata.name={name}"], ["pods", "-l", f"job-name={name}"]):
        done = subprocess.run(
            ["kubectl", "get", *asked, "-o", "name"], check=True, capture_output=True, text=True, timeout=60
        )
        found += done.stdout.split()
    return found


def gone() -> None:
    """What the job owned goes with it."""
    deadline = time.monotonic() + 60
    while listed("pods") or listed("secrets"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
