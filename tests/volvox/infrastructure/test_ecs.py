from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.volvox.infrastructure.engines import IMAGE, eventually
from volvox.errors import Unavailable
from volvox.infrastructure.ecs import EcsEngine, read_task
from volvox.infrastructure.jobs import Job

TAGS = [{"key": "prefect.io/flow-run-id", "value": "r"}, {"key": "prefect.io/work-pool-id", "value": "p"}]
ARN = "arn:aws:ecs:us-east-1:1:task/c/abc"


def task(status: str = "STOPPED", **rest: Any) -> dict[str, Any]:
    return {"taskArn": ARN, "clusterArn": "arn:c", "lastStatus": status, "tags": TAGS, **rest}


def read(status: str = "STOPPED", **rest: Any) -> Job:
    job = read_task(task(status, **rest), "c")
    assert job is not None
    return job


def test_the_states_of_a_task() -> None:
    states = {"PROVISIONING": "waiting", "PENDING": "starting", "RUNNING": "running", "STOPPING": "running"}
    for status, state in states.items():
        assert read(status).state == state
    assert read("RUNNING").identifier == f"c::{ARN}"
    found = read_task(task("RUNNING"))
    assert found is not None and found.identifier == f"arn:c::{ARN}"
    assert read_task({**task(), "tags": []}) is None, "a task of something else"


@pytest.mark.parametrize(
    ("rest", "reason", "said"),
    [
        ({"containers": [{"name": "prefect", "exitCode": 0}], "stoppedReason": "Essential container in task exited"},
         "", ""),
        ({"containers": [{"name": "prefect", "exitCode": 137, "reason": "OutOfMemoryError: Container killed"}],
          "memory": "2048"}, "out_of_memory", "2048 MB"),
        ({"containers": [{"name": "prefect", "exitCode": 137}], "stoppedReason": "OutOfMemoryError: killed",
          "overrides": {"containerOverrides": [{"name": "prefect", "memory": 512}]}}, "out_of_memory", "512 MB"),
        ({"containers": [{"name": "prefect", "image": "x:1"}], "stopCode": "TaskFailedToStart",
          "stoppedReason": "CannotPullContainerError: pull image manifest: x:1: not found"}, "image_not_found", "x:1"),
        ({"containers": [{"name": "prefect", "image": "r.example.org/x:1"}], "stopCode": "TaskFailedToStart",
          "stoppedReason": "CannotPullContainerError: pull image manifest has been retried: failed to resolve ref "
          "r.example.org/x:1: unexpected status from HEAD request: 403 Forbidden"},
         "image_refused", "execution_role_arn"),
        ({"containers": [{"name": "prefect", "image": "r.example.org/x:1", "reason": "CannotStartContainerError: Head "
          '"https://r.example.org/v2/x/manifests/1": no basic auth credentials'}]}, "image_refused", "r.example.org"),
        ({"containers": [{"name": "prefect", "reason": "CannotStartContainerError: exec: permission denied"}]}, "error",
         "permission denied"),
        ({"containers": [], "stopCode": "TaskFailedToStart", "stoppedReason": "ResourceInitializationError: secret"},
         "error", "ResourceInitializationError"),
        ({"containers": [{"name": "prefect", "exitCode": 1}], "stopCode": "EssentialContainerExited"}, "error",
         "exit code 1"),
        ({"containers": [{"name": "prefect", "exitCode": 143}], "stopCode": "SpotInterruption",
          "stoppedReason": "Your Spot Task was interrupted."}, "gone", "Spot"),
    ],
)  # fmt: skip
def test_the_ends_of_a_task(rest: dict[str, Any], reason: str, said: str) -> None:
    found = read(**rest)
    assert (found.state, found.reason) == ("ended", reason)
    assert said in found.message


def test_whose_tasks_it_shows() -> None:
    named = EcsEngine("arn:aws:ecs:us-east-1:1:cluster/c")
    assert named.covers(f"c::{ARN}")
    assert not named.covers(f"d::{ARN}")
    assert EcsEngine().covers(f"arn:aws:ecs:us-east-1:1:cluster/default::{ARN}")
    assert not EcsEngine().covers("default:a-job")


# -- the engine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(aws: None) -> Iterator[str]:
    import boto3

    ecs, name = boto3.client("ecs"), f"volvox-test-{uuid.uuid4().hex[:8]}"
    ecs.create_cluster(clusterName=name)
    yield name
    for arn in ecs.list_tasks(cluster=name, desiredStatus="RUNNING")["taskArns"]:
        ecs.stop_task(cluster=name, task=arn)
    ecs.delete_cluster(cluster=name)


def started(cluster: str, code: str, image: str = IMAGE, memory: int = 256, tags: dict[str, str] | None = None) -> str:
    """Run a task of a run; return the run's id."""
    import boto3

    ecs, run = boto3.client("ecs"), str(uuid.uuid4())
    container = {"name": "prefect", "image": image, "command": ["python", "-c", code], "memory": memory}
    definition = ecs.register_task_definition(
        family=f"volvox-test-{run[:8]}", containerDefinitions=[container], memory=str(memory), cpu="256",
        requiresCompatibilities=["EC2"],
    )["taskDefinition"]["taskDefinitionArn"]  # fmt: skip
    told = {"prefect.io/flow-run-id": run, "prefect.io/work-pool-id": "pool", **(tags or {})}
    ecs.run_task(
        cluster=cluster, taskDefinition=definition, launchType="FARGATE",
        tags=[{"key": key, "value": value} for key, value in told.items()],
    )  # fmt: skip
    return run


@pytest.mark.aws
def test_a_task_is_seen_and_ended_and_its_definition_deregistered(cluster: str) -> None:
    import boto3

    run = started(cluster, "import time; time.sleep(600)", tags={"prefect.io/degregister-task-definition": "true"})

    async def use() -> None:
        engine = EcsEngine(cluster)
        job = await eventually(engine, run, lambda job: job.live)
        assert (job.pool_id, job.state in ("starting", "running")) == ("pool", True)
        await engine.end(job, 1)
        job = await eventually(engine, run, lambda job: not job.live)
        await engine.end(job, 1)  # a second time there is nothing to do
        await engine.close()

    asyncio.run(use())
    assert boto3.client("ecs").list_task_definitions(familyPrefix=f"volvox-test-{run[:8]}")["taskDefinitionArns"] == []


@pytest.mark.aws
def test_the_engine_tells_memory_and_image(cluster: str) -> None:
    hungry = started(cluster, "x = bytearray(10**9)", memory=64)
    nameless = started(cluster, "", image="127.0.0.1:5000/nobody/nothing:1")

    async def use() -> None:
        engine = EcsEngine(cluster)
        killed = await eventually(engine, hungry, lambda job: not job.live)
        assert (killed.reason, "64 MB" in killed.message) == ("out_of_memory", True), killed
        missing = await eventually(engine, nameless, lambda job: not job.live)
        assert (missing.reason, "nobody/nothing:1" in missing.message) == ("image_not_found", True), missing
        await engine.close()

    asyncio.run(use())


@pytest.mark.aws
def test_why_a_cluster_cannot_be_used(cluster: str) -> None:
    assert asyncio.run(EcsEngine(cluster).why_not()) == ""
    assert "'nobody'" in asyncio.run(EcsEngine("nobody").why_not())


def test_an_endpoint_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "hush-hush",
                        "AWS_SECRET_ACCESS_KEY": "hush-hush", "AWS_DEFAULT_REGION": "us-east-1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(Unavailable) as error:
        asyncio.run(EcsEngine("c").jobs())
    assert "hush" not in str(error.value)
