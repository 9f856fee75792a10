from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.infrastructure.engines import IMAGE, eventually
from volvox.errors import Unavailable
from volvox.infrastructure.kubernetes import KubernetesEngine

Start = Callable[..., str]


def kubectl(*arguments: str, given: str = "") -> str:
    return subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def start(kubernetes: None) -> Iterator[Start]:
    """Make a Job as Prefect's worker does: `start(code, memory=..., image=..., gpus=...)` -> id of its run."""
    made: list[str] = []

    def start(code: str, *, image: str = IMAGE, memory: str = "128Mi", **resources: str) -> str:
        run = str(uuid.uuid4())
        labels = {"prefect.io/flow-run-id": run, "prefect.io/work-pool-id": "pool"}
        container = {
            "name": "prefect-job", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-uc", code],
            "resources": {"limits": {"memory": memory, **resources}, "requests": {"cpu": "10m"}},
        }  # fmt: skip
        pod = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
        meta = {"name": f"volvox-test-{run[:8]}", "labels": labels}
        manifest = {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"backoffLimit": 0, "template": pod}
        }  # fmt: skip
        kubectl("apply", "-f", "-", given=json.dumps(manifest))
        made.append(run)
        return run

    yield start
    for run in made:
        kubectl(
            "delete", "job,pod", "-l", f"prefect.io/flow-run-id={run}", "--force", "--grace-period=0", "--wait=false"
        )


def with_engine(use: Callable[[KubernetesEngine], Any], **options: Any) -> Any:
    async def using() -> Any:
        engine = KubernetesEngine(**options)
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(using())


def left(run: str) -> str:
    return kubectl("get", "job,pod", "-l", f"prefect.io/flow-run-id={run}", "-o", "name")


@pytest.mark.k8s
def test_a_job_is_seen_and_ended_and_no_pod_is_left(start: Start) -> None:
    run = start("import time; time.sleep(600)")

    async def use(engine: KubernetesEngine) -> float:
        job = await eventually(engine, run, lambda job: job.state == "running")
        assert (job.identifier, job.pool_id) == (f"default:volvox-test-{run[:8]}", "pool")
        assert engine.covers(job.identifier)
        began = time.monotonic()
        await engine.end(job, 2)
        return time.monotonic() - began

    assert with_engine(use) < 10
    assert left(run) == ""


@pytest.mark.k8s
def test_the_cluster_tells_memory_and_the_last_lines(start: Start) -> None:
    hungry = start("x = bytearray(10**9)", memory="32Mi")
    wrong = start("import nothing_of_that_name")

    async def use(engine: KubernetesEngine) -> None:
        killed = await eventually(engine, hungry, lambda job: not job.live)
        assert (killed.reason, "had 32 MB" in killed.message) == ("out_of_memory", True), killed
        failed = await eventually(engine, wrong, lambda job: not job.live)
        assert (failed.reason, failed.exit_code) == ("error", 1)
        assert "No module named 'nothing_of_that_name'" in failed.message

    with_engine(use)


@pytest.mark.k8s
def test_an_image_that_does_not_exist_is_told_within_seconds(start: Start) -> None:
    began = time.monotonic()
    run = start("", image="127.0.0.1:5000/nobody/nothing:1")

    async def use(engine: KubernetesEngine) -> None:
        job = await eventually(engine, run, lambda job: not job.live)
        assert (job.state, job.reason) == ("stuck", "image_not_found"), job
        assert "127.0.0.1:5000/nobody/nothing:1 was not found" in job.message
        assert time.monotonic() - began < 10
        await asyncio.sleep(12)  # by then the status only says that it backs off
        job = await eventually(engine, run, lambda job: not job.live)
        assert job.reason == "image_not_found", job
        await engine.end(job, 0)

    with_engine(use)
    assert left(run) == ""


@pytest.mark.k8s
def test_a_pod_that_no_node_can_take_is_told_in_the_schedulers_words(start: Start) -> None:
    run = start("", **{"nvidia.com/gpu": "1"})

    async def use(engine: KubernetesEngine) -> None:
        waits = await eventually(engine, run, lambda job: bool(job.message))
        assert (waits.state, "nvidia.com/gpu" in waits.message) == ("waiting", True), waits
        job = await eventually(engine, run, lambda job: not job.live)
        assert (job.reason, "Insufficient nvidia.com/gpu" in job.message) == ("unschedulable", True), job
        await engine.end(job, 0)

    with_engine(use, unschedulable_seconds=8)
    assert left(run) == ""


@pytest.mark.k8s
def test_a_deleted_job_is_not_shown(start: Start) -> None:
    run = start("import time; time.sleep(600)")

    async def use(engine: KubernetesEngine) -> None:
        await eventually(engine, run, lambda job: job.state == "running")
        kubectl("delete", "job", f"volvox-test-{run[:8]}", "--grace-period=1")
        kubectl("delete", "pod", "-l", f"prefect.io/flow-run-id={run}", "--grace-period=0", "--force")
        assert all(job.run_id != run for job in await engine.jobs())

    with_engine(use)


def test_a_cluster_that_does_not_answer_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "c", "user": {"token": "hush"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }  # fmt: skip
    with pytest.raises(Unavailable, match="did not list jobs") as error:
        with_engine(lambda engine: engine.jobs(), config=config)
    assert "hush" not in str(error.value)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert "KUBECONFIG" in with_engine(lambda engine: engine.why_not())
