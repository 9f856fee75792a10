"""Images against their limits: `python -m benchmarks.images`; `--json` prints one more line, for programs.

In a VOLVOX_HOME of its own, with a copy of the image classifier that may be changed, and from a base image of its own,
so that the engine's cache knows nothing of it: the engine builds the first image as for the first time. What is timed
is `volvox images`, a fresh process each time; the base image lies on the engine already. Where no engine answers, that
is said and nothing is measured.

Limits (exit 1 where one is broken): 120 s for the first serving image, 10 s for one whose code or weights changed and
for one that is there already, 350 MB. For the training image: 480 s for the first one, torch downloaded, 45 s for one
whose code changed (its check included), 1700 MB, and 5 s until a container of it has imported what runs a stage.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors

from benchmarks.bench import Bench
from blocks.engine import ContainerEngine
from volvox.packaging.engine import Engine

MODULE = Path(__file__).parents[1] / "model_modules" / "image_classifier"
SHORT = ("--demo", "--no-image", "--json", "--epochs", "3")
LABEL = "volvox.benchmark"


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="Print everything once more as one last line.")
    as_json = parser.parse_args().json
    engine = ContainerEngine.local().open()
    if why_not := engine.why_not():
        print(f"images: skipped, {why_not}")
        if as_json:
            print(json.dumps({"skipped": why_not}))
        return 0
    with tempfile.TemporaryDirectory(prefix="volvox-bench-") as place, _base(engine, Path(place)) as base:
        environment = {"ENGINE_BASE_IMAGE": base, "VOLVOX_REGISTRY": "", **_installed(Path(place))}
        bench = Bench(Path(place, "home"), environment)
        try:
            layers = {"serving": _measure(bench, engine, Path(place, "module"), f"bench-{uuid.uuid4().hex[:12]}")}
            layers["training"] = _measure_training(bench, engine, Path(place, "module"))
        finally:
            bench.run("-m", "volvox", "down")
    print(f"over the limit: {'; '.join(bench.broken) or 'nothing'}")
    if as_json:
        figures = [{"what": title.strip(), "figure": figure, "limit": limit} for title, figure, limit in bench.rows]
        print(json.dumps({"figures": figures, "layers": layers, "over_the_limit": bench.broken}))
    return int(bool(bench.broken))


def _measure(bench: Bench, engine: Engine, module: Path, name: str) -> list[dict[str, Any]]:
    """Train shortly, then package again and again; the layers of the first image."""
    print(f"load when it began: {os.getloadavg()[0]:.1f}", flush=True)
    bench.run("-m", "volvox", "cycle", *SHORT, "--name", name)
    bench.run("-m", "volvox", "down")  # no image needs the stack, whose servers would work beside it

    first = _packaged(bench, engine, name, "first image, s", 120)
    bench.told("  its size, MB", first["Size"] / 1e6, 350)
    layers = [{"made_by": made_by, "bytes": size} for made_by, size in engine.layers(first["Id"])]
    for layer in layers:
        print(f"    {layer['bytes'] / 1e6:8.2f} MB  {layer['made_by'][:80]}")

    assert _packaged(bench, engine, name, "nothing changed, s", 10)["Id"] == first["Id"], "the image is reused"

    answers = module / "image_classifier" / "answers.py"
    answers.write_text(f"{answers.read_text()}\n\nCHANGED = True\n")
    code = _packaged(bench, engine, name, "code of the module changed, s", 10)
    bench.told("  layers of before in it", _shared(first, code))

    bench.run("-m", "volvox", "cycle", *SHORT, "--name", name, "--from", name)
    bench.run("-m", "volvox", "down")
    weights = _packaged(bench, engine, name, "weights changed, s", 10)
    bench.told("  layers of before in it", _shared(code, weights))
    return layers


def _measure_training(bench: Bench, engine: Engine, module: Path) -> list[dict[str, Any]]:
    """Build the training image for the first time, unchanged, and with changed code; the layers of the first."""
    first = _trained_in(bench, engine, "training image, first, s", 480)
    bench.told("  its size, MB", first["Size"] / 1e6, 1700)
    layers = [{"made_by": made_by, "bytes": size} for made_by, size in engine.layers(first["Id"])]
    for layer in reversed(layers):
        print(f"    {layer['bytes'] / 1e6:8.2f} MB  {layer['made_by'][:80]}")
    _started(engine, first["Id"])  # the engine reads the image from the disk once
    bench.told("  docker run, until what runs a stage is imported, s", _started(engine, first["Id"]), 5)

    assert _trained_in(bench, engine, "training image, nothing changed, s", 10)["Id"] == first["Id"], "it is reused"

    answers = module / "image_classifier" / "answers.py"
    answers.write_text(f"{answers.read_text()}\n\nCHANGED_AGAIN = True\n")
    code = _trained_in(bench, engine, "training image, code changed, s", 45)
    bench.told("  layers of before in it", _shared(first, code))
    return layers


def _trained_in(bench: Bench, engine: Engine, title: str, limit: float) -> dict[str, Any]:
    """Time one `volvox images --training`; what the engine says of the image."""
    seconds, done = bench.run("-m", "volvox", "images", "--training", "--json")
    bench.told(title, seconds, limit)
    return engine.image(json.loads(done.stdout)["image_id"])


def _started(engine: Engine, image: str) -> float:
    """Seconds of a container that imports what runs a stage, its making and removal included."""
    began = time.monotonic()
    status, said = engine.ask(image, ["python", "-c", "import prefect.flow_engine, flows.training"], threading.Event())
    assert status == 0, said
    return time.monotonic() - began


def _packaged(bench: Bench, engine: Engine, name: str, title: str, limit: float) -> dict[str, Any]:
    """Time one `volvox images`; what the engine says of the image."""
    seconds, _ = bench.run("-m", "volvox", "images", name)
    bench.told(title, seconds, limit)
    print(f"    {bench.processor_seconds:.1f} s of processor without the engine's; load {os.getloadavg()[0]:.1f}")
    return engine.image(f"volvox/{name}:latest")


def _shared(before: dict[str, Any], after: dict[str, Any]) -> int:
    """How many of the lowest layers two images have in common."""
    pairs = zip(before["RootFS"]["Layers"], after["RootFS"]["Layers"], strict=False)
    same = [one == other for one, other in pairs]
    return [*same, False].index(False)


def _installed(place: Path) -> dict[str, str]:
    """A copy of the module below `place`, installed as an editable one; the environment that finds it first."""
    module, site = place / "module", place / "site"
    shutil.copytree(MODULE, module, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(site), "-e", str(module)], check=True)
    return {"PYTHONPATH": f"{module}{os.pathsep}{site}"}


@contextlib.contextmanager
def _base(engine: Engine, place: Path) -> Iterator[str]:
    """A base image that differs in a label from the usual one; whatever was built from it is removed at the end."""
    mark = uuid.uuid4().hex
    dockerfile = f"FROM {ContainerEngine.local().base}\nLABEL {LABEL}={mark}\n".encode()
    with tarfile.open(place / "base.tar", "w") as archive:
        told = tarfile.TarInfo("Dockerfile")
        told.size = len(dockerfile)
        archive.addfile(told, io.BytesIO(dockerfile))
    image = engine.build(place / "base.tar", mark, threading.Event())
    engine.name(image, "volvox/bench-base", (mark,))
    try:
        yield f"volvox/bench-base:{mark}"
    finally:
        with contextlib.closing(docker.APIClient(base_url=engine.host, version="auto")) as api:
            built = api.images(all=True, filters={"label": [f"{LABEL}={mark}"]})
            for found in sorted(built, key=lambda image: image["Created"], reverse=True):
                with contextlib.suppress(docker.errors.APIError):  # removed with the last one that stood on it
                    api.remove_image(found["Id"], force=True)


if __name__ == "__main__":
    sys.exit(main())
