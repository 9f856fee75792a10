"""How long a stage needs to get to its first line on each kind of pool: `python -m benchmarks.pools`.

In a VOLVOX_HOME of its own. A stage that fails at its first look (there is no such folder) is submitted again and
again; what counts is the time from its submission to the first line of its function. In the same run, in turns: the
bare engine with a Python of the same image that does nothing, and Prefect's own worker that starts the same stage of
the same image and polls as often. Engines: a Docker engine that answers, `KUBECONFIG`, `AWS_ENDPOINT_URL`; what is not
there is left out, and that is said. The training image is built before, if need be.

Limits (exit 1 where one is broken): 4 s for a process, 5 s on Docker, 6 s on Kubernetes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.bare import BarePrefect, bare_engine, engine_there
from volvox.packaging.engine import Engine
from volvox.settings import Home
from volvox.stack import stack
from volvox.submitting import arun

LIMITS = {"local": 4.0, "docker": 5.0, "kubernetes": 6.0, "ecs": None}
_HOST = {"docker": {"network_mode": "host"}, "kubernetes": {"host_network": True}, "ecs": {"launch_type": "FARGATE"}}
_CLUSTER = "volvox-bench"
_STALLED_SECONDS = 15.0
_BETWEEN_SECONDS = 2.0  # what the run before left has ended by then


@dataclass
class Figures:
    """Seconds of every run on one kind of pool.

    Attributes:
        first_line: From submission to the first line of user code.
        taken: Of that, until a worker took the run.
        started: Until the run's process told that it runs: the engine's part, and the imports.
        bare_prefect: From submission to the first line with Prefect's own worker.
        bare_engine: The bare engine's time for a Python that does nothing.
    """

    first_line: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)
    bare_prefect: list[float] = field(default_factory=list)
    bare_engine: list[float] = field(default_factory=list)

    def add(self, ours: tuple[float, float, float], theirs: tuple[float, float, float] | None, engine: float) -> None:
        """Take in one round: until taken, until started, until the first line."""
        self.taken.append(ours[0])
        self.started.append(ours[1])
        self.first_line.append(ours[2])
        self.bare_prefect += [theirs[2]] if theirs else []
        self.bare_engine.append(engine)


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="Runs on each pool, after one that does not count.")
    parser.add_argument("--only", action="append", choices=list(LIMITS), help="Only this pool; may be given again.")
    parser.add_argument("--json", action="store_true", help="Print everything once more as one last line.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="volvox-bench-") as place:
        home = Home(Path(place, "home")).ensure()
        os.environ |= {"VOLVOX_HOME": str(home.root), "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db"}
        for variable in ("PREFECT_API_URL", "VOLVOX_STORE"):
            os.environ.pop(variable, None)
        wanted = arguments.only or list(LIMITS)
        image = _image(home) if set(wanted) & set(_HOST) else ""
        kinds = [kind for kind in wanted if kind == "local" or (image and engine_there(kind))]
        for kind in kinds:
            if kind != "local":
                _enable(home, kind, image)
        try:
            stack.ensure(home, ["prefect", "worker"])
            for name in ("prefect", "worker"):
                stack.wait_ready(home, name)
            os.environ.update(stack.environment(home))
            time.sleep(5)  # the containers' workers start a moment after those of processes
            print(f"load when it began: {os.getloadavg()[0]:.1f}; pools: {', '.join(kinds)}", flush=True)
            figures = asyncio.run(_measure(kinds, arguments.rounds, home, image))
        finally:
            stack.stop(home)
    broken = _show(figures)
    if arguments.json:
        told = {kind: vars(one) for kind, one in figures.items()}
        print(json.dumps({"seconds": told, "over_the_limit": broken}))
    return int(bool(broken))


def _image(home: Home) -> str:
    """The training image's name, or empty without an engine."""
    if why_not := Engine().why_not():
        print(f"pools of containers: left out, {why_not}")
        return ""
    subprocess.run([sys.executable, "-m", "volvox", "images", "--training"], check=True)
    from volvox.packaging.training_images import newest
    from volvox.store import Store  # the block of it imports Prefect, whose settings are not set yet

    found = newest(Store.open(home.store, home.cache), "image_classifier")
    assert found is not None
    return found.name


def _enable(home: Home, kind: str, image: str) -> None:
    variables: dict[str, Any] = dict(_HOST[kind])
    environment: dict[str, str] = {}
    if kind == "ecs":
        import boto3

        boto3.client("ecs").create_cluster(clusterName=_CLUSTER)
        variables["cluster"] = _CLUSTER
        environment["VOLVOX_STORE"] = "/tmp/volvox/store"  # the failure is told by Prefect; only the way is measured
    told = {
        "name": kind, "type": kind, "image": image, "job_variables": variables, "environment": environment,
        "offers": {"cpu": 2, "memory_mb": 2000, "gpus": 0},
    }  # fmt: skip
    (home.folder("pools") / f"{kind}.yaml").write_text(yaml.safe_dump(told))


async def _measure(kinds: list[str], rounds: int, home: Home, image: str) -> dict[str, Figures]:
    """Every figure in turns, so that what slows the machine down slows all of them."""
    from prefect.client.orchestration import get_client

    figures = {kind: Figures() for kind in kinds}
    async with get_client() as client:
        bare = {kind: await BarePrefect.start(client, kind, home) for kind in kinds}
        try:
            for number in range(rounds + 1):  # the first finds cold caches and workers that have just begun
                for kind, one in figures.items():
                    ours = await _once(client, _submitted, kind)
                    theirs = await _once(client, _created, bare[kind].deployment) if bare[kind].process else None
                    engine = await asyncio.to_thread(bare_engine, kind, image, _CLUSTER)
                    if number:
                        one.add(ours, theirs, engine)
                        print(f"  {kind}: {ours[2]:.2f} s", flush=True)
        finally:
            for one in bare.values():
                one.stop()
    return figures


async def _submitted(_: Any, kind: str, source: str) -> tuple[float, str]:
    """Hand the stage to a pool as Volvox does, and say when that began."""
    began = time.time()
    return began, (await arun("data", on=kind, wait=False, source=source)).id


async def _created(client: Any, deployment: str, source: str) -> tuple[float, str]:
    """Make the run as Prefect does; its deployment is known before."""
    found = await client.read_deployment_by_name(deployment)
    began = time.time()
    return began, (await client.create_flow_run_from_deployment(found.id, parameters={"source": source})).id


async def _once(client: Any, submit: Callable[..., Any], to: str) -> tuple[float, float, float]:
    """Seconds from the submission of a run until it was taken, until it ran, and until the first line of its stage."""
    await asyncio.sleep(_BETWEEN_SECONDS)
    began, run_id = await submit(client, to, f"/nowhere/{time.time()}")
    while True:
        run = await client.read_flow_run(run_id)
        if run.state is not None and run.state.is_final():
            break
        await asyncio.sleep(0.5)
    told = sorted(await client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    states = {state.name: state.timestamp.timestamp() - began for state in told}
    assert "Running" in states, f"{to}: {run.state.name}: {run.state.message}"
    from blocks.store import ObjectStore

    left = ObjectStore.local().open().record("runs", str(run.id))
    first = float(left["began"]) - began if left is not None else states["Running"]  # the function's own word
    if first > _STALLED_SECONDS:  # how that came is worth knowing, whatever the median is
        steps = ", ".join(f"{state.name} {state.timestamp.timestamp() - began:.1f} s" for state in told)
        print(f"  {to} stalled: {steps}", flush=True)
        for name in ("prefect", "worker"):
            lines = (Home.current().root / "stack" / f"{name}.log").read_text().splitlines()[-30:]
            print("\n".join(f"    {name}: {line}" for line in lines), flush=True)
    return states["Pending"], states["Running"], first


def _show(figures: dict[str, Figures]) -> list[str]:
    broken: list[str] = []
    titles = (
        "to the first line, s",
        "median",
        "min",
        "max",
        "limit",
        "taken",
        "started",
        "code",
        "Prefect's",
        "engine",
    )
    print(f"{titles[0]:22}" + "".join(f"{title:>10}" for title in titles[1:]))
    for kind, one in figures.items():
        whole, limit = one.first_line, LIMITS[kind]
        steps = [
            median(one.taken),
            median(b - a for a, b in zip(one.taken, one.started, strict=True)),
            median(b - a for a, b in zip(one.started, whole, strict=True)),
        ]
        theirs = median(one.bare_prefect) if one.bare_prefect else None
        columns = [median(whole), min(whole), max(whole), limit, *steps, theirs, median(one.bare_engine)]
        print(f"{kind:22}" + "".join("         -" if value is None else f"{value:10.2f}" for value in columns))
        if limit and median(whole) > limit:
            broken.append(kind)
    print(f"over the limit: {', '.join(broken) or 'nothing'}")
    return broken


if __name__ == "__main__":
    sys.exit(main())
