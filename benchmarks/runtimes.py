"""Cold and warm starts of every runtime beside the bare engine.

    python -m benchmarks.runtimes [--only NAMES] [--rounds N] [--home FOLDER] [--json]

A VOLVOX_HOME of its own, where one cycle makes the digits model and its serving image; or one that has them. Then, for
each runtime, the same function by the runtimes' own protocol: a call that finds no instance, a call that finds one, and
beside them what the engine alone takes to start a container of the same layers that does nothing
(`benchmarks.bare_runtimes`), in turns. What the model itself takes to be imported and warmed is measured in its image
too. So

    ours adds = cold - bare - load

Limit (exit 1 where it is broken): 0.3 s, of medians. `local` forks what it starts from a process that has the libraries
already, so it may take less than the load. A runtime whose engine is not here is left out, and that is said.
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
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import bare_runtimes as bare
from benchmarks.bench import Bench
from volvox.errors import VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes import Call, Outcome, Runtime
from volvox.runtimes.models import Model, Models, published
from volvox.runtimes.opening import open_runtime

LIMIT_SECONDS = 0.3
NAMES = ("local", "docker", "kubernetes", "lambda", "lambda-batch", "batch", "ecs")
_ON_AWS = ("lambda", "lambda-batch", "batch", "ecs")
_KEYS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
_PATIENCE = 60.0
_LOAD = """
import sys, time
began = time.perf_counter()
from importlib.metadata import entry_points
(point,) = [one for one in entry_points(group="deepaas.v2.model") if one.name == sys.argv[1]]
model = point.load()
model.warm()
print(time.perf_counter() - began)
"""


@dataclass
class Row:
    """What was measured of one runtime, in seconds.

    Attributes:
        name: The runtime's.
        cold: Of calls that found no instance.
        warm: Of calls that found one; none where a container ends with its call.
        bare: Of the engine alone.
        load: Of the model alone, imported and warmed.
        skipped: Why nothing was measured; empty: it was.
        failed: What went wrong meanwhile, or empty.
    """

    name: str
    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    skipped: str = ""
    failed: str = ""

    @property
    def told(self) -> bool:
        """Whether it was measured to its end."""
        return not self.skipped and not self.failed

    @property
    def adds(self) -> float:
        """What is ours of a cold call."""
        return statistics.median(self.cold) - statistics.median(self.bare) - statistics.median(self.load)


@dataclass
class Site:
    """What all rows share.

    Attributes:
        folder: For files.
        models: The published models.
        model: The one that is asked.
        image: Id of its serving image.
        nothing: An image of the same layers that does nothing.
        bucket: For what does not go with a call on AWS.
        amazon: The bare services, where there are some.
    """

    folder: Path
    models: Models
    model: Model
    image: str = ""
    nothing: str = ""
    bucket: str = ""
    amazon: bare.Amazon | None = None

    def function(self, name: str) -> Function:
        """The function on the runtime `name`."""
        # Without a registry the node has the image of this machine's engine, or none.
        here = name == "kubernetes" and not os.environ.get("VOLVOX_REGISTRY")
        settings: dict[str, Any] = {"pull_policy": "Never"} if here else {}
        if name in _ON_AWS:
            assert self.amazon is not None
            variables = {key: os.environ[key] for key in _KEYS}  # Amazon gives a job its role; others must be told
            batch = {"service_role": self.amazon.role, "environment": {"Variables": variables}}
            settings = {"bucket": self.bucket, "batch": batch}
        return Function.model_validate(
            {"name": f"bench-{uuid.uuid4().hex[:8]}", "model": f"{self.model.name}/{self.model.version}",
             "runtime": name, "settings": settings, "resources": {"memory_mb": 2048}, "scaling": {"max_scale": 8}}
        )  # fmt: skip

    def call(self) -> Call:
        """A call with a held-out picture."""
        path, job = self.models.samples(self.model)[0], uuid.uuid4().hex
        output = self.folder / "calls" / job
        output.mkdir(parents=True)
        return Call(job, path, output, output / "log", key=path.name, relative=path.name, timeout_seconds=60.0)


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES), metavar="NAMES", help="runtimes, with commas between them")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each kind (5)")
    parser.add_argument("--home", type=Path, help="a VOLVOX_HOME that has the digits model (default: one is made)")
    parser.add_argument("--json", action="store_true", help="print everything once more as one last line")
    options = parser.parse_args()
    names = [one.strip() for one in options.only.split(",") if one.strip()]
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"there is no runtime {', '.join(unknown)}; name some of {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory(prefix="volvox-bench-") as place:
        rows = _measured(Path(place), names, options.rounds, options.home)
    broken = [row.name for row in rows if row.failed or (row.told and row.adds > LIMIT_SECONDS)]
    print(table(rows))
    print(f"over the limit of {LIMIT_SECONDS:g} s: {', '.join(broken) or 'nothing'}")
    if options.json:
        told = [{**vars(row), **({"adds": row.adds} if row.told else {})} for row in rows]
        print(json.dumps({"rows": told, "limit": LIMIT_SECONDS, "over_the_limit": broken, "load": os.getloadavg()}))
    return int(bool(broken))


def table(rows: list[Row]) -> str:
    """The rows as people read them; medians, in seconds."""
    lines = [f"{'runtime':<14}{'cold':>8}{'warm':>8}{'bare':>8}{'load':>8}{'ours adds':>11}"]
    for row in rows:
        if not row.told:
            lines.append(f"{row.name:<14}{f'left out: {row.skipped}' if row.skipped else f'failed: {row.failed}'}")
            continue
        warm = f"{statistics.median(row.warm):8.3f}" if row.warm else f"{'-':>8}"
        cold, engine, load = map(statistics.median, (row.cold, row.bare, row.load))
        over = "   over the limit" if row.adds > LIMIT_SECONDS else ""
        lines.append(f"{row.name:<14}{cold:8.3f}{warm}{engine:8.3f}{load:8.3f}{row.adds:+11.3f}{over}")
    return "\n".join(lines)


def _measured(place: Path, names: list[str], rounds: int, home: Path | None) -> list[Row]:
    base = os.environ.get("ENGINE_BASE_IMAGE", "python:3.11-slim")
    bench = Bench(home or place / "home")
    try:
        if home is None:
            print("making the digits model and its image", flush=True)
            image = ("--no-image",) if names == ["local"] else ()
            bench.run("-m", "volvox", "cycle", "--demo", "--epochs", "3", "--json", *image)
    finally:
        bench.run("-m", "volvox", "down")  # its servers would work beside what is timed
    os.environ["VOLVOX_HOME"] = str(bench.home)
    models = published()
    site = Site(place, models, models.resolve("digits"))
    made: list[str] = []
    try:
        if names != ["local"]:
            here = models.image(site.model)
            assert here is not None
            site.image, site.nothing = here.image_id, bare.nothing(here.image_id)
            made = [site.nothing, *([site.image] if home is None else [])]
        if any(name in _ON_AWS for name in names) and not bare.has_amazon():
            import boto3

            empty = bare.empty_lambda(base)
            made.append(empty)
            site.amazon = bare.Amazon(os.environ["VOLVOX_REGISTRY"], site.nothing, empty)
            site.bucket = site.amazon.name
            boto3.client("s3").create_bucket(Bucket=site.bucket)
        return [asyncio.run(_row(site, name, rounds)) for name in names]
    finally:
        _close(site, made)


def _close(site: Site, images: list[str]) -> None:
    if site.amazon is not None:
        import boto3

        s3 = boto3.client("s3")
        for one in s3.list_objects_v2(Bucket=site.bucket).get("Contents", []):
            s3.delete_object(Bucket=site.bucket, Key=one["Key"])
        s3.delete_bucket(Bucket=site.bucket)
        site.amazon.close()
    subprocess.run(["docker", "rmi", "--force", *images], capture_output=True, check=False)


def _lacks(name: str) -> str:
    """Why a runtime cannot be measured here; empty: it can."""
    if name == "kubernetes" and not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG names no cluster"
    return bare.has_amazon() if name in _ON_AWS else ""


async def _row(site: Site, name: str, rounds: int) -> Row:
    row = Row(name, skipped=_lacks(name))
    if row.skipped:
        return row
    print(f"measuring {name}", flush=True)
    runtime, function = open_runtime(name, site.folder / "runtimes", site.models), site.function(name)
    try:
        await runtime.deploy(function, version=function.version)
        await _timed(site, runtime, function)  # connections and clients of here are made once, whatever comes
        for _ in range(rounds):
            row.bare.append(await asyncio.to_thread(_bare(site, name)))
            row.load.append(await asyncio.to_thread(_load, site, name))
            function, busy = await _none_warm(site, runtime, function)
            seconds, outcome = await _timed(site, runtime, function)
            if not outcome.started_seconds and busy:  # a machine at its limit had not yet begun what keeps it busy
                busy.append(await _busy(function))
                seconds, outcome = await _timed(site, runtime, function)
            assert outcome.started_seconds or name in ("batch", "ecs"), f"{name} had an instance: {outcome}"
            row.cold.append(seconds)
            if name not in ("batch", "ecs"):
                row.warm.append((await _timed(site, runtime, function))[0])
            await asyncio.gather(*busy)
    except (VolvoxError, AssertionError, OSError) as error:
        row.failed = f"{type(error).__name__}: {error}"
    finally:
        await runtime.remove(function.name)
        await runtime.close()
    return row


def _bare(site: Site, name: str) -> Callable[[], float]:
    """What times the bare engine of a runtime."""
    if name == "local":
        return bare.local
    if name == "docker":
        return lambda: bare.docker(site.nothing)
    if name == "kubernetes":
        return lambda: bare.kubernetes(site.nothing)
    amazon = site.amazon
    assert amazon is not None
    return {"batch": amazon.batch, "ecs": amazon.ecs}.get(name) or (lambda: amazon.lambda_()[0])


async def _timed(site: Site, runtime: Runtime, function: Function) -> tuple[float, Outcome]:
    call = site.call()
    began = time.perf_counter()
    (outcome,) = await runtime.invoke(function.name, [call])
    seconds = time.perf_counter() - began
    assert outcome.kind == "", outcome
    return seconds, outcome


async def _none_warm(site: Site, runtime: Runtime, function: Function) -> tuple[Function, list[asyncio.Task[Any]]]:
    """Have the next call of a function find no instance that is free.

    Of Lambda that is another function each time, whose only instance, that which proved itself, is kept busy meanwhile:
    Lambda ends instances when it likes, not when told.
    """
    if function.runtime in ("batch", "ecs"):
        return function, []  # each call is one container's
    if function.runtime.startswith("lambda"):
        await runtime.remove(function.name)
        function = site.function(function.runtime)
        await runtime.deploy(function, version=function.version)
        return function, [await _busy(function)]
    await runtime.scale(function.name, 0)
    deadline = time.perf_counter() + _PATIENCE
    while (await runtime.status(function.name)).instances:
        assert time.perf_counter() < deadline, "its instances do not end"
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)  # what ended is cleared away
    return function, []


async def _busy(function: Function) -> asyncio.Task[Any]:
    """Have an instance of Lambda's be at something for a while."""
    import boto3

    from volvox.runtimes.aws import invoking
    from volvox.runtimes.aws.account import Account, name_of

    account, name = Account.of(function, "lambda"), name_of(function.name)
    live = boto3.client("lambda").get_alias(FunctionName=name, Name="live")["FunctionVersion"]
    task = asyncio.create_task(asyncio.to_thread(invoking.hold, account, function.name, live, 8.0))
    await asyncio.sleep(2.0)
    return task


def _load(site: Site, name: str) -> float:
    """Seconds that the model alone takes, where the runtime runs it."""
    python = ["docker", "run", "--rm", "--entrypoint", "python", site.image]
    environment = {**os.environ, "VOLVOX_WEIGHTS": str(site.models.weights(site.model))}
    if name == "local":
        python = [sys.executable]
    words = [*python, "-c", _LOAD, site.model.module]
    return float(bare.ran(*words, environment=environment))


if __name__ == "__main__":
    sys.exit(main())
