"""What a pod's status means for whoever waits for it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from volvox.infrastructure.cluster import Cluster
from volvox.infrastructure.pods import read_pod, would_fit

_FITS_NO_NODE_SECONDS = 8.0  # a new node may be on its way: the cluster's autoscaler has told it by then


def pods_path(namespace: str, name: str = "") -> str:
    """Where the pods of a namespace are, or one of them."""
    return f"/api/v1/namespaces/{namespace}/pods" + (f"/{name}" if name else "")


def state_of(pod: dict[str, Any]) -> dict[str, Any]:
    """The state of its one container: `{"running": ...}`, `{"waiting": ...}`, `{"terminated": ...}` or nothing."""
    found = pod.get("status", {}).get("containerStatuses") or [{}]
    return found[0].get("state") or {}


def ended_before(pod: dict[str, Any]) -> dict[str, Any]:
    """How its container ended, this time or the time before; empty if it never did."""
    found = (pod.get("status", {}).get("containerStatuses") or [{}])[0]
    for state in (found.get("state") or {}, found.get("lastState") or {}):
        if "terminated" in state:
            return state["terminated"]
    return {}


def leaving(pod: dict[str, Any]) -> bool:
    """Whether it is being ended, or has ended."""
    return "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


async def no_start(cluster: Cluster, pod: dict[str, Any]) -> str:
    """Why it will not start; empty if it still may."""
    told = read_pod(pod)
    if told.state == "stuck":
        return told.message
    if told.unschedulable and told.since and time.time() - told.since.timestamp() > _FITS_NO_NODE_SECONDS:
        nodes = await _nodes(cluster)
        if nodes is not None and not would_fit(pod, nodes):
            return f"no node can take the pod: {told.message}; ask for less (resources), or add a node"
    return ""


def why_waiting(pod: dict[str, Any] | None) -> str:
    """What it waits for, as the end of a sentence."""
    if pod is None:
        return "there is no pod yet"
    told = read_pod(pod)
    if told.unschedulable:
        return f"no node has room for it: {told.message}"
    waiting = state_of(pod).get("waiting") or {}
    return str(waiting.get("reason") or f"its pod is {told.state}")


async def not_made(cluster: Cluster, namespace: str, kind: str, name: str) -> str:
    """What the cluster said when it could not make pods of an object, a quota for one; empty if it said nothing."""
    query = f"involvedObject.kind={kind},involvedObject.name={name},reason=FailedCreate"
    found = await cluster.get(f"/api/v1/namespaces/{namespace}/events", [("fieldSelector", query)])
    last = sorted(found["items"], key=lambda event: event.get("lastTimestamp") or "")
    return str(last[-1].get("message", "")) if last else ""


async def _nodes(cluster: Cluster) -> list[dict[str, Any]] | None:
    """The cluster's nodes; None if this account may not ask."""
    from kubernetes_asyncio.client.exceptions import ApiException

    try:
        return (await cluster.get("/api/v1/nodes"))["items"]
    except ApiException:
        return None


def seconds_between(earlier: str | None, later: str | None) -> float:
    """Between two times as the API writes them; 0 if one is missing."""
    if not earlier or not later:
        return 0.0
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
