"""What becomes of the files of a run that cannot begin, ends beneath it, is cancelled, or changes its dispatcher."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.volvox.dispatch.conftest import Running, Site, Tame, dispatching
from tests.volvox.dispatch.tame_way import BULK, TameWay, asked_of, drop, numbered, quickly, states
from volvox.errors import (
    InvalidInput,
    ModuleFailed,
    NotFound,
    PoolDown,
    StageCancelled,
    StageCrashed,
    Unavailable,
    VolvoxError,
)
from volvox.results import ENDED_WITH_ITS_SERVER

__all__ = ["quickly"]  # a fixture

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.mark.parametrize("error", [PoolDown, NotFound, InvalidInput])
def test_without_a_run_the_files_are_answered_by_instances(site: Site, error: type[VolvoxError]) -> None:
    async def check() -> None:
        way = TameWay(refused=[error("no worker runs it")] * 100)
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            jobs = await here.ended(10)
            assert way.begun == []
            assert asked_of(here.runtime) == {*numbered(10)}
            assert {job.attempts for job in jobs} == {1}, "that was no attempt of theirs"
            assert "no run could begin: no worker runs it" in [step.reason for step in jobs[0].steps]
            await here.until(lambda: not [*(site.home.root / "dispatch" / "bulk").iterdir()])

    asyncio.run(check())


@pytest.mark.parametrize("error", [Unavailable("the store does not answer"), KeyError("a fault of ours")])
def test_without_a_list_the_files_are_answered_by_instances(site: Site, error: Exception) -> None:
    async def check() -> None:
        way = TameWay(faults=[error])
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            assert states(await here.ended(10)) == {"SUCCEEDED": 10}
            assert asked_of(here.runtime) == {*numbered(10)}

    asyncio.run(check())


@pytest.mark.parametrize("error", [Unavailable, NotFound])
def test_a_prefect_that_was_started_a_moment_ago_is_asked_again(site: Site, error: type[VolvoxError]) -> None:
    async def check() -> None:
        way = TameWay(refused=[error("it does not answer, or has no deployments yet")] * 3)
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            await here.ended(10)
            assert len(way.begun) == 1
            assert here.runtime.asked == []

    asyncio.run(check())


def test_a_run_that_what_it_ran_on_took_down_is_begun_again_under_another_key(site: Site) -> None:
    async def check() -> None:
        way = TameWay(ends=[StageCrashed("the container is gone")])
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            jobs = await here.ended(10)
            assert [(asked.tries, asked.begun) for asked in way.begun] == [(1, False), (2, False)]
            assert {asked.listing for asked in way.begun} == {way.begun[0].listing}
            assert states(jobs) == {"SUCCEEDED": 10}
            assert here.runtime.asked == []
            last = jobs[-1].steps[-2]
            assert last.state == "RUNNING"
            assert last.reason.endswith(f"{way.begun[0].listing[:8]}-2")

    asyncio.run(check())


def test_a_run_that_goes_down_always_leaves_its_files_to_instances(site: Site) -> None:
    async def check() -> None:
        way = TameWay(ends=[StageCrashed("out of memory")] * 9)
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK, retries={"first_pause_seconds": 0.05}) as here:
            drop(here, numbered(10))
            jobs = await here.ended(10)
            assert [asked.tries for asked in way.begun] == [1, 2, 3], "the first one brought something"
            assert states(jobs) == {"SUCCEEDED": 10}
            assert asked_of(here.runtime) == {*numbered(10)[5:]}, "the others were answered by the run"

    asyncio.run(check())


def test_a_run_that_fails_as_a_whole_is_no_files_fault(site: Site) -> None:
    async def check() -> None:
        way = TameWay(ends=[ModuleFailed("batch-inference on 'pool': the model did not start")])
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK, retries={"first_pause_seconds": 0.05}) as here:
            drop(here, numbered(10))
            jobs = await here.ended(10)
            assert states(jobs) == {"SUCCEEDED": 10}
            assert len(way.begun) == 1
            told = [step.reason for step in jobs[-1].steps if step.state == "PENDING"]
            assert "the model did not start; attempt 2 of 4 follows" in told[-1]

    asyncio.run(check())


def test_a_cancelled_run_fails_what_it_has_not_answered(site: Site) -> None:
    async def check() -> None:
        way = TameWay(ends=[StageCancelled("batch-inference on 'pool' was cancelled: in Prefect")])
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            jobs = await here.ended(10)
            assert states(jobs) == {"SUCCEEDED": 5, "FAILED": 5}
            failed = next(job for job in jobs if job.state == "FAILED")
            assert failed.error == {"kind": "cancelled"}
            assert "http://prefect/runs/" in failed.reason

    asyncio.run(check())


def test_a_run_that_ended_with_the_whole_stack_is_begun_again(site: Site) -> None:
    async def check() -> None:
        way = TameWay(ends=[StageCancelled(f"batch-inference was cancelled: {ENDED_WITH_ITS_SERVER}")])
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            assert states(await here.ended(10)) == {"SUCCEEDED": 10}
            assert [asked.tries for asked in way.begun] == [1, 2]

    asyncio.run(check())


async def half_answered(here: Running, site: Site) -> None:
    """Ten files are dropped, and their run has answered five."""
    drop(here, numbered(10))
    await here.until(lambda: len(site.inbox.jobs(states=["RUNNING"])) == 5)


def test_a_job_of_a_run_is_cancelled_at_once_and_the_run_passes_over_it(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            await half_answered(here, site)
            job = site.inbox.jobs(states=["RUNNING"])[0]
            site.inbox.cancel(job.id)
            await here.until(lambda: site.inbox.job(job.id).state == "FAILED")
            assert site.inbox.job(job.id).error == {"kind": "cancelled"}
            assert "may be written all the same" in site.inbox.job(job.id).reason
            await here.until(lambda: way.passed_over == [job.id])
            way.going.set()
            assert states(await here.ended(10)) == {"SUCCEEDED": 9, "FAILED": 1}, "what the run tells later is too late"

    asyncio.run(check())


def test_the_next_dispatcher_follows_the_same_run(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            await half_answered(here, site)
        under_way = site.inbox.jobs(states=["RUNNING"])
        assert len(under_way) == 5, "the run goes on, and its jobs with it"
        (kept,) = (site.home.root / "dispatch" / "bulk").iterdir()
        assert {*json.loads(kept.read_text())["ids"]} >= {job.id for job in under_way}
        runtime = Tame()
        async with dispatching(site, runtime, way=way, bulk=BULK) as here:
            await here.until(lambda: len(way.begun) == 2)
            assert way.begun[1].listing == way.begun[0].listing
            assert (way.begun[1].tries, way.begun[1].begun) == (1, True), "the same run, whoever would start one now"
            way.going.set()
            jobs = await here.ended(10)
            await here.until(lambda: not kept.exists())
        assert states(jobs) == {"SUCCEEDED": 10}
        assert {job.attempts for job in jobs} == {1}
        assert [step.state for step in jobs[-1].steps].count("RUNNING") == 1
        assert runtime.asked == []

    asyncio.run(check())


def test_a_list_that_cannot_be_read_is_put_aside_and_its_jobs_are_begun_again(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            await half_answered(here, site)
        (kept,) = (site.home.root / "dispatch" / "bulk").iterdir()
        kept.write_text("{")
        runtime = Tame()
        async with dispatching(site, runtime, way=way) as here:
            assert states(await here.ended(10)) == {"SUCCEEDED": 10}
        assert len(asked_of(runtime)) == 5
        assert [path.suffix for path in kept.parent.iterdir()] == [".unreadable"]

    asyncio.run(check())


def test_what_was_cancelled_while_there_was_no_dispatcher_is_cancelled_by_the_next_one(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            await half_answered(here, site)
        job = site.inbox.jobs(states=["RUNNING"])[0]
        site.inbox.cancel(job.id)
        async with dispatching(site, way=way, bulk=BULK) as here:
            await here.until(lambda: way.passed_over == [job.id])
            assert site.inbox.job(job.id).error == {"kind": "cancelled"}
            way.going.set()
            assert states(await here.ended(10)) == {"SUCCEEDED": 9, "FAILED": 1}

    asyncio.run(check())
