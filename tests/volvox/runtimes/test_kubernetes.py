"""What is particular to a cluster, on a real one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import engine_environment
from tests.volvox.runtimes.benches import NAME, Kubernetes
from tests.volvox.runtimes.tiny import image_of
from tests.volvox.runtimes.tiny_image import name_of
from volvox.runtimes.kubernetes import KubernetesRuntime
from volvox.runtimes.pods import manifests

pytestmark = pytest.mark.k8s


@pytest.fixture(autouse=True)
def _engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in engine_environment(["docker", "k8s"]).items():
        monkeypatch.setenv(name, value)


def kubectl(*words: str, given: str = "") -> str:
    return subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def namespace(_engines: None) -> Iterator[str]:
    """A namespace of this test alone."""
    name = f"volvox-test-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def with_images(folder: Path, images: dict[str, str]) -> Kubernetes:
    bench = Kubernetes(folder)
    bench.models.images = {version: image_of(version, image, name_of(version)) for version, image in images.items()}
    return bench


def its(bench: Kubernetes) -> KubernetesRuntime:
    assert isinstance(bench.runtime, KubernetesRuntime)
    return bench.runtime


def there(kind: str, bench: Kubernetes, namespace: str = "default") -> list[dict]:
    query = manifests.selector(its(bench).owner)
    return json.loads(kubectl("get", kind, "-n", namespace, "-l", query, "-o", "json"))["items"]


def test_a_script_s_pod_may_do_little_and_shows_nothing_of_its_call(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Kubernetes(tmp_path)
        script = """#!/usr/bin/env python3
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
told = {"privileges": status["NoNewPrivs"].strip(), "capabilities": int(status["CapEff"], 16), "user": os.getuid()}
told["token"] = os.path.exists("/var/run/secrets/kubernetes.io")
told["hidden"], told["node"], told["dotted"] = os.environ["TOKEN"], os.environ["RESOURCE_ID"], os.environ["WITH.DOT"]
for place in ("/etc/x", "/tmp/x", os.environ["TMP_OUTPUT_DIR"] + "/x"):
    try:
        open(place, "a")
    except OSError as error:
        told[place] = error.strerror
print(json.dumps(told), flush=True)
import time; time.sleep(3)
"""
        environment = {"TOKEN": "very hidden", "WITH.DOT": "dot"}
        await bench.deploy(bench.script(script, environment=environment))
        asked = asyncio.create_task(bench.ask())
        await bench.until(lambda status: [one.state for one in status.instances] == ["busy"])
        told = await asyncio.to_thread(lambda: json.dumps([there("pod", bench), there("job", bench)]))
        assert "very hidden" not in told
        outcome = await asked
        found = json.loads(outcome.printed)
        assert found.pop("node")
        assert found == {
            "privileges": "1", "capabilities": 0, "user": 1000, "token": False, "hidden": "very hidden",
            "dotted": "dot", "/etc/x": "Read-only file system",
        }  # fmt: skip
        await bench.deploy(bench.script("touch /etc/x && id -u", settings={"read_only": False, "user": "0:0"}))
        assert (await bench.ask()).printed == "0\n"
        await bench.close()
        assert await bench.left() == []

    asyncio.run(test())


def test_an_image_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        bench = Kubernetes(tmp_path)
        await bench.deploy(bench.script("echo", image="127.0.0.1:5000/volvox-tests/no-such-image:1"))
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "no-such-image" in outcome.reason
        await bench.close()
        assert await bench.left() == []

    asyncio.run(test())


def test_a_quota_of_the_namespace_and_a_node_that_is_too_small_are_told(tmp_path: Path, namespace: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
             "spec": {"hard": {"limits.memory": "64Mi"}}}  # fmt: skip
    kubectl("apply", "-n", namespace, "-f", "-", given=json.dumps(quota))

    async def test() -> None:
        bench = Kubernetes(tmp_path)
        settings = {"namespace": namespace}
        await bench.deploy(bench.script("echo fits", resources={"memory_mb": 60}, settings=settings))
        assert (await bench.ask()).printed == "fits\n"
        await bench.deploy(bench.script("echo", resources={"memory_mb": 100}, settings=settings))
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "exceeded quota: small" in outcome.reason
        await bench.deploy(bench.script("echo", resources={"cpu": 1000}))
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "no node can take the pod" in outcome.reason
        await bench.close()
        assert there("job,pod", bench, namespace) == [] or await bench.left() == []

    asyncio.run(test())


def test_deployed_again_nothing_is_written_and_what_is_changed_is_mended(tmp_path: Path, tiny_images) -> None:
    async def test() -> None:
        bench = with_images(tmp_path, tiny_images)
        await bench.deploy(bench.function())

        def versions() -> list[str]:  # of what only a change of the manifest touches
            return [str(one["metadata"]["generation"]) for one in there("deployment", bench)] + [
                one["metadata"]["resourceVersion"] for one in there("service", bench)
            ]

        before = versions()
        await bench.deploy(bench.function())
        again = bench.made()
        await again.deploy(bench.function(), version=bench.function().version)
        assert await its(bench).doubts(NAME) == [] and versions() == before
        await again.close()
        (deployment,) = there("deployment", bench)
        name = deployment["metadata"]["name"]
        environment = [{"name": "LD_PRELOAD", "value": "/tmp/x"}]
        change = {"spec": {"template": {"spec": {"containers": [{"name": "model", "env": environment}]}}}}
        kubectl("patch", "deployment", name, "-p", json.dumps(change))
        (told,) = await its(bench).doubts(NAME)
        assert "containers.0.env of the deployment" in told
        assert await its(bench).repair(NAME) == [told] and await its(bench).doubts(NAME) == []
        kubectl("delete", "service", "-l", manifests.selector(its(bench).owner))
        kubectl("delete", "deployment", name)
        assert len(await its(bench).doubts(NAME)) == 2
        await bench.deploy(bench.function())
        assert await its(bench).doubts(NAME) == []
        kinds = [(await bench.ask()).kind for _ in range(2)]
        assert kinds[-1] == "" and set(kinds) <= {"", "gone"}
        await bench.close()
        assert await bench.left() == []

    asyncio.run(test())


def test_fewer_pods_cost_no_call_and_through_the_api_they_answer_too(tmp_path: Path, tiny_images) -> None:
    async def test() -> None:
        bench = with_images(tmp_path, tiny_images)
        settings = {"pull_policy": "Never", "reach": "proxy"}
        await bench.deploy(bench.function(scaling={"max_scale": 2, "batch": 1}, settings=settings))
        await bench.runtime.scale(NAME, 2)
        asked = [asyncio.create_task(bench.ask("sleep 6")) for _ in range(2)]
        await bench.until(lambda status: [one.state for one in status.instances] == ["busy", "busy"])
        asked.pop(0).cancel()  # one of them is free now, and only that one may go
        await bench.runtime.scale(NAME, 1)
        outcomes = await asyncio.gather(*asked)
        assert [(one.kind, one.reason) for one in outcomes] == [("", "")]
        assert (await bench.ask()).kind == ""
        await bench.close()
        assert await bench.left() == []

    asyncio.run(test())


def test_the_job_of_a_call_whose_dispatcher_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from tests.volvox.runtimes.benches import Kubernetes

async def main():
    bench = Kubernetes(Path({str(tmp_path)!r}))
    await bench.deploy(bench.script("echo begun; sleep 1000"))
    call = bench.call()
    asked = asyncio.create_task(bench.invoke(call))
    while not (call.log.exists() and call.log.read_text()):
        await asyncio.sleep(0.05)
    print("there", flush=True)
    await asked

asyncio.run(main())
"""
    paths = [str(Path(__file__).parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    )
    assert process.stdout is not None and process.stdout.readline() == b"there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()

    async def test() -> None:
        bench = Kubernetes(tmp_path / "again")
        bench.runtime = KubernetesRuntime(tmp_path / "runtime", bench.models)
        assert len(there("job", bench)) == 1
        await bench.deploy(bench.script("echo another"))
        deadline = time.monotonic() + bench.patience
        while there("job,pod", bench):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        assert (await bench.ask()).printed == "another\n"
        await bench.close()
        assert await bench.left() == []

    asyncio.run(test())
