"""Nodes of a Kubernetes cluster: pods tell what is at work on one, and one that leaves is drained first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from volvox.infrastructure.cluster import Cluster
from volvox.nodes.cloud import Cloud, Seen

CORDONED = "volvox/leaves"  # an annotation: who made it unschedulable, so that only that is undone
_RIGHTS = "; give the account the rights that docs/elasticity.md lists"
_SETTLE_SECONDS = 1.0  # the scheduler hears of a cordon a moment later, and may still give the node a pod
_DRAIN_SECONDS = 60.0
_LOOK_SECONDS = 0.5
_OURS = ("app.kubernetes.io/managed-by", "volvox")


class InCluster:
    """A cloud whose nodes belong to a cluster."""

    def __init__(self, cloud: Cloud, *, file: str = "", context: str = "", cluster: Cluster | None = None) -> None:
        """Nothing is asked yet.

        Args:
            cloud: Starts and stops the nodes.
            file: A kubeconfig, as `Cluster` takes it.
            context: Which of its contexts.
            cluster: Instead of these.
        """
        self._cloud, self.named, self.answers_seconds = cloud, cloud.named, cloud.answers_seconds
        self._cluster = cluster or Cluster(file=file, context=context or None, rights=_RIGHTS)

    async def nodes(self) -> list[Seen]:
        """As `Cloud.nodes`; one that has not joined the cluster boots still."""
        seen = await self._cloud.nodes()
        if not seen:
            return []
        async with self._cluster.errors("list nodes and pods", "all namespaces"):
            there = await self._cluster.items("/api/v1/nodes")
            running = [("fieldSelector", "status.phase!=Succeeded,status.phase!=Failed")]
            pods = (await self._cluster.get("/api/v1/pods", running))["items"]
        return [_merged(one, _of(there, one.id), pods) for one in seen]

    async def start(self, name: str, total: int) -> None:
        """As `Cloud.start`."""
        await self._cloud.start(name, total)

    async def leave(self, node: str) -> str:
        """As `Cloud.leave`: cordoned, looked at again, and others' pods that can go elsewhere are evicted."""
        async with self._cluster.errors("drain a node", f"node {node}"):
            if (name := await self._name(node)) is None:
                return await self._cloud.leave(node)
            await self._cluster.merge(_path(name), _mark(unschedulable=True))
            await asyncio.sleep(_SETTLE_SECONDS)
            if why := await self._emptied(name):
                return why
        return await self._cloud.leave(node)

    async def stay(self, node: str) -> None:
        """As `Cloud.stay`; one that somebody else has cordoned stays so."""
        async with self._cluster.errors("uncordon a node", f"node {node}"):
            name = await self._name(node)
            if name is None:
                return
            told = await self._cluster.find(_path(name))
            if told and CORDONED in (told["metadata"].get("annotations") or {}):
                await self._cluster.merge(_path(name), _mark(unschedulable=False))

    async def stop(self, node: str) -> None:
        """As `Cloud.stop`."""
        await self._cloud.stop(node)

    async def close(self) -> None:
        """As `Cloud.close`."""
        await self._cloud.close()
        await self._cluster.close()

    # -- inside --------------------------------------------------------------------------------------------------

    async def _name(self, node: str) -> str | None:
        found = _of(await self._cluster.items("/api/v1/nodes"), node)
        return found["metadata"]["name"] if found else None

    async def _emptied(self, name: str) -> str:
        """Evict what can go elsewhere; why that is not all, or empty."""
        deadline, asked = time.monotonic() + _DRAIN_SECONDS, set[str]()
        while pods := [pod for pod in await self._pods(name) if not _belongs(pod)]:
            if stay := [pod for pod in pods if at_work(pod)]:
                return f"{_names(stay)} {'is' if len(stay) == 1 else 'are'} at work on it"
            if time.monotonic() > deadline:
                return f"{_names(pods)} did not leave it within {_DRAIN_SECONDS:g} s"
            for pod in pods:
                if pod["metadata"]["uid"] in asked or "deletionTimestamp" in pod["metadata"]:
                    continue
                if why := await self._evicted(pod):
                    return why
                asked.add(pod["metadata"]["uid"])
            await asyncio.sleep(_LOOK_SECONDS)
        return ""

    async def _evicted(self, pod: dict[str, Any]) -> str:
        """Ask a pod to leave, as its disruption budget allows; why it may not, or empty."""
        from kubernetes_asyncio.client.exceptions import ApiException

        meta = pod["metadata"]
        version = "v1" if await self._cluster.find("/apis/policy/v1") is not None else "v1beta1"
        body = {
            "apiVersion": f"policy/{version}", "kind": "Eviction",
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        }  # fmt: skip
        try:
            await self._cluster.create(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction", body)
        except ApiException as error:
            if error.status == 404:
                return ""
            if error.status == 429:
                return f"the disruption budget of {_names([pod])} does not let it go"
            raise
        return ""

    async def _pods(self, node: str) -> list[dict[str, Any]]:
        query = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
        return (await self._cluster.get("/api/v1/pods", [("fieldSelector", query)]))["items"]


def at_work(pod: Mapping[str, Any]) -> bool:
    """Whether a pod keeps its node: one of ours, and any that nothing would make again elsewhere."""
    if _belongs(pod):
        return False
    if (pod["metadata"].get("labels") or {}).get(_OURS[0]) == _OURS[1]:
        return True
    return _controller(pod) not in ("ReplicaSet", "StatefulSet", "ReplicationController")


def _belongs(pod: Mapping[str, Any]) -> bool:
    """Whether it belongs to its node, and goes with it."""
    mirror = "kubernetes.io/config.mirror" in (pod["metadata"].get("annotations") or {})
    return mirror or _controller(pod) in ("DaemonSet", "Node")


def _controller(pod: Mapping[str, Any]) -> str:
    owners: Sequence[Mapping[str, Any]] = pod["metadata"].get("ownerReferences") or ()
    return next((str(one["kind"]) for one in owners if one.get("controller")), "")


def _of(nodes: list[dict[str, Any]], wanted: str) -> dict[str, Any] | None:
    """The cluster's node that a cloud calls so: by its name, or the end of its provider's id."""
    for node in nodes:
        if node["metadata"]["name"] == wanted:
            return node
        if str(node["spec"].get("providerID", "")).rpartition("/")[2] == wanted:
            return node
    return None


def _merged(seen: Seen, node: dict[str, Any] | None, pods: list[dict[str, Any]]) -> Seen:
    if seen.state in ("off", "failed"):
        return seen
    if node is None:
        return replace(seen, state="booting", at_work=0, why=seen.why or "it has not joined the cluster")
    name = node["metadata"]["name"]
    count = sum(pod["spec"].get("nodeName") == name and at_work(pod) for pod in pods)
    ready = next((one for one in node.get("status", {}).get("conditions") or () if one["type"] == "Ready"), {})
    if ready.get("status") != "True":
        said = ready.get("message") or ready.get("reason") or "nothing"
        return replace(seen, state="booting", at_work=count, why=f"the cluster calls it not ready: {said}")
    if seen.state == "booting":  # the cluster may call one ready still that was stopped a moment ago
        return replace(seen, at_work=count)
    foreign = node["spec"].get("unschedulable") and CORDONED not in (node["metadata"].get("annotations") or {})
    why = "somebody has cordoned it: nothing begins there" if foreign else seen.why
    return replace(seen, state="on", at_work=count, why=why)


def _mark(*, unschedulable: bool) -> dict[str, Any]:
    annotation = "cordoned by the dispatcher" if unschedulable else None
    return {"metadata": {"annotations": {CORDONED: annotation}}, "spec": {"unschedulable": unschedulable or None}}


def _path(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def _names(pods: list[dict[str, Any]]) -> str:
    told = [f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods]
    more = f" and {len(told) - 2} more" if len(told) > 2 else ""
    return ", ".join(told[:2]) + more
