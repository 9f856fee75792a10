"""Functions on Kubernetes against the bare cluster: `python -m benchmarks.cluster [--rounds N] [--json]`.

Needs a cluster by KUBECONFIG whose nodes have the images of the Docker engine that is here, as that of the tests. In
each round, in turns: a model from zero (a Deployment of the same manifest set from 0 to 1, until its health check
passes, against a call that finds no pod), and a script (a Job of the same image that prints a word, until its pod has
ended, against a call). What ours takes longer is what is looked at.

Limits (exit 1 where one is broken): a model from zero 0.3 s over the bare cluster, a script 2 s.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.volvox.runtimes.benches import NAME, Kubernetes
from tests.volvox.runtimes.tiny import image_of
from tests.volvox.runtimes.tiny_image import built, name_of
from volvox.infrastructure.cluster import Cluster
from volvox.runtimes import asking
from volvox.runtimes.pods import manifests
from volvox.runtimes.pods.looking import pods_path, state_of
from volvox.runtimes.pods.settings import PodSettings

MODEL_SECONDS, SCRIPT_SECONDS = 0.3, 2.0
_LOOK_SECONDS = 0.05
_JOBS = "/apis/batch/v1/namespaces/default/jobs"
_DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def main() -> int:
    """Measure and say what came of it; 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all four, in turns (5)")
    parser.add_argument("--json", action="store_true", help="print every figure")
    arguments = parser.parse_args()
    base = os.environ.get("ENGINE_BASE_IMAGE", "python:3.11-slim")
    with tempfile.TemporaryDirectory() as place, built(Path(place, "images"), base) as images:
        bench = Kubernetes(Path(place, "bench"))
        bench.models.images = {one: image_of(one, image, name_of(one)) for one, image in images.items()}
        found = asyncio.run(_measured(bench, base, arguments.rounds))
    over = {
        kind: statistics.median(ours - bare for bare, ours in zip(found[f"bare {kind}"], found[kind], strict=True))
        for kind in ("model", "script")
    }
    if arguments.json:
        print(json.dumps({"seconds": found, "over": over}, indent=2))
    for kind, limit in (("model", MODEL_SECONDS), ("script", SCRIPT_SECONDS)):
        bare, ours = statistics.median(found[f"bare {kind}"]), statistics.median(found[kind])
        print(f"{kind:<7} bare {bare:5.2f} s   ours {ours:5.2f} s   over {over[kind]:+5.2f} s   limit {limit:g} s")
    return int(over["model"] > MODEL_SECONDS or over["script"] > SCRIPT_SECONDS)


async def _measured(bench: Kubernetes, image: str, rounds: int) -> dict[str, list[float]]:
    cluster, http = Cluster(), asking.client()
    model, script = bench.function(), bench.script("echo word", name=f"{NAME}-script")
    await bench.deploy(model)
    await bench.runtime.deploy(script, version=script.version)
    bare = _bare(model, bench.models.images["1"].name)
    name = bare["metadata"]["name"]
    await cluster.create(_DEPLOYMENTS, bare)
    found: dict[str, list[float]] = {kind: [] for kind in ("bare model", "model", "bare script", "script")}
    try:
        for _ in range(rounds):
            await bench.runtime.scale(NAME, 0)
            await _none_left(cluster, "volvox/role=instance")
            found["bare model"].append(await _timed(lambda: _from_zero(cluster, http, bare)))
            await cluster.merge(f"{_DEPLOYMENTS}/{name}", {"spec": {"replicas": 0}})
            await _none_left(cluster, "app=bare")
            found["model"].append(await _timed(lambda: _called(bench, NAME)))
            found["bare script"].append(await _timed(lambda: _job(cluster, image)))
            found["script"].append(await _timed(lambda: _called(bench, script.name)))
    finally:
        await cluster.delete(f"{_DEPLOYMENTS}/{name}")
        await bench.runtime.remove(script.name)
        await bench.close()
        await http.aclose()
        await cluster.close()
    return found


def _bare(function: Any, image: str) -> dict[str, Any]:
    """The Deployment that ours is, of nobody."""
    made = manifests.deployment(function, PodSettings.of(function), owner="bare", label="bare", image=image)
    bare = copy.deepcopy(made)
    bare["metadata"] = {"name": f"bare-{uuid.uuid4().hex[:8]}"}
    bare["spec"]["selector"]["matchLabels"] = bare["spec"]["template"]["metadata"]["labels"] = {"app": "bare"}
    return bare


async def _timed(do: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await do()
    return round(time.perf_counter() - began, 3)


async def _from_zero(cluster: Cluster, http: Any, bare: dict[str, Any]) -> None:
    await cluster.merge(f"{_DEPLOYMENTS}/{bare['metadata']['name']}", {"spec": {"replicas": 1}})
    while True:
        for pod in await cluster.items(pods_path("default"), "app=bare"):
            if address := pod.get("status", {}).get("podIP"):
                await asking.ready(http, f"http://{address}:{manifests.PORT}")
                return
        await asyncio.sleep(_LOOK_SECONDS)


async def _called(bench: Kubernetes, name: str) -> None:
    (outcome,) = await bench.runtime.invoke(name, [bench.call()])
    assert outcome.kind == "", outcome


async def _job(cluster: Cluster, image: str) -> None:
    name = f"bare-{uuid.uuid4().hex[:8]}"
    container = {
        "name": "it",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", "echo word"],
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    meta = {"name": name}
    await cluster.create(_JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta,
                                 "spec": {"backoffLimit": 0, "template": {"spec": pod}}})  # fmt: skip
    while True:
        pods = await cluster.items(pods_path("default"), f"job-name={name}")
        if pods and "terminated" in state_of(pods[0]):
            break
        await asyncio.sleep(_LOOK_SECONDS)
    await cluster.delete(f"{_JOBS}/{name}")


async def _none_left(cluster: Cluster, selector: str) -> None:
    while await cluster.items(pods_path("default"), selector):
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
