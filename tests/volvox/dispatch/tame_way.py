"""Runs as a dispatcher sees them, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.volvox.dispatch.conftest import Running, Tame
from volvox.errors import VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.inbox import Arrival, Job
from volvox.runtimes.bulk import Asked
from volvox.runtimes.interface import Outcome

BULK = {"least": 5, "on": "pool", "most": 100}


@dataclass(frozen=True)
class Run:
    """A run as Prefect would have it."""

    url: str


@dataclass
class TameWay:
    """Runs in this process: each answers every file of its list, unless the file's name tells it otherwise."""

    faults: list[Exception] = field(default_factory=list)
    refused: list[VolvoxError] = field(default_factory=list)
    ends: list[VolvoxError] = field(default_factory=list)
    going: asyncio.Event = field(default_factory=asyncio.Event)
    lists: dict[str, list[Job]] = field(default_factory=dict)
    begun: list[Asked] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    def keep(self, function: Function, jobs: Sequence[Job]) -> Asked:
        if self.faults:
            raise self.faults.pop(0)
        listing = digest_of([[job.id, job.change] for job in jobs])
        self.lists[listing] = [*jobs]
        return Asked(function, listing, "v1", "module")

    async def begin(self, asked: Asked) -> Any:
        if self.refused:
            raise self.refused.pop(0)
        self.begun.append(asked)
        return Run(f"http://prefect/runs/{asked.listing[:8]}-{asked.tries}")

    async def follow(self, run: Any, asked: Asked) -> AsyncGenerator[list[Outcome], None]:
        jobs = self.lists[asked.listing]
        yield []
        yield [self.outcome(job) for job in jobs[: len(jobs) // 2]]
        await self.going.wait()
        if self.ends:
            raise self.ends.pop(0)
        yield [self.outcome(job) for job in jobs]  # told twice, the first half

    def pass_over(self, asked: Asked, jobs: Sequence[str]) -> None:
        self.passed_over += jobs

    def outcome(self, job: Job) -> Outcome:
        if "broken" in job.key:
            return Outcome(job.id, "failed", "the model failed: it is no picture")
        if "gone" in job.key:
            return Outcome(job.id, "gone", "its instance ended")
        return Outcome(job.id, outputs=({"url": "file:///answers", "key": f"{job.key}.json", "size": 2},))


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volvox.dispatch.bulks._SETTLE_SECONDS", 0.2)
    monkeypatch.setattr("volvox.dispatch.bulks._LOOK_SECONDS", 0.05)
    monkeypatch.setattr("volvox.dispatch.bulks._AGAIN_SECONDS", 0.05)
    monkeypatch.setattr("volvox.dispatch.bulks._UNMADE_SECONDS", 0.2)


def drop(here: Running, names: Sequence[str], **more: Any) -> None:
    """Put files there and tell of all at once."""
    for name in names:
        (here.source / name).parent.mkdir(parents=True, exist_ok=True)
        (here.source / name).write_bytes(b"abc")
    here.inbox.record([Arrival(f"file://{here.source}", name, source="sweep", **more) for name in names])


def numbered(count: int, of: str = "file") -> list[str]:
    return [f"{of}-{number:03}.png" for number in range(count)]


def asked_of(runtime: Tame) -> set[str]:
    return {key for keys in runtime.asked for key in keys}


def states(jobs: Sequence[Job]) -> dict[str, int]:
    return {state: sum(job.state == state for job in jobs) for state in {job.state for job in jobs}}
