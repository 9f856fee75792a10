"""The model server against its peers: `python -m benchmarks.serving [--quick] [--only PEER] [--json]`.

Part A, a trivial module: `volvox serve` against DEEPaaS 2.6.0, which it replaces: requests, uploads, memory.
Part B, the digits: against LitServe, BentoML, MLflow's model server and plain FastAPI, which run the same ONNX file
with the module's own decoding and one thread, each with the best of the settings in `benchmarks.contestants.GRID` for
each concurrency (ours: with its defaults). The server has one core (all its processes), the client another.

Contestants take turns and sleep (SIGSTOP) in between; the figures are medians of rounds, the ratios medians of the
rounds' ratios. Answers are compared with ours before the timing and after it; refused and wrong ones do not count.
Every peer is installed into `.bench/peers` on first use. One that is missing counts as not measured, never as beaten.
Exit 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import contestants
from benchmarks.contestants import CACHE, Contestant, Missing
from benchmarks.report import Verdict, limits_of, show
from benchmarks.rounds import Entrant, Race, enter, race
from benchmarks.servers import Machine, NotStarted, machine

PEERS = ("deepaas", "fastapi", "litserve", "bentoml", "mlflow")
QUICK_PEERS = ("deepaas", "fastapi", "litserve")
UPLOAD_BYTES = 20 << 20
UPLOADS = 5
PICTURES = 32
TRIALS = 3
TRIAL_SECONDS = 1.0


@dataclass
class Serving:
    """One run of the benchmark: how long, with whom, and what it found."""

    machine: Machine
    peers: tuple[str, ...]
    quick: bool
    server: set[int]
    client: set[int]
    missing: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    races: dict[str, Race] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How often everybody is measured."""
        return 3 if self.quick else 7

    @property
    def seconds(self) -> float:
        """How long one measurement takes."""
        return 1.5 if self.quick else 3.0

    def enter(self, contestant: Contestant, cores: set[int], expected: list[Any] | None = None) -> Entrant:
        """Start one on its cores."""
        print(f"starting {contestant.name} {contestant.setting or ''}", flush=True)
        return enter(self.machine, contestant, cores, self.client, expected)

    @contextmanager
    def telling(self, peer: str) -> Iterator[None]:
        """Note why a peer is missing, and go on without it."""
        try:
            yield
        except (Missing, NotStarted, ValueError, subprocess.SubprocessError) as error:
            self.missing[peer] = str(error)
            print(f"{peer} is missing: {error}", flush=True)

    def close(self, entrants: dict[str, Entrant]) -> None:
        """End their servers."""
        for entrant in {id(entrant): entrant for entrant in entrants.values()}.values():
            entrant.server.end()


# -- Part A ------------------------------------------------------------------------------------------------------------


def part_a(bench: Serving, folder: Path) -> None:
    """The trivial module: on all cores, as a user has it, then on one core; memory; uploads."""
    site = contestants.write_trivial(folder / "site")
    everything = bench.server | bench.client
    for title, cores in (("all cores", everything), ("one core", bench.server)):
        entrants = {"volvox": bench.enter(contestants.trivial(site, "volvox"), cores)}
        expected = entrants["volvox"].expected
        # Not at its best with one worker only: the one that is faster counts.
        choices = [("deepaas", "deepaas", 1), ("deepaas, 2 workers", "deepaas", 2), ("fastapi", "fastapi", 1)]
        for label, peer, workers in choices:
            if peer in bench.peers and peer not in bench.missing and not (bench.quick and workers > 1):
                with bench.telling(peer):
                    entrants[label] = bench.enter(contestants.trivial(site, peer, workers), cores, expected)
        bench.races[title] = Race()
        if cores == everything:
            memory(bench, entrants)
            race(entrants, (1, 16), bench.rounds, bench.seconds, everything, bench.races[title])
        else:
            race(entrants, (16,), bench.rounds, bench.seconds, bench.client, bench.races[title])
        bench.close(entrants)
    if "deepaas" not in bench.peers or "deepaas" in bench.missing:
        return
    entrants = {
        peer: bench.enter(contestants.upload(site, peer, UPLOAD_BYTES), everything) for peer in ("volvox", "deepaas")
    }
    bench.races["uploads"] = Race()
    race(entrants, (1,), bench.rounds, 60, everything, bench.races["uploads"], count=UPLOADS)
    bench.close(entrants)


def memory(bench: Serving, entrants: dict[str, Entrant]) -> None:
    """What idle processes hold: the first one is the parent, the largest of the others the worker, if there are any."""
    for title, entrant in entrants.items():
        parent, *others = entrant.server.memory()
        worker = max(others, key=lambda process: process.pss, default=parent)
        for role, process in (("parent", parent), ("worker", worker)):
            bench.figures[f"{title} {role} rss"] = process.rss
            bench.figures[f"{title} {role} pss"] = process.pss
        bench.figures[f"{title} all pss"] = parent.pss + sum(process.pss for process in others)


# -- Part B ------------------------------------------------------------------------------------------------------------


def part_b(bench: Serving) -> None:
    """The digits: every peer at its best for each concurrency."""
    weights, pictures = trained()
    us = bench.enter(contestants.digits("volvox", weights, pictures, {}), bench.server)
    best = Best(CACHE / "best-settings.json", remembered=bench.quick)
    running: dict[str, dict[int, Entrant]] = {"volvox": dict.fromkeys((1, 16, 64), us)}
    for peer in bench.peers:
        if peer in contestants.GRID and peer not in bench.missing:
            with bench.telling(peer):
                bench.settings[peer] = best.of(bench, peer, weights, pictures, us)
                running[peer] = _at_its_best(bench, peer, weights, pictures, us)
    found = bench.races["digits"] = Race()
    for _ in range(bench.rounds):
        for concurrency in (1, 16, 64):
            turn = {title: entrants[concurrency] for title, entrants in running.items()}
            names = list(turn)
            start = len(found.samples["volvox", concurrency]) % len(names)
            turned = {name: turn[name] for name in names[start:] + names[:start]}
            race(turned, (concurrency,), 1, bench.seconds, bench.client, found)
    for peer in found.silent():
        bench.missing[peer] = "it gave no right answer in one of its turns"
        found.without(peer)
    for entrants in running.values():
        bench.close({str(concurrency): entrant for concurrency, entrant in entrants.items()})


def _at_its_best(
    bench: Serving, peer: str, weights: Path, pictures: list[bytes], us: Entrant
) -> dict[int, Entrant]:  # fmt: skip
    started: dict[str, Entrant] = {}
    found = {}
    for concurrency, setting in bench.settings[peer].items():
        key = json.dumps(setting)
        if key not in started:
            contestant = contestants.digits(peer, weights, pictures, setting)
            started[key] = bench.enter(contestant, bench.server, us.expected)
        found[concurrency] = started[key]
    return found


class Best:
    """The best of the settings of each peer, for each concurrency; quick runs take what the last full run found."""

    def __init__(self, file: Path, *, remembered: bool) -> None:
        """Read what the last full run found."""
        self.file, self.remembered = file, remembered
        self.known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def of(
        self, bench: Serving, peer: str, weights: Path, pictures: list[bytes], us: Entrant
    ) -> dict[int, dict[str, Any]]:
        """Concurrency -> setting: the lowest median latency for a lone client, else the most answers a second.

        Raises:
            Missing: If no setting works.
        """
        grid = contestants.GRID[peer]
        key = f"{peer}: {' '.join(contestants.REQUIREMENTS[peer])}: {json.dumps(grid)}"
        if self.remembered:
            usual = {str(at): setting for at, setting in contestants.USUAL[peer].items()}
            whose = "the last full run's best" if key in self.known else "the usual ones, not tried here"
            print(f"settings of {peer}: {whose}", flush=True)
            return {int(at): setting for at, setting in self.known.get(key, usual).items()}
        entrants: dict[str, Entrant] = {}
        for number, setting in enumerate(grid):
            try:
                contestant = contestants.digits(peer, weights, pictures, setting)
                entrants[str(number)] = bench.enter(contestant, bench.server, us.expected)
            except (NotStarted, ValueError) as error:  # one setting may not work; all of them: missing
                print(f"  does not work: {str(error)[-800:]}", flush=True)
        if not entrants:
            raise Missing(f"{peer} works with none of its settings")
        tried = Race()
        for concurrency in (1, 16, 64):  # one after the other: what batching learnt from many must not meet a lone one
            race(entrants, (concurrency,), TRIALS, TRIAL_SECONDS, bench.client, tried)
        bench.close(entrants)
        best = {}
        for concurrency in (1, 16, 64):
            figure = "p50" if concurrency == 1 else "rate"
            order = sorted(entrants, key=lambda title: tried.median(title, concurrency, figure))
            best[str(concurrency)] = grid[int(order[0] if concurrency == 1 else order[-1])]
        for title in entrants:
            rates = [f"c{at} {tried.median(title, at, 'rate'):.0f}/s" for at in (1, 16, 64)]
            print(f"  {peer} {grid[int(title)]}: {', '.join(rates)}", flush=True)
        self.known[key] = best
        self.file.write_text(json.dumps(self.known, indent=1))
        return {int(at): setting for at, setting in best.items()}


def trained() -> tuple[Path, list[bytes]]:
    """The weights of a digits classifier, trained once, and pictures to ask about."""
    from volvox.data.demo import write_digits

    place = CACHE / "digits"
    images = write_digits(place / "data" / "images")
    if not (place / "weights").is_dir():
        from image_classifier import api

        print("training the digits classifier", flush=True)
        with tempfile.TemporaryDirectory(dir=place) as output:
            api.train(data=str(place / "data"), output=f"{output}/weights", epochs=12)
            shutil.move(f"{output}/weights", place / "weights")
    files = sorted(images.glob("*/*.png"))
    return place / "weights", [file.read_bytes() for file in files[:: len(files) // PICTURES][:PICTURES]]


# -- The whole ---------------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer peers, remembered settings")
    parser.add_argument("--only", choices=PEERS, action="append", help="compare with this peer only")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("needs two cores, one for the servers and one for the client")
    CACHE.mkdir(exist_ok=True)
    peers = tuple(given.only or (QUICK_PEERS if given.quick else PEERS))
    with tempfile.TemporaryDirectory(prefix="volvox-bench-") as place, machine(Path(place)) as here:
        bench = Serving(here, peers, given.quick, {cores[0]}, {cores[1]})
        part_a(bench, Path(place))
        part_b(bench)
    verdicts = limits_of(bench.races, bench.figures, bench.missing)
    show(bench.races, bench.figures, bench.settings, bench.missing, verdicts)
    if given.json:
        print(json.dumps(_as_json(bench, verdicts)))
    return int(any(verdict.reached is False for verdict in verdicts))


def _as_json(bench: Serving, verdicts: list[Verdict]) -> dict[str, Any]:
    return {
        **{verdict.key: verdict.figure for verdict in verdicts},
        "limits": {verdict.key: verdict.reached for verdict in verdicts},
        "memory": bench.figures,
        "settings": bench.settings,
        "missing": bench.missing,
        **{title: race.as_json() for title, race in bench.races.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
