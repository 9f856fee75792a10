"""How long a stage needs to get to its first line on each kind of pool: `python -m benchmarks.pools`.

In a VOLVOX_HOME of its own. A stage that fails at its first look (there is no such folder) is submitted again and
again; what counts is the time from its submission to the first line of its function, and how much of that is more
than the bare engine needs for a process of the same image. Engines: a Docker engine that answers, `KUBECONFIG`,
`AWS_ENDPOINT_URL`; what is not there is left out, and that is said. The training image is built before, if need be.

Limits (exit 1 where one is broken): 4 s for a process, 5 s on Docker, 6 s on Kubernetes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from volvox.packaging.engine import Engine
from volvox.settings import Home
from volvox.stack import stack

LIMITS = {"local": 4.0, "docker": 5.0, "kubernetes": 6.0, "ecs": None}
_HOST = {"docker": {"network_mode": "host"}, "kubernetes": {"host_network": True}, "ecs": {"launch_type": "FARGATE"}}


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="Runs on each pool, after one that does not count.")
    parser.add_argument("--json", action="store_true", help="Print everything once more as one last line.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="volvox-bench-") as place:
        home = Home(Path(place, "home")).ensure()
        os.environ |= {"VOLVOX_HOME": str(home.root), "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db"}
        for variable in ("PREFECT_API_URL", "VOLVOX_STORE"):
            os.environ.pop(variable, None)
        image = _image()
        kinds = ["local", *(kind for kind in _HOST if image and _there(kind))]
        print(f"load when it began: {os.getloadavg()[0]:.1f}; pools: {', '.join(kinds)}", flush=True)
        for kind in kinds[1:]:
            _enable(home, kind, image)
        try:
            stack.ensure(home, ["prefect", "worker"])
            for name in ("prefect", "worker"):
                stack.wait_ready(home, name)
            os.environ.update(stack.environment(home))
            figures = asyncio.run(_measure(kinds, arguments.rounds))
        finally:
            stack.stop(home)
        bare = {kind: _bare(kind, image) for kind in kinds}
    broken = _show(figures, bare)
    if arguments.json:
        print(json.dumps({"to_first_line_s": figures, "bare_s": bare, "over_the_limit": broken}))
    return int(bool(broken))


def _image() -> str:
    """The training image's name, or empty without an engine."""
    if why_not := Engine().why_not():
        print(f"pools of containers: left out, {why_not}")
        return ""
    subprocess.run([sys.executable, "-m", "volvox", "images", "--training"], check=True)
    from blocks.store import ObjectStore
    from volvox.packaging.training_images import newest

    found = newest(ObjectStore.local().open(), "image_classifier")
    assert found is not None
    return found.name


def _there(kind: str) -> bool:
    needed = {"docker": "PATH", "kubernetes": "KUBECONFIG", "ecs": "AWS_ENDPOINT_URL"}[kind]
    return bool(os.environ.get(needed))


def _enable(home: Home, kind: str, image: str) -> None:
    variables: dict[str, Any] = dict(_HOST[kind])
    volumes: list[str] = []
    environment: dict[str, str] = {}
    if kind == "ecs":
        import boto3

        boto3.client("ecs").create_cluster(clusterName="volvox-bench")
        variables["cluster"] = "volvox-bench"
        environment["VOLVOX_STORE"] = "/tmp/volvox/store"  # the failure is told by Prefect; only the way is measured
    told = {
        "name": kind, "type": kind, "image": image, "job_variables": variables, "volumes": volumes,
        "environment": environment, "offers": {"cpu": 2, "memory_mb": 2000, "gpus": 0},
    }  # fmt: skip
    (home.folder("pools") / f"{kind}.yaml").write_text(yaml.safe_dump(told))


async def _measure(kinds: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds from submission to first line, alternating between the pools."""
    from prefect.client.orchestration import get_client

    figures: dict[str, list[float]] = {kind: [] for kind in kinds}
    async with get_client() as client:
        for number in range(rounds + 1):
            for kind in kinds:
                seconds = await _once(client, kind)
                if number:  # the first finds cold caches and a worker that has just begun
                    figures[kind].append(seconds)
                    print(f"  {kind}: {seconds:.2f} s", flush=True)
    return figures


async def _once(client: Any, kind: str) -> float:
    deployment = await client.read_deployment_by_name(f"data/{kind}")
    began = time.time()
    run = await client.create_flow_run_from_deployment(deployment.id, parameters={"source": f"/nowhere/{began}"})
    while True:
        found = await client.read_flow_run(run.id)
        if found.state is not None and found.state.is_final():
            break
        await asyncio.sleep(0.2)
    from blocks.store import ObjectStore

    left = ObjectStore.local().open().record("runs", str(run.id))
    if left is not None:  # the function's own word
        return float(left["began"]) - began
    states = await client.read_flow_run_states(run.id)
    running = [state for state in states if state.name == "Running"]
    assert running, f"{kind}: {found.state.name}: {found.state.message}"
    return running[0].timestamp.timestamp() - began


def _bare(kind: str, image: str) -> float | None:
    """Seconds that the bare engine needs for a Python of the same image that does nothing; None where not measured."""
    commands = {
        "local": [sys.executable, "-c", "pass"],
        "docker": ["docker", "run", "--rm", "--network", "host", image, "python", "-c", "pass"],
    }
    if kind not in commands:
        return None
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(commands[kind], check=True, capture_output=True)
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def _show(figures: dict[str, list[float]], bare: dict[str, float | None]) -> list[str]:
    broken: list[str] = []
    print(f"{'to the first line, s':22} {'median':>7} {'min':>6} {'max':>6} {'limit':>6} {'bare engine':>12}")
    for kind, seconds in figures.items():
        median, limit, own = statistics.median(seconds), LIMITS[kind], bare[kind]
        print(
            f"{kind:22} {median:7.2f} {min(seconds):6.2f} {max(seconds):6.2f} {limit or '-':>6} "
            f"{'-' if own is None else f'{own:.2f}':>12}"
        )
        if limit and median > limit:
            broken.append(kind)
    print(f"over the limit: {', '.join(broken) or 'nothing'}")
    return broken


if __name__ == "__main__":
    sys.exit(main())
