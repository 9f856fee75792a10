"""Contestants take turns: each round measures every one of them, and figures are compared within a round.

A machine that others use too is at times half as fast; medians of the rounds' own ratios hardly notice.
"""

from __future__ import annotations

import base64
import json
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.servers import Machine, Server

WARM_SECONDS = 0.5
_TOLERANCE = 1e-4  # networks compute batches of different sizes in a different order


@dataclass(frozen=True)
class Sample:
    """One measurement: right answers a second, seconds, processor seconds a request, and what went wrong."""

    rate: float
    p50: float
    p99: float
    cpu: float
    client_share: float
    wrong: int
    refused: int


@dataclass
class Entrant:
    """A contestant whose server runs, asleep while it is not its turn."""

    contestant: Contestant
    server: Server
    expected: list[Any]

    def measured(self, concurrency: int, seconds: float, client: set[int], count: int = 0) -> Sample:
        """Wake it, warm it, measure it, put it to sleep."""
        self.server.wake()
        try:
            began = self.server.cpu_seconds()
            told = load(self.contestant.requests, self.server.port, concurrency, seconds, client, count)
            used = self.server.cpu_seconds() - began
        finally:
            self.server.sleep()
        right = wrong = 0
        for asked, body, times in told["bodies"]:
            if self._right(asked, base64.b64decode(body)):
                right += times
            else:
                wrong += times
        refused = told["broken"] + sum(times for status, times in told["statuses"].items() if status != "200")
        return Sample(
            right / told["seconds"], told["p50"], told["p99"], used / max(1, told["all"]), told["share"], wrong, refused
        )

    def _right(self, asked: int, body: bytes) -> bool:
        try:
            return same(self.contestant.unwrapped(json.loads(body)), self.expected[asked])
        except (ValueError, LookupError, TypeError):
            return False


@dataclass
class Race:
    """All samples: contestant's title and concurrency -> one sample a round."""

    samples: dict[tuple[str, int], list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def median(self, title: str, concurrency: int, figure: str) -> float:
        """The median of a figure over the rounds; NaN if it was not measured."""
        found = [getattr(sample, figure) for sample in self.samples.get((title, concurrency), [])]
        return statistics.median(found) if found else math.nan

    def ratio(self, title: str, other: str, concurrency: int, figure: str) -> float:
        """The median of the rounds' ratios; NaN if one of them was not measured."""
        pairs = zip(
            self.samples.get((title, concurrency), []), self.samples.get((other, concurrency), []), strict=False
        )
        ratios = [_over(getattr(mine, figure), getattr(theirs, figure)) for mine, theirs in pairs]
        return statistics.median(ratios) if ratios else math.nan

    def silent(self) -> list[str]:
        """Those that once gave no right answer in their turn: something is wrong with them, or with how they run."""
        return sorted({title for (title, _), found in self.samples.items() if not all(one.rate for one in found)})

    def without(self, title: str) -> None:
        """Forget a contestant."""
        for key in [key for key in self.samples if key[0] == title]:
            del self.samples[key]

    def as_json(self) -> dict[str, dict[str, float]]:
        """Medians, for a machine."""
        figures = ("rate", "p50", "p99", "cpu", "client_share", "wrong", "refused")
        return {
            f"{title} c{concurrency}": {figure: self.median(title, concurrency, figure) for figure in figures}
            for title, concurrency in self.samples
        }


def _over(mine: float, theirs: float) -> float:
    if theirs:
        return mine / theirs
    return math.inf if mine else math.nan


def same(said: Any, expected: Any) -> bool:
    """Whether two answers are equal, numbers to one part in ten thousand of 1."""
    if isinstance(expected, float) and isinstance(said, float):
        return abs(said - expected) <= _TOLERANCE
    if isinstance(expected, dict) and isinstance(said, dict):
        return said.keys() == expected.keys() and all(same(said[key], expected[key]) for key in expected)
    if isinstance(expected, list) and isinstance(said, list):
        return len(said) == len(expected) and all(map(same, said, expected))
    return said == expected


def load(
    requests: list[bytes], port: int, concurrency: int, seconds: float, client: set[int], count: int = 0,
    warm: float = WARM_SECONDS,
) -> dict[str, Any]:  # fmt: skip
    """What the client of `benchmarks.load` measures, on cores of its own."""
    job = {
        "port": port, "concurrency": concurrency, "seconds": seconds, "warm_seconds": warm, "count": count,
        "requests": [base64.b64encode(request).decode() for request in requests],
    }  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, sorted(client))), sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(job), capture_output=True, text=True, check=False, timeout=seconds + warm + 120,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the client failed: {done.stderr[-800:]}")
    return json.loads(done.stdout)


def answers_of(contestant: Contestant, port: int, client: set[int]) -> list[Any]:
    """One answer to each question, unwrapped; None where it was refused."""
    found: list[Any] = [None] * len(contestant.requests)
    told = load(contestant.requests, port, 1, 60, client, len(contestant.requests) + 1, warm=0)
    for asked, body, _ in told["bodies"]:
        found[asked] = contestant.unwrapped(json.loads(base64.b64decode(body)))
    return found


def enter(
    machine: Machine, contestant: Contestant, cores: set[int], client: set[int], expected: list[Any] | None
) -> Entrant:
    """Start a contestant and compare its answers with those expected (None: its own are what is expected).

    Raises:
        NotStarted: If it does not answer.
        ValueError: If it answers something else.
    """

    def ready(port: int) -> bool:
        first = contestant.requests[:1]
        try:
            return "200" in load(first, port, 1, 20, client, 1, warm=0)["statuses"]
        except RuntimeError:
            return False

    server = machine.start(contestant.name, contestant.command, contestant.environment, cores, ready)
    said = answers_of(contestant, server.port, client)
    for one, wanted in zip(said, expected or said, strict=True):
        if one is None or not same(one, wanted):
            raise ValueError(f"{contestant.name} says {one!r}, not {wanted!r}")
    server.sleep()
    return Entrant(contestant, server, expected or said)


def race(
    entrants: dict[str, Entrant], concurrencies: Iterable[int], rounds: int, seconds: float, client: set[int],
    into: Race, *, count: int = 0,
) -> None:  # fmt: skip
    """Let them take turns; the one that begins is another in every round."""
    titles = list(entrants)
    for turn in range(rounds):
        for concurrency in concurrencies:
            for title in titles[turn % len(titles) :] + titles[: turn % len(titles)]:
                sample = entrants[title].measured(concurrency, seconds, client, count)
                into.samples[title, concurrency].append(sample)
