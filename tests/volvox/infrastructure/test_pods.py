"""Pods and Jobs as the API describes them, in all the ways that they fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from volvox.infrastructure.kubernetes import KubernetesEngine, read_job
from volvox.infrastructure.pods import quantity, read_pod, would_fit

LABELS = {"prefect.io/flow-run-id": "r", "prefect.io/work-pool-id": "p", "job-name": "happy-pig-x"}


def pod(name: str = "one", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    limits = {"memory": "512Mi", "cpu": "500m"}
    return {
        "metadata": {"name": name, "uid": name, "labels": LABELS, "creationTimestamp": "2030-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "prefect-job", "resources": {"limits": limits}}], **spec},
        "status": status or {"phase": "Pending"},
    }


def with_container(phase: str, **state: Any) -> dict[str, Any]:
    return {"phase": phase, "containerStatuses": [{"name": "prefect-job", "image": "r.io/x:1", "state": state}]}


def job(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    meta = {"name": "happy-pig-x", "namespace": "n", "labels": LABELS, "creationTimestamp": "2030-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": spec, "status": status or {}}


def ended(code: int, reason: str = "Error", at: str = "2030-01-01T00:00:09Z", name: str = "one") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": at}}
    return pod(name, with_container("Failed" if code else "Succeeded", **state))


def test_a_running_pod_runs() -> None:
    found = read_pod(pod(status=with_container("Running", running={"startedAt": "2030-01-01T00:00:02Z"})))
    assert (found.state, found.run_id, found.pool_id, found.job) == ("running", "r", "p", "happy-pig-x")
    assert found.live and found.started is not None


def test_the_end_of_a_pod_and_its_memory() -> None:
    killed = read_pod(ended(137, "OOMKilled"))
    assert (killed.state, killed.reason, killed.exit_code) == ("ended", "out_of_memory", 137)
    assert "the pod had 512 MB" in killed.message
    assert (read_pod(ended(0, "Completed")).state, read_pod(ended(0, "Completed")).reason) == ("ended", "")
    assert "exit code 3" in read_pod(ended(3)).message


@pytest.mark.parametrize(
    ("waiting", "message", "reason"),
    [
        ("ErrImagePull", "manifest unknown", "image_not_found"),
        ("InvalidImageName", "couldn't parse image reference", "image_not_found"),
        ("ErrImagePull", "unauthorized", "image_refused"),
        ("ErrImageNeverPull", "Container image is not present with pull policy of Never", "image_refused"),
        ("CreateContainerConfigError", 'secret "s" not found', "error"),
    ],
)
def test_what_will_never_start_is_stuck(waiting: str, message: str, reason: str) -> None:
    found = read_pod(pod(status=with_container("Pending", waiting={"reason": waiting, "message": message})))
    assert (found.state, found.reason) == ("stuck", reason)
    assert message in found.message


def test_a_pod_that_fetches_its_image_starts() -> None:
    status = with_container("Pending", waiting={"reason": "ContainerCreating"})
    assert read_pod(pod(status=status, nodeName="n1")).state == "starting"


def test_an_evicted_pod_was_taken_away() -> None:
    status = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    found = read_pod(pod(status=status))
    assert (found.state, found.reason) == ("ended", "gone")
    assert "low on resource: memory" in found.message


def test_the_scheduler_is_quoted() -> None:
    said = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    found = read_pod(pod(status={"phase": "Pending", "conditions": [condition]}))
    assert (found.state, found.message, found.unschedulable) == ("waiting", said, True)


def test_whether_an_empty_node_would_take_it() -> None:
    allocatable = {"cpu": "2", "memory": "4Gi"}
    node = {"metadata": {"labels": {"disk": "ssd"}}, "spec": {}, "status": {"allocatable": allocatable}}
    assert would_fit(pod(), [node])
    assert not would_fit(pod(nodeSelector={"disk": "hdd"}), [node])
    assert not would_fit(pod(), [node | {"spec": {"unschedulable": True}}])
    gpu = pod()
    gpu["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "1"
    assert not would_fit(gpu, [node])
    assert not would_fit(pod(), [])
    assert would_fit(gpu, [node | {"status": {}}]), "one that just joined has not said yet what it holds"


@pytest.mark.parametrize(
    ("written", "value"), [("500m", 0.5), ("2", 2), ("512Mi", 2**29), ("1e3", 1000), ("1G", 1e9), (3, 3)]
)
def test_quantities(written: str, value: float) -> None:
    assert quantity(written) == pytest.approx(value)


def test_a_job_is_what_its_newest_pod_is() -> None:
    newer = pod("two", with_container("Running", running={}))
    newer["metadata"]["creationTimestamp"] = "2030-01-01T00:01:00Z"
    found = read_job(job(), [read_pod(newer), read_pod(ended(1))])
    assert (found.identifier, found.state, found.pool_id) == ("n:happy-pig-x", "running", "p")
    assert read_job(job(), []).state == "waiting"


def test_of_several_pods_the_first_that_failed_tells_why() -> None:
    first, second = ended(137, "OOMKilled"), ended(143, at="2030-01-01T00:00:20Z", name="two")
    failed = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    found = read_job(job(failed, parallelism=2), [read_pod(second), read_pod(first)])
    assert (found.state, found.reason) == ("ended", "out_of_memory")
    running = pod("three", with_container("Running", running={}))
    assert read_job(job(parallelism=2), [read_pod(running), read_pod(ended(0, "Completed"))]).state == "running"


def test_a_job_tells_its_end_without_pods() -> None:
    done = {"type": "Complete", "status": "True", "lastTransitionTime": "2030-01-01T00:00:05Z"}
    assert (read_job(job({"conditions": [done]}), []).state, read_job(job({"conditions": [done]}), []).exit_code) == (
        "ended", 0,
    )  # fmt: skip
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "was active too long"}
    found = read_job(job({"conditions": [failed]}), [read_pod(pod(status=with_container("Running", running={})))])
    assert (found.state, found.reason) == ("ended", "error")
    assert "was active too long" in found.message


def test_a_job_that_failed_after_its_pods_were_listed_is_told_by_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = KubernetesEngine("n", config={}), list[str]()
    before = pod(status=with_container("Running", running={"startedAt": "2030-01-01T00:00:02Z"}))

    async def listed(path: str, selector: str = "") -> list[dict[str, Any]]:
        asked.append(path.rpartition("/")[2])
        if path.endswith("/jobs"):
            told = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "no more"}
            return [job({"conditions": [told]})]
        return [before] if asked.count("pods") == 1 else [ended(137, "OOMKilled"), ended(0, name="another's")]

    monkeypatch.setattr(engine, "_list", listed)
    (found,) = asyncio.run(engine.jobs())
    assert (found.reason, asked.count("pods")) == ("out_of_memory", 2)
