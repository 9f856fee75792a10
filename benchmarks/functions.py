"""Functions against their limits: `python -m benchmarks.functions [--quick] [--json]`.

A VOLVOX_HOME of its own, the digits model made there by one cycle, a function of it on the local runtime, and the
scanned digits as files. An upload is a POST to the web server; its result is there when the answer's file is in the
output folder, looked for every 2 ms. Beside each figure stands the bare engine of the same run: the same POST to the
model API, which keeps nothing and writes nothing.

Limits (exit 1 where one is broken): warm, 20 uploads a second, p50 under 150 ms and p99 under 500 ms; from zero under
2 s; 100 files a second when many wait. The two experiments of the gateway's paper are repeated and its figures printed
beside: they are another model on other machines, so what is compared is the waiting, not the computing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.bench import Bench

PAPER = {
    "100 requests one after the other, seconds each (Lambda, warm)": 13.0,
    "10 images at once, AWS Batch, seconds": 294.0,
    "10 images at once, OSCAR, seconds": 261.0,
    "from zero, first and later, seconds": 45.0,
}
DEFINITION = """
name: bench
model: digits
runtime: local
places: {{in: {source}, out: {target}}}
scaling: {{idle_seconds: {idle}, batch: 32}}
"""


class Uploads:
    """Files that are uploaded, and when their answers are there."""

    def __init__(self, web: str, picture: bytes, target: Path) -> None:
        self.client = httpx.Client(base_url=web, timeout=60)
        self._picture, self._target = picture, target
        self._began: dict[str, float] = {}
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()

    def upload(self, name: str) -> None:
        """One file; a name is used once."""
        with self._lock:
            self._began[name] = time.perf_counter()
        answer = self.client.post("/v1/functions/bench/files", files={"file": (name, self._picture, "image/png")})
        answer.raise_for_status()

    def bare(self) -> float:
        """Seconds of one POST to the model API itself."""
        began = time.perf_counter()
        answer = self.client.post("/v2/models/digits/predict/", files={"image": ("x.png", self._picture, "image/png")})
        answer.raise_for_status()
        return time.perf_counter() - began

    def wait(self, count: int, seconds: float = 120.0) -> None:
        """Wait until so many of all uploads are answered."""
        deadline = time.perf_counter() + seconds
        while len(self._seen) < count:
            now = time.perf_counter()
            for path in self._target.iterdir():
                if path.suffix == ".json":
                    self._seen.setdefault(path.name.rsplit(".", 2)[0], now)
            if now > deadline:
                sys.exit(f"{count - len(self._seen)} of {count} files have no answer after {seconds:g} s")
            time.sleep(0.002)

    def watch(self, count: int) -> threading.Thread:
        """The same beside what goes on."""
        thread = threading.Thread(target=self.wait, args=(count,))
        thread.start()
        return thread

    def seconds(self, names: Sequence[str]) -> list[float]:
        """From upload to answer, sorted."""
        return sorted(self._seen[name] - self._began[name] for name in names)

    @property
    def answered(self) -> int:
        """How many were answered so far."""
        return len(self._seen)


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="A tenth of the files.")
    parser.add_argument("--json", action="store_true", help="Print everything once more as one last line.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="volvox-bench-") as place:
        ports = {f"VOLVOX_{name}_PORT": "0" for name in ("WEB", "PREFECT", "MLFLOW")}
        bench = Bench(Path(place, "home"), ports)
        try:
            told = _measure(bench, Path(place), 10 if options.quick else 1)
        finally:
            bench.run("-m", "volvox", "down")
    print(f"over the limit: {'; '.join(bench.broken) or 'nothing'}")
    if options.json:
        figures = [{"what": title, "figure": figure, "limit": limit} for title, figure, limit in bench.rows]
        print(json.dumps({"figures": figures, "over_the_limit": bench.broken, "paper": PAPER, **told}))
    return int(bool(bench.broken))


def _measure(bench: Bench, place: Path, part: int) -> dict[str, Any]:
    print("making the digits model", flush=True)
    bench.run("-m", "volvox", "cycle", "--demo", "--no-image", "--json")
    source, target = place / "in", place / "out"
    source.mkdir()
    target.mkdir()
    picture = next((bench.home / "demo" / "digits" / "4").glob("*.png")).read_bytes()
    _apply(bench, place, idle=3600)
    web = next(one["url"] for one in _status(bench) if one["name"] == "web")
    uploads = Uploads(web, picture, target)
    uploads.upload("first.png")
    uploads.wait(1)
    _steady(bench, uploads, 400 // part)
    _one_after_the_other(bench, uploads, 100 // part)
    _at_once(bench, uploads)
    _many(bench, uploads, 2000 // part)
    return {"from_zero": _from_zero(bench, place, uploads)}


def _steady(bench: Bench, uploads: Uploads, count: int) -> None:
    names = [f"steady-{number}.png" for number in range(count)]
    bare = sorted(uploads.bare() for _ in range(50))
    watching = uploads.watch(uploads.answered + count)
    with ThreadPoolExecutor(4) as pool:
        began = time.perf_counter()
        for number, name in enumerate(names):
            time.sleep(max(0.0, began + number / 20 - time.perf_counter()))
            pool.submit(uploads.upload, name)
    watching.join()
    found = uploads.seconds(names)
    middle = statistics.median(found)
    bench.told("warm, 20 uploads a second: p50, ms", 1000 * middle, 150)
    bench.told("warm, 20 uploads a second: p99, ms", 1000 * found[int(0.99 * len(found))], 500)
    bench.told("  the model API itself, nothing kept: p50, ms", 1000 * statistics.median(bare))
    bench.told("  times the model API", middle / statistics.median(bare))


def _one_after_the_other(bench: Bench, uploads: Uploads, count: int) -> None:
    names = [f"turn-{number}.png" for number in range(count)]
    began = time.perf_counter()
    for name in names:
        uploads.upload(name)
        uploads.wait(uploads.answered + 1)
    each = (time.perf_counter() - began) / count
    bench.told(f"{count} one after the other: seconds each", each)
    bench.told("  the paper, on Lambda", PAPER["100 requests one after the other, seconds each (Lambda, warm)"])


def _at_once(bench: Bench, uploads: Uploads) -> None:
    names = [f"once-{number}.png" for number in range(10)]
    before = uploads.answered
    began = time.perf_counter()
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(uploads.upload, names))
    uploads.wait(before + 10)
    bench.told("10 images at once: seconds", time.perf_counter() - began)
    bench.told("  the paper, on AWS Batch", PAPER["10 images at once, AWS Batch, seconds"])
    bench.told("  the paper, on OSCAR", PAPER["10 images at once, OSCAR, seconds"])


def _many(bench: Bench, uploads: Uploads, count: int) -> None:
    names = [f"many-{number}.png" for number in range(count)]
    before = uploads.answered
    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(uploads.upload, names))
    uploads.wait(before + count)
    rate = count / (time.perf_counter() - began)
    bench.told(f"{count} files as fast as they come: files a second", rate)
    bench.told("  seconds for 100 of them", 100 / rate, 1.0)


def _from_zero(bench: Bench, place: Path, uploads: Uploads) -> list[dict[str, float]]:
    """An instance is ended after a second of nothing to do; then one file is dropped."""
    _apply(bench, place, idle=1)
    found: list[dict[str, float]] = []
    for number in range(5):
        _wait_for_none(bench)
        name = f"zero-{number}.png"
        before = uploads.answered
        uploads.upload(name)
        uploads.wait(before + 1)
        found.append({"seconds": uploads.seconds([name])[0], **_steps(uploads, name)})
    found.sort(key=lambda one: one["seconds"])
    bench.told("from zero: median seconds", found[2]["seconds"], 2)
    bench.told("from zero: slowest of five", found[-1]["seconds"])
    for step in ("until it was taken", "file fetched, instance started", "answered and written"):
        bench.told(f"  {step}", found[2][step])
    bench.told("  the paper: the first, then under 3 s", PAPER["from zero, first and later, seconds"])
    return found


def _steps(uploads: Uploads, name: str) -> dict[str, float]:
    job: dict[str, Any] = {"state": ""}
    while job["state"] != "SUCCEEDED":  # the answer is there a moment before the inbox says so
        job = uploads.client.get("/v1/jobs/", params={"key": name}).json()["jobs"][0]
    at = {step["state"]: datetime.fromisoformat(step["time"]).timestamp() for step in job["steps"]}
    begun = at["SUCCEEDED"] - job["ran_seconds"] if job["ran_seconds"] else at["RUNNING"]
    return {
        "until it was taken": at["STARTING"] - at["PENDING"],
        "file fetched, instance started": begun - at["STARTING"],
        "answered and written": at["SUCCEEDED"] - begun,
    }


def _wait_for_none(bench: Bench) -> None:
    time.sleep(4.0)  # what the dispatcher says of instances may be a second old
    state = bench.home / "dispatch" / "state.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told = json.loads(state.read_text())
        if not any(one["instances"] for one in told["functions"]):
            return
        time.sleep(0.1)
    sys.exit("the function's instance does not end")


def _apply(bench: Bench, place: Path, idle: float) -> None:
    file = place / "bench.yaml"
    file.write_text(DEFINITION.format(source=place / "in", target=place / "out", idle=idle))
    bench.run("-m", "volvox", "functions", "apply", str(file))
    bench.run("-m", "volvox", "up")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.2)
        state = bench.home / "dispatch" / "state.json"
        if state.is_file() and any(one["idle_seconds"] == idle for one in json.loads(state.read_text())["functions"]):
            return
    sys.exit("the function is not deployed")


def _status(bench: Bench) -> list[dict[str, Any]]:
    return json.loads(bench.run("-m", "volvox", "status", "--json")[1].stdout)["services"]


if __name__ == "__main__":
    sys.exit(main())
