"""Models on a made-up cluster: what is written to it and when, and what becomes of calls."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.runtimes.benches import NAME, Bench, outputs
from tests.volvox.runtimes.pods.made_up import MadeUp, _refusal
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable
from volvox.records import Image
from volvox.runtimes import Call, Runtime
from volvox.runtimes.kubernetes import KubernetesRuntime


class OnMadeUp(Bench):
    """The runtime on a made-up cluster."""

    name = "kubernetes"

    def __init__(self, folder: Path, cluster: MadeUp) -> None:
        self.cluster = cluster
        super().__init__(folder)
        for version in ("1", "2", "3"):
            image = Image(
                name=f"tiny:{version}", version="", context_object="", built=True, pushed=f"reg/tiny@{version}"
            )
            self.models.images[version] = image

    def made(self) -> Runtime:
        return KubernetesRuntime(self.folder / "runtime", self.models)

    def function(self, version: str = "1", **more: Any) -> Any:
        settings = {"cluster_config": str(self.cluster.config), **more.pop("settings", {})}
        return super().function(version, settings=settings, **more)

    @property
    def its(self) -> KubernetesRuntime:
        assert isinstance(self.runtime, KubernetesRuntime)
        return self.runtime


Test = Callable[[OnMadeUp, MadeUp], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Test], None]:
    """Run a coroutine function with the runtime and its cluster; afterwards nothing is left there."""

    def run(test: Test) -> None:
        async def with_cluster() -> None:
            async with MadeUp(tmp_path) as cluster:
                bench = OnMadeUp(tmp_path, cluster)
                try:
                    await test(bench, cluster)
                finally:
                    cluster.down, cluster.quota = False, ""
                    await bench.close()
                assert cluster.objects == {}

        asyncio.run(with_cluster())

    return run


def answered(call: Call) -> dict[str, Any]:
    ((_, text),) = outputs(call).items()
    return json.loads(text)["predictions"]


def test_deployed_it_answers_and_deployed_again_nothing_is_written(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function())
        call = bench.call()
        assert (await bench.invoke(call))[0].kind == "" and answered(call)["image"] == "reg/tiny@1"
        [deployment], [service] = cluster.all("deployments"), cluster.all("services")
        assert [line.split()[:2] for line in cluster.writes] == [["POST", "deployments"], ["POST", "services"]]
        assert deployment["spec"]["replicas"] == 1
        assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
        written = [*cluster.writes]
        await bench.deploy(bench.function())
        again = bench.made()
        await again.deploy(bench.function(), version=bench.function().version)
        assert (await again.invoke(NAME, [bench.call()]))[0].kind == ""
        await again.close()
        assert cluster.writes == written and len(cluster.pods()) == 1

    run(test)


def test_what_somebody_changed_is_told_and_mended_and_then_there_is_nothing_to_mend(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function(resources={"memory_mb": 300, "cpu": 0.5}))
        assert await bench.its.doubts(NAME) == []
        [deployment], [service] = cluster.all("deployments"), cluster.all("services")
        deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = "9Gi"
        service["spec"]["selector"] = {"app": "another"}
        before = len(cluster.writes)
        told = await bench.its.doubts(NAME)
        assert ["limits.memory of the deployment" in told[0], "spec.selector" in told[1], len(told)] == [True, True, 2]
        assert len(cluster.writes) == before
        assert await bench.its.repair(NAME) == told and await bench.its.repair(NAME) == []
        [deployment], [service] = cluster.all("deployments"), cluster.all("services")
        assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] == "300Mi"
        assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
        assert service["spec"]["clusterIP"] == "10.0.0.7" and deployment["spec"]["replicas"] == 1
        for key in [key for key in cluster.objects if key[0] in ("deployments", "services")]:
            del cluster.objects[key]
        assert [" is gone" in one for one in await bench.its.doubts(NAME)] == [True, True]
        function = bench.function(resources={"memory_mb": 300, "cpu": 0.5})
        await bench.runtime.deploy(function, version=function.version)
        assert await bench.its.doubts(NAME) == [] and (await bench.ask()).kind == ""

    run(test)


def test_what_the_cluster_writes_to_meanwhile_is_mended_all_the_same(run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function())
        cluster.all("deployments")[0]["spec"]["template"]["spec"]["containers"][0]["command"] = ["miner"]
        conflicts, answer = [1, 1], cluster._one

        def one(method: str, key: tuple[str, str, str], body: dict[str, Any]) -> Any:
            if method == "PUT" and conflicts:
                conflicts.pop()
                return _refusal(409, "Conflict", "the object has been modified")
            return answer(method, key, body)

        monkeypatch.setattr(cluster, "_one", one)
        await bench.its.repair(NAME)
        assert conflicts == [] and await bench.its.doubts(NAME) == []

    run(test)


@pytest.mark.parametrize("field", ["containers", "initContainers", "volumes", "containers.0.env"])
def test_an_item_too_many_is_a_change_too(run, field: str) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        def items() -> list[Any]:
            spec = cluster.all("deployments")[0]["spec"]["template"]["spec"]
            return spec["containers"][0]["env"] if field.endswith("env") else spec[field]

        await bench.deploy(bench.function())
        before = [*items()]
        items().append({"name": "miner", "image": "miner"})
        assert f"spec.template.spec.{field} of" in (await bench.its.doubts(NAME))[0]
        await bench.its.repair(NAME)
        assert items() == before and await bench.its.doubts(NAME) == []

    run(test)


def test_calls_that_find_no_pod_wait_for_one_and_none_is_lost(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function(scaling={"max_scale": 3}))
        await bench.runtime.scale(NAME, 0)
        await bench.until(lambda status: not status.instances and not cluster.pods())
        assert cluster.all("deployments")[0]["spec"]["replicas"] == 0
        cluster.start_seconds = 0.5
        outcomes = await asyncio.gather(*(bench.ask("0.01") for _ in range(40)))
        assert [one.kind for one in outcomes] == [""] * 40
        assert max(one.started_seconds for one in outcomes) >= 0.4

    run(test)


def test_the_pod_that_goes_is_an_idle_one_and_never_one_at_work(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function(scaling={"max_scale": 3, "batch": 1, "idle_seconds": 0.2}))
        await bench.runtime.scale(NAME, 3)
        asked = [asyncio.create_task(bench.ask("2.5")) for _ in range(3)]
        await bench.until(lambda status: [one.state for one in status.instances] == ["busy"] * 3)
        quick = cluster.pods()
        asked[0].cancel()  # whichever it was at, the cluster itself would take the newest
        await bench.runtime.scale(NAME, 2)
        await bench.until(lambda status: len(status.instances) == 2)
        outcomes = await asyncio.gather(*asked[1:])
        assert [one.kind for one in outcomes] == ["", ""] and len(quick) == 3
        await bench.until(lambda status: len(status.instances) == 2)
        await asyncio.sleep(0.3)
        assert len(cluster.pods()) == 2 == cluster.all("deployments")[0]["spec"]["replicas"]

    run(test)


def test_a_pod_that_the_cluster_takes_away_is_replaced_and_its_calls_may_be_tried_again(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function())
        [pod] = cluster.pods()
        cluster.lose(pod)
        await asyncio.sleep(0.2)
        assert (await bench.ask()).kind == "gone"
        assert (await bench.ask()).kind == "" and pod not in cluster.pods()
        await bench.until(lambda _: len(cluster.pods()) == 1)

    run(test)


def test_a_new_version_takes_over_with_the_service_and_the_old_one_is_deleted(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function("1"))
        slow = asyncio.create_task(bench.invoke(first := bench.call("0.5")))
        await asyncio.sleep(0.1)
        await bench.deploy(bench.function("2"))
        assert (await slow)[0].kind == "" and answered(first)["image"] == "reg/tiny@1"
        await bench.invoke(call := bench.call())
        assert answered(call)["image"] == "reg/tiny@2"
        [deployment], [service] = cluster.all("deployments"), cluster.all("services")
        assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]

    run(test)


def test_a_version_that_does_not_start_or_answer_leaves_the_one_before_and_nothing_of_itself(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function("1"))
        there = [one["metadata"]["name"] for one in cluster.all("deployments")]
        cluster.refused.add("reg/tiny@2")
        with pytest.raises(ModuleFailed, match="manifest unknown"):
            await bench.deploy(bench.function("2"))
        cluster.crashing["reg/tiny@3"] = "these weights cannot be read"
        with pytest.raises(ModuleFailed, match="these weights cannot be read"):
            await bench.deploy(bench.function("3"))
        cluster.refused.clear()
        bench.models.sample = "bad sample"
        with pytest.raises(ModuleFailed, match="no such layer"):
            await bench.deploy(bench.function("2"))
        await asyncio.sleep(0.2)
        assert [one["metadata"]["name"] for one in cluster.all("deployments")] == there and len(cluster.pods()) == 1
        assert (await bench.ask()).kind == ""

    run(test)


def test_a_quota_that_is_used_up_is_told_and_calls_may_be_tried_again(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function())
        await bench.runtime.scale(NAME, 0)
        await bench.until(lambda status: not status.instances and not cluster.pods())
        cluster.quota = 'pods "x" is forbidden: exceeded quota: small, requested: memory=300Mi'
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "exceeded quota: small" in outcome.reason
        assert (await bench.status()).state == "failed"
        cluster.quota = ""
        await asyncio.sleep(0.6)
        assert (await bench.ask()).kind == ""

    run(test)


_DEPLOY = """
import asyncio, pathlib, sys, types
from tests.volvox.runtimes.pods.test_models import OnMadeUp

async def main():
    bench = OnMadeUp(pathlib.Path(sys.argv[1]), types.SimpleNamespace(config=sys.argv[2]))
    await bench.deploy(bench.function(sys.argv[3]))

asyncio.run(main())
"""


@pytest.mark.parametrize("version", ["1", "2"])
def test_killed_while_it_deployed_the_next_one_completes_and_leaves_no_orphan(run, version: str) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        cluster.start_seconds = 60
        root = Path(__file__).parents[4]
        paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        line = [sys.executable, "-c", _DEPLOY, str(bench.folder), str(cluster.config), version]
        process = await asyncio.create_subprocess_exec(*line, env={**os.environ, "PYTHONPATH": paths}, cwd=root)
        while not cluster.pods():
            assert process.returncode is None
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        [half] = cluster.all("deployments")
        cluster.start_seconds = 0.05
        await bench.deploy(bench.function("2"))
        assert (await bench.ask()).kind == ""
        [deployment] = cluster.all("deployments")
        same = deployment["metadata"]["name"] == half["metadata"]["name"]
        assert same == (version == "2") and len(cluster.all("services")) == 1
        assert await bench.its.doubts(NAME) == []
        await bench.until(lambda _: len(cluster.pods()) == 1)

    run(test)


def test_what_of_another_version_a_killed_dispatcher_left_is_removed_by_the_next(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function("1"))
        [left] = [json.loads(json.dumps(one)) for one in cluster.all("deployments")]
        await bench.deploy(bench.function("2"))
        cluster.objects["deployments", "default", left["metadata"]["name"]] = left
        bench.runtime = bench.made()
        assert (await bench.status()).state == "ready"
        assert [one["metadata"]["name"] != left["metadata"]["name"] for one in cluster.all("deployments")] == [True]

    run(test)


def test_a_cluster_that_does_not_answer_is_told_and_what_is_left_there_goes_when_it_does(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function())
        cluster.down = True
        with pytest.raises(Unavailable, match="Kubernetes cluster did not"):
            await bench.deploy(bench.function("2"))
        await bench.runtime.remove(NAME)
        assert (await bench.status()).state == "absent" and cluster.all("deployments")
        cluster.down = False
        await bench.runtime.close()
        bench.runtime = bench.made()
        with pytest.raises(NotFound):
            await bench.ask()
        assert cluster.all("deployments") == cluster.all("services") == []
        await bench.until(lambda _: not cluster.pods())

    run(test)


def test_pods_that_are_not_reached_from_here_are_asked_through_the_api(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function(settings={"reach": "proxy"}))
        before = cluster.passed_on
        call = bench.call(arguments={"top": 3})
        assert (await bench.invoke(call))[0].kind == "" and answered(call)["image"] == "reg/tiny@1"
        assert cluster.passed_on == before + 1 > 2
        again = bench.made()
        assert (await again.invoke(NAME, [bench.call()]))[0].kind == "" and len(cluster.pods()) == 1
        await again.close()
        cluster.lose(cluster.pods()[0])
        await asyncio.sleep(0.2)
        assert (await bench.ask()).kind == "gone" and (await bench.ask()).kind == ""

    run(test)


def test_two_folders_know_nothing_of_each_other(run, tmp_path: Path) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        await bench.deploy(bench.function())
        other = KubernetesRuntime(tmp_path / "another", bench.models)
        function = bench.function("2")
        await other.deploy(function, version=function.version)
        assert len(cluster.all("deployments")) == len(cluster.all("services")) == 2
        await other.remove(NAME)
        await other.close()
        assert len(cluster.all("deployments")) == 1 and (await bench.ask()).kind == ""

    run(test)


def test_what_cannot_run_there_is_refused_with_what_to_do(run) -> None:
    async def test(bench: OnMadeUp, cluster: MadeUp) -> None:
        with pytest.raises(InvalidInput, match="kubectl create namespace nowhere"):
            await bench.deploy(bench.function(settings={"namespace": "nowhere"}))
        with pytest.raises(InvalidInput, match="namespace is 'No_Where'"):
            await bench.deploy(bench.function(settings={"namespace": "No_Where"}))
        bench.models.images["1"] = bench.models.images["1"].model_copy(update={"pushed": ""})
        with pytest.raises(InvalidInput, match="VOLVOX_REGISTRY"):
            await bench.deploy(bench.function())
        await bench.deploy(bench.function(settings={"pull_policy": "Never"}))
        container = cluster.all("deployments")[0]["spec"]["template"]["spec"]["containers"][0]
        assert (container["image"], container["imagePullPolicy"]) == ("tiny:1", "Never")
        with pytest.raises(InvalidInput, match="names neither script nor command"):
            settings = {"cluster_config": str(cluster.config)}
            await bench.deploy(bench.script("", name="other", settings=settings))

    run(test)
