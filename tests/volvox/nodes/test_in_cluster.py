"""Nodes of a real cluster: cordoned and drained before they are stopped, and never while something is at work there.

The nodes are made-up ones of the real API, which no kubelet stands behind, so that nobody else's work is touched.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.engines import engine_environment
from tests.volvox.nodes.conftest import Time
from tests.volvox.nodes.made_up import MadeUp
from volvox.nodes.cloud import open_cloud
from volvox.nodes.group import read_groups
from volvox.nodes.in_cluster import CORDONED
from volvox.nodes.keeping import Keeper, Need
from volvox.settings import Home

pytestmark = pytest.mark.k8s


def kubectl(*words: str, given: str = "") -> str:
    return subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True, check=True).stdout


@dataclass
class Bench:
    """Two made-up nodes that are ready, a namespace, and what keeps the group."""

    names: list[str]
    space: str
    keeper: Keeper
    cloud: MadeUp
    clock: Time

    def joins(self, name: str, ready: str = "True") -> None:
        """The node belongs to the cluster from now on; tainted, so that nothing of others comes to it."""
        if not json.loads(kubectl("get", "nodes", "-o", "json", "--field-selector", f"metadata.name={name}"))["items"]:
            taint = {"key": self.space, "effect": "NoSchedule"}
            meta = {"name": name, "labels": {"kubernetes.io/hostname": name}}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"taints": [taint]}}
            kubectl("create", "-f", "-", given=json.dumps(node))
        condition = {"type": "Ready", "status": ready, "reason": "KubeletReady", "message": "it is made up"}
        status = {"status": {"conditions": [condition], "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "20"}}}
        self.patch(f"/api/v1/nodes/{name}/status", status)

    def patch(self, path: str, body: dict[str, Any]) -> None:
        async def patched() -> None:
            await self.keeper.cloud._cluster.merge(path, body)  # pyright: ignore[reportAttributeAccessIssue]
            await self.keeper.cloud._cluster.close()  # pyright: ignore[reportAttributeAccessIssue]

        asyncio.run(patched())

    def pod(self, name: str, node: str, **labels: str) -> None:
        """A pod that nothing makes again, bound to a node."""
        container = {"name": "c", "image": "none", "imagePullPolicy": "Never"}
        spec = {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]}
        meta = {"name": name, "namespace": self.space, "labels": labels}
        kubectl(
            "create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        )

    def replicas(self, name: str, node: str) -> str:
        """A ReplicaSet whose one pod runs on a node, and is never to be missing; the pod's name."""
        carried, nothing = {"app": name}, {"name": "c", "image": "none", "imagePullPolicy": "Never"}
        pod = {
            "nodeSelector": {"kubernetes.io/hostname": node}, "containers": [nothing],
            "tolerations": [{"key": self.space, "operator": "Exists"}], "terminationGracePeriodSeconds": 0,
        }  # fmt: skip
        template = {"metadata": {"labels": carried}, "spec": pod}
        spec = {"replicas": 1, "selector": {"matchLabels": carried}, "template": template}
        meta = {"name": name, "namespace": self.space}
        versions = kubectl("api-versions").split()
        budget = {"minAvailable": 1, "selector": {"matchLabels": carried}}
        policy = "policy/v1" if "policy/v1" in versions else "policy/v1beta1"
        for one in (
            {"apiVersion": policy, "kind": "PodDisruptionBudget", "metadata": meta, "spec": budget},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta, "spec": spec},
        ):
            kubectl("create", "-f", "-", given=json.dumps(one))
        path, deadline = f"/api/v1/namespaces/{self.space}/pods", time.monotonic() + 60
        while not (there := self.on(node)):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ready = {"type": "Ready", "status": "True"}
        self.patch(f"{path}/{there[0]}/status", {"status": {"phase": "Running", "conditions": [ready]}})
        return there[0]

    def on(self, node: str) -> list[str]:
        """The pods of the namespace that are on a node."""
        pods = json.loads(kubectl("get", "pods", "-n", self.space, "-o", "json"))["items"]
        return [pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") == node]

    def look(self, need: Need | None = None) -> dict[str, str]:
        async def looked() -> None:
            await self.keeper.once(need or Need())
            await self.keeper.cloud.close()

        asyncio.run(looked())
        return {node.name: node.state for node in self.keeper.ledger.nodes}

    def unschedulable(self, name: str) -> bool:
        told = json.loads(kubectl("get", "node", name, "-o", "json"))
        cordoned = bool(told["spec"].get("unschedulable"))
        assert (CORDONED in (told["metadata"].get("annotations") or {})) == cordoned
        return cordoned


@pytest.fixture
def bench(home: Home, cloud: MadeUp, clock: Time, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for name, value in engine_environment(["docker", "k8s"]).items():
        monkeypatch.setenv(name, value)
    space = f"volvox-nodes-{uuid.uuid4().hex[:8]}"
    names = [f"{space}-a", f"{space}-b"]
    kubectl("create", "namespace", space)
    text = cloud.file(runtime="kubernetes", names=names, idle_seconds=60, slots=2)
    home.folder("nodes").joinpath("a.yaml").write_text(text)
    group = read_groups(home)["a"]
    try:
        yield Bench(names, space, Keeper(home, group, open_cloud(group), now=clock), cloud, clock)
    finally:
        subprocess.run(["kubectl", "delete", "node", *names, "--ignore-not-found", "--wait=false"], check=False)
        for kind in ("replicasets", "pods"):
            words = ["kubectl", "delete", kind, "--all", "-n", space, "--force", "--grace-period=0", "--wait=false"]
            subprocess.run(words, check=False, stderr=subprocess.DEVNULL)
        kubectl("delete", "namespace", space, "--wait=false")


def on(bench: Bench, *names: str) -> None:
    """These nodes are on, and nothing was on them for a minute."""
    many = Need(30, 0, 100.0, most_instances=100)
    bench.look(many)
    bench.cloud.comes(*bench.names)
    for name in names:
        bench.joins(name)


def test_a_node_boots_until_the_cluster_calls_it_ready(bench: Bench) -> None:
    one, other = bench.names
    many = Need(30, 0, 100.0, most_instances=100)
    assert bench.look(many) == {one: "booting"} | {other: "booting"}
    bench.cloud.comes(one, other)
    assert bench.look(many) == {one: "booting", other: "booting"}
    assert bench.keeper.ledger.nodes[0].why == "it has not joined the cluster"
    bench.joins(one)
    bench.joins(other, "False")
    assert bench.look(many) == {one: "on", other: "booting"}
    assert bench.keeper.ledger.nodes[1].why == "the cluster calls it not ready: it is made up"


def test_an_empty_node_is_cordoned_and_stopped_and_may_be_used_when_it_comes_again(bench: Bench) -> None:
    one, other = bench.names
    on(bench, one, other)
    bench.pod("ours", one, **{"app.kubernetes.io/managed-by": "volvox"})
    assert bench.look() == {one: "on", other: "on"}
    assert [node.at_work for node in bench.keeper.ledger.nodes] == [1, 0]
    bench.clock.now += 60
    bench.joins(one)  # as its kubelet would say again and again
    bench.joins(other)
    assert bench.look() == {one: "on", other: "stopping"}
    assert bench.cloud.asked()[2:] == [f"stop {other}"]
    assert bench.unschedulable(other)
    assert not bench.unschedulable(one)
    assert bench.look() == {one: "on"}
    bench.look(Need(30, 0, 100.0, most_instances=100))
    bench.cloud.comes(other)
    bench.joins(other)
    assert bench.look(Need(30, 0, 100.0, most_instances=100)) == {one: "on", other: "on"}
    assert not bench.unschedulable(other)


def test_a_pod_that_came_as_the_node_was_cordoned_keeps_it(bench: Bench) -> None:
    one, _ = bench.names
    on(bench, one)
    bench.look()
    bench.clock.now += 60
    bench.joins(one)
    cluster: Any = bench.keeper.cloud._cluster  # pyright: ignore[reportAttributeAccessIssue]
    merge = cluster.merge

    async def and_a_pod_comes(path: str, body: dict[str, Any]) -> Any:
        if body["spec"]["unschedulable"]:
            bench.pod("late", one)
        return await merge(path, body)

    cluster.merge = and_a_pod_comes
    assert bench.look()[one] == "on"
    assert bench.keeper.ledger.nodes[0].why == f"it was to be stopped, and {bench.space}/late is at work on it"
    assert not bench.unschedulable(one)
    assert f"stop {one}" not in bench.cloud.asked()


def test_what_others_have_there_goes_elsewhere_first_if_it_may(bench: Bench) -> None:
    one, _ = bench.names
    on(bench, one)
    pod = bench.replicas("theirs", one)
    bench.look()
    assert bench.keeper.ledger.nodes[0].at_work == 0, "it can be anywhere"
    bench.clock.now += 60
    bench.joins(one)
    assert bench.look()[one] == "on"
    told = f"it was to be stopped, and the disruption budget of {bench.space}/{pod} does not let it go"
    assert bench.keeper.ledger.nodes[0].why == told
    assert not bench.unschedulable(one)
    kubectl("delete", "poddisruptionbudget", "theirs", "-n", bench.space)
    bench.look()
    bench.clock.now += 60
    bench.joins(one)
    assert bench.look()[one] == "stopping"
    assert bench.cloud.asked()[-1] == f"stop {one}"
    assert bench.on(one) == []


def test_a_group_of_a_cluster_that_does_not_answer_decides_nothing(home: Home, cloud: MadeUp, clock: Time) -> None:
    text = cloud.file(runtime="kubernetes", cluster_config=str(home.root / "none"))
    home.folder("nodes").joinpath("a.yaml").write_text(text)
    group = read_groups(home)["a"]
    subprocess.run([*cloud.words("start"), "a-1"], check=True)
    keeper = Keeper(home, group, open_cloud(group), now=clock)
    asyncio.run(keeper.once(Need(5, 0, 1.0, most_instances=9)))
    assert "no Kubernetes cluster is known here" in keeper.ledger.trouble
    assert cloud.asked() == ["start a-1"]
