"""How a container ended, from what AWS says of it."""

from __future__ import annotations

import pytest

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes.aws import batch_runtime, ecs_runtime, ecs_settings
from volvox.runtimes.aws.batch_objects import kind_of, needs_of
from volvox.runtimes.aws.jobs import Seen, how_it_ended
from volvox.runtimes.aws.limits import fargate_size


@pytest.mark.parametrize(
    ("seen", "kind", "said"),
    [
        (Seen("FAILED", True, True, "OutOfMemoryError: Container killed due to memory usage", 137), "memory", "memory"),
        (Seen("FAILED", True, True, "", 137), "memory", "memory"),
        (Seen("FAILED", True, True, "Job attempt duration exceeded timeout"), "timeout", "too long"),
        (Seen("FAILED", True, True, "CannotPullContainerError: no image x"), "failed", "no image x"),
        (Seen("FAILED", True, True, "Host EC2 (instance i-1) terminated."), "gone", "machine"),
        (Seen("GONE", True, True, "nobody knows it any more"), "gone", "nobody knows"),
        (Seen("FAILED", True, True, "Essential container in task exited", 2), "failed", "exit code 2"),
    ],
)
def test_a_container_that_left_no_reply_is_told_in_aws_own_words(seen: Seen, kind: str, said: str) -> None:
    found, reason = how_it_ended(seen)
    assert found == kind and said in reason


def test_a_job_that_waits_says_why() -> None:
    said = "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - the job needs more than the environment has"
    seen = batch_runtime.seen_of({"status": "RUNNABLE", "statusReason": said, "container": {}})
    assert (seen.state, seen.ended, seen.begun, seen.reason) == ("RUNNABLE", False, False, said)


def test_a_job_s_exit_code_and_reasons_are_read_wherever_batch_puts_them() -> None:
    seen = batch_runtime.seen_of({
        "status": "FAILED", "statusReason": "Essential container in task exited",
        "container": {"exitCode": 3, "reason": "it broke"},
    })  # fmt: skip
    assert (seen.ended, seen.failed, seen.exit_code) == (True, True, 3)
    assert seen.reason == "Essential container in task exited; it broke"
    seen = batch_runtime.seen_of(
        {"status": "FAILED", "attempts": [{"container": {"exitCode": 137, "reason": "OutOfMemoryError"}}]}
    )
    assert (seen.exit_code, seen.reason) == (137, "OutOfMemoryError")
    assert batch_runtime.seen_of({"status": "SUCCEEDED"}).failed is False


def test_a_task_s_end_is_read() -> None:
    running = {"lastStatus": "RUNNING", "containers": [{"lastStatus": "RUNNING"}]}
    assert ecs_runtime.seen_of(running).begun and not ecs_runtime.seen_of(running).ended
    done = {
        "lastStatus": "STOPPED",
        "stoppedReason": "Essential container in task exited",
        "containers": [{"exitCode": 0}],
    }
    assert (ecs_runtime.seen_of(done).ended, ecs_runtime.seen_of(done).failed) == (True, False)
    never = {
        "lastStatus": "STOPPED",
        "stopCode": "TaskFailedToStart",
        "containers": [{"reason": "CannotPullContainerError: x"}],
    }
    assert how_it_ended(ecs_runtime.seen_of(never))[0] == "failed"


@pytest.mark.parametrize(
    ("asked", "given"),
    [((1, 2048), (1, 2048)), ((0.1, 100), (0.25, 512)), ((1, 2049), (1, 3072)), ((1, 9000), (2, 9216)),
     ((3, 500), (4, 8192)), ((16, 120_000), (16, 122_880))],
)  # fmt: skip
def test_the_smallest_size_of_fargate_is_taken(asked: tuple, given: tuple) -> None:
    assert fargate_size(*asked) == given


def test_what_fargate_has_not_goes_to_machines_of_ec2() -> None:
    with pytest.raises(InvalidInput, match="EC2"):
        fargate_size(17, 100)

    def function(**more) -> Function:
        return Function(**{"name": "f", "image": "i", "script": "x", **more})

    assert kind_of(function()) == "FARGATE"
    assert kind_of(function(resources={"gpus": 1})) == kind_of(function(resources={"cpu": 32})) == "EC2"
    assert kind_of(function(origin="scar")) == "EC2"
    assert kind_of(function(settings={"batch": {"compute_resources": {"type": "SPOT"}}})) == "SPOT"
    assert needs_of(function(resources={"memory_mb": 512}, settings={"batch": {"vcpus": 4, "memory": 9000}})) == (
        4,
        9000,
    )


def test_ecs_refuses_what_needs_a_gpu_on_fargate(tmp_path) -> None:
    runtime = ecs_runtime.EcsRuntime(tmp_path, None)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="GPU"):
        runtime.refuse(Function(name="f", model="m", resources={"gpus": 1}))  # type: ignore[arg-type]
    runtime.refuse(
        Function(name="f", model="m", resources={"gpus": 1}, settings={"ecs": {"launch_type": "EC2"}})  # type: ignore[arg-type]
    )
    with pytest.raises(InvalidInput, match="MOON"):
        ecs_settings.launch_type(Function(name="f", model="m", settings={"ecs": {"launch_type": "moon"}}))
