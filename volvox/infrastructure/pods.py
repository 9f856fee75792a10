"""What a Kubernetes pod's status means for the flow run in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from volvox.infrastructure import jobs as told

_RUN_LABEL = "prefect.io/flow-run-id"
_POOL_LABEL = "prefect.io/work-pool-id"
_CONTAINER = "prefect-job"  # of Prefect's template; where it has another name, the first one counts
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_CANNOT_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff")
_FACTORS = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of a Job; the fields as in `volvox.infrastructure.jobs.Job`.

    Attributes:
        job: Name of the Job that made it.
        image: Of its container, where that could not be fetched.
        unschedulable: Whether the scheduler finds no place for it at present.
        since: Since when it waits.
    """

    name: str
    uid: str
    job: str
    run_id: str
    pool_id: str
    state: told.State
    exit_code: int | None = None
    reason: told.Reason = ""
    message: str = ""
    output: str = ""
    image: str = ""
    unschedulable: bool = False
    since: datetime | None = None
    created: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def live(self) -> bool:
        """Whether it runs, or may still come to run."""
        return self.state in ("waiting", "starting", "running")

    def with_(self, **changes: Any) -> Pod:
        """The same pod, known better."""
        return replace(self, **changes)


def read_pod(pod: dict[str, Any]) -> Pod:
    """A pod as the API gives it."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    labels = meta.get("labels", {})
    facts: dict[str, Any] = {
        "name": meta["name"],
        "uid": meta["uid"],
        "job": labels.get("job-name", ""),
        "run_id": labels.get(_RUN_LABEL, ""),
        "pool_id": labels.get(_POOL_LABEL, ""),
        "created": _time(meta.get("creationTimestamp")),
    }
    phase = status.get("phase", "Pending")
    container = _container(status)
    terminated = container.get("state", {}).get("terminated")
    running = container.get("state", {}).get("running")
    waiting = container.get("state", {}).get("waiting") or {}
    if phase == "Failed" and status.get("reason") and (terminated or {}).get("reason") != "OOMKilled":
        return Pod(**facts, state="ended", exit_code=(terminated or {}).get("exitCode"), **_taken(status))
    if terminated:
        return Pod(**facts, **_terminated(terminated, _limit(spec, container.get("name", ""))))
    if phase == "Succeeded":
        return Pod(**facts, state="ended", exit_code=0)
    if phase == "Failed":
        return Pod(**facts, state="ended", **_taken(status))
    if running is not None:
        return Pod(**facts, state="running", started=_time(running.get("startedAt")))
    if waiting.get("reason") in _NO_IMAGE:
        image, said = container.get("image", "?"), f"{waiting['reason']}: {waiting.get('message', '')}"
        reason, message = told.image_trouble(image, said, "kubernetes")
        return Pod(**facts, state="stuck", reason=reason, message=message, image=image)
    if waiting.get("reason") in _CANNOT_START:
        said = waiting.get("message") or waiting["reason"]
        return Pod(**facts, state="stuck", reason="error", message=f"the pod cannot be started: {said}")
    placed = next((c for c in status.get("conditions") or [] if c["type"] == "PodScheduled"), {})
    if placed.get("reason") == "Unschedulable":
        since = _time(placed.get("lastTransitionTime")) or facts["created"]
        return Pod(**facts, state="waiting", message=placed.get("message", ""), unschedulable=True, since=since)
    return Pod(**facts, state="starting" if spec.get("nodeName") else "waiting")


def would_fit(pod: dict[str, Any], nodes: list[dict[str, Any]]) -> bool:
    """Whether some node could take the pod if nothing else ran on it; one that has not said what it holds may."""
    wanted: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources", {})
        for name, amount in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            wanted[name] = wanted.get(name, 0.0) + quantity(amount)
    selector = pod["spec"].get("nodeSelector") or {}

    def holds(node: dict[str, Any]) -> bool:
        # A node that just joined has no status until its kubelet tells it.
        offered: dict[str, str] | None = (node.get("status") or {}).get("allocatable")
        return offered is None or all(quantity(offered.get(name, "0")) >= amount for name, amount in wanted.items())

    return any(
        selector.items() <= (node["metadata"].get("labels") or {}).items()
        and not (node.get("spec") or {}).get("unschedulable", False)
        and holds(node)
        for node in nodes
    )


def quantity(written: str | float) -> float:
    """A quantity as Kubernetes writes it: `500m`, `2`, `512Mi`, `1e3`."""
    text = str(written).strip()
    for suffix in sorted(_FACTORS, key=len, reverse=True):
        if suffix and text.endswith(suffix):
            return float(text[: -len(suffix)]) * _FACTORS[suffix]
    return float(text)


def _terminated(terminated: dict[str, Any], limit: float | None) -> dict[str, Any]:
    code = terminated.get("exitCode")
    facts: dict[str, Any] = {
        "state": "ended",
        "exit_code": code,
        "started": _time(terminated.get("startedAt")),
        "ended": _time(terminated.get("finishedAt")),
    }
    if terminated.get("reason") == "OOMKilled":
        return facts | {"reason": "out_of_memory", "message": told.out_of_memory(limit, "pod")}
    if terminated.get("reason") in ("ContainerCannotRun", "StartError"):
        said = terminated.get("message", "no more is said")
        return facts | {"reason": "error", "message": f"the pod could not be started: {said}"}
    if code:
        return facts | {"reason": "error", "message": told.ended_badly(code, "pod")}
    return facts


def _taken(status: dict[str, Any]) -> dict[str, Any]:
    """Why a pod failed as a whole: it was evicted, its node was lost, its time was over."""
    said = ": ".join(filter(None, [status.get("reason"), status.get("message")])) or "no more is said"
    if status.get("reason") == "DeadlineExceeded":
        return {"reason": "error", "message": f"the cluster ended the pod: {said}"}
    return {"reason": "gone", "message": f"the cluster took the pod away: {said}"}


def _container(status: dict[str, Any]) -> dict[str, Any]:
    found = status.get("containerStatuses") or status.get("initContainerStatuses") or []
    return next((one for one in found if one.get("name") == _CONTAINER), found[0] if found else {})


def _limit(spec: dict[str, Any], name: str) -> float | None:
    for container in spec["containers"]:
        if container["name"] == name and (limit := (container.get("resources", {}).get("limits") or {}).get("memory")):
            return quantity(limit)
    return None


def _time(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None
