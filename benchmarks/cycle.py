"""The demo cycle against its limits and against the same steps as one plain script: `python -m benchmarks.cycle`.

Everything runs in a VOLVOX_HOME of its own, on the scanned digits, without a container engine. `--pairs N` sets how
often script and cycle are compared (each pair with another seed, so that nothing is reused).

Limits (exit 1 where one is broken): 90 s from nothing running, 60 s with the stack up, 10 s of orchestration, 10 s
for an unchanged second run with the stack up and after `volvox down`, 97 % accuracy on the held-out part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench

PAIRS = 2
REPEATS = 3


def _cycle(bench: Bench, name: str, seed: int) -> tuple[float, dict[str, Any]]:
    """Wall seconds of one `volvox cycle`, and its record."""
    seconds, done = bench.run("-m", "volvox", "cycle", "--demo", "--json", "--name", name, "--seed", str(seed))
    return seconds, json.loads(done.stdout)


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory(prefix="volvox-bench-") as place:
        bench = Bench(Path(place, "home"), {"DOCKER_HOST": "unix:///nowhere"})
        try:
            _measure(bench, pairs)
        finally:
            bench.run("-m", "volvox", "down")
    print(f"over the limit: {'; '.join(bench.broken) or 'nothing'}")
    return int(bool(bench.broken))


def _measure(bench: Bench, pairs: int) -> None:
    seconds, cold = _cycle(bench, "cold", 0)
    bench.told("demo from nothing running, s", seconds, 90)
    bench.told("  of which orchestration (servers starting included), s", cold["orchestration_seconds"])
    bench.told("  errors on the held-out part, %", 100 * (1 - cold["evaluation"]["metrics"]["accuracy"]), 3)
    bench.run("-m", "volvox", "up")  # waits for what the first run did not need

    images, cycles, plains, said = str(bench.home / "demo" / "digits"), [], [], []
    for pair in range(1, pairs + 1):
        seconds, made = _cycle(bench, "warm", pair)
        cycles.append(seconds)
        said.append(made["orchestration_seconds"])
        seconds, _ = bench.run("-m", "benchmarks.plain", images, f"plain-{pair}", str(pair))
        plains.append(seconds)
    bench.told("demo with the stack up, s (median)", statistics.median(cycles), 60)
    bench.told("the same steps as one plain script, s (median)", statistics.median(plains))
    bench.told(
        "  cycle less script, s (median of pairs)",
        statistics.median(cycle - plain for cycle, plain in zip(cycles, plains, strict=True)),
    )
    bench.told("  orchestration as the cycle tells it, s (median)", statistics.median(said), 10)

    again = [_cycle(bench, "warm", pairs) for _ in range(REPEATS)]
    assert all(stage["reused"] for _, made in again for stage in made["stages"]), "every stage is reused"
    bench.told("unchanged second run, stack up, s (median)", statistics.median(seconds for seconds, _ in again), 10)
    bench.run("-m", "volvox", "down")
    seconds, made = _cycle(bench, "warm", pairs)
    assert all(stage["reused"] for stage in made["stages"] if stage["stage"] != "serving"), "nothing is made again"
    bench.told("unchanged second run after `volvox down`, s", seconds, 10)


if __name__ == "__main__":
    sys.exit(main())
