"""Runtimes that fetch files themselves, wait for machines, or are called without us."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.volvox.dispatch.conftest import Site, Tame, dispatching
from volvox.dispatch import doing
from volvox.functions.definition import Function
from volvox.runtimes.interface import Call, Outcome


@dataclass
class Away(Tame):
    """A runtime that fetches from some places itself, and knows what became of some jobs."""

    fetches: bool = True
    reaches: bool = True
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    brought: list[bool] = field(default_factory=list)
    looked_for: list[str] = field(default_factory=list)

    def fetches_from(self, function: Function, place: str) -> bool:
        return self.reaches

    async def answered(self, name: str, job: str) -> Outcome | None:
        self.looked_for.append(job)
        kind = next(iter(self.outcomes), "")
        return self.outcomes.get(kind)

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        self.brought += [call.input is not None for call in calls]
        return await super().invoke(name, calls)


@pytest.mark.parametrize("reaches", [True, False])
def test_a_file_is_brought_where_the_runtime_does_not_reach_its_place(site: Site, reaches: bool) -> None:
    runtime = Away(reaches=reaches)

    async def check() -> None:
        async with dispatching(site, runtime) as here:
            here.drop("a.png")
            (job,) = await here.ended()
            assert (job.state, job.reason) == ("SUCCEEDED", "")
            assert runtime.brought == [not reaches] and runtime.looked_for == []

    asyncio.run(check())


def test_a_job_that_was_answered_without_us_is_entered_as_that_and_not_done_again(site: Site) -> None:
    told = ({"url": "s3://lake", "key": "out/a.png.json", "size": 7},)
    runtime = Away(outcomes={"": Outcome("", outputs=told)})

    async def check() -> None:
        async with dispatching(site, runtime, trigger="direct") as here:
            here.drop("a.png")
            (job,) = await here.ended()
            assert (job.state, job.outputs) == ("SUCCEEDED", told) and runtime.asked == []
            assert runtime.looked_for == [job.id]

    asyncio.run(check())


def test_one_that_failed_without_us_is_entered_with_the_reason(site: Site) -> None:
    runtime = Away(outcomes={"": Outcome("", "failed", "exit code 3", exit_code=3)})

    async def check() -> None:
        async with dispatching(site, runtime, trigger="direct") as here:
            here.drop("a.png")
            (job,) = await here.ended()
            assert (job.state, job.reason) == ("FAILED", "exit code 3") and runtime.asked == []
            assert job.error == {"kind": "failed", "exit_code": 3}

    asyncio.run(check())


def test_one_that_events_lost_is_done_now(site: Site) -> None:
    runtime = Away()

    async def check() -> None:
        async with dispatching(site, runtime, trigger="direct") as here:
            here.drop("a.png")
            (job,) = await here.ended()
            assert job.state == "SUCCEEDED" and runtime.asked == [["a.png"]]

    asyncio.run(check())


@pytest.mark.parametrize(("waits", "state"), [(0.0, "FAILED"), (60.0, "SUCCEEDED")])
def test_waiting_for_a_machine_is_not_the_call_s_own_time(
    site: Site, monkeypatch: pytest.MonkeyPatch, waits: float, state: str
) -> None:
    monkeypatch.setattr(doing, "_HUNG_SECONDS", 0.0)
    runtime = Away(seconds=1.2)
    runtime.waits_seconds = waits  # type: ignore[attr-defined]

    async def check() -> None:
        async with dispatching(site, runtime, timeout_seconds=0.2) as here:
            here.drop("a.png")
            (job,) = await here.ended()
            assert job.state == state

    asyncio.run(check())
