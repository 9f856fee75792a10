"""Which files go to one run, what becomes of them, and what stays with the instances."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.volvox.dispatch.conftest import Running, Site, Tame, dispatching
from tests.volvox.dispatch.tame_way import TameWay
from volvox.dispatch.calls import call, place_for
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
from volvox.functions import registry
from volvox.inbox import Arrival, Job
from volvox.results import ENDED_WITH_ITS_SERVER

BULK = {"least": 5, "on": "pool", "most": 100}


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_many_files_that_wait_are_one_run_and_each_job_says_which(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, [*numbered(20), "broken.png"])
            jobs = {job.key: job for job in await here.ended(21)}
            assert len(way.begun) == 1
            assert here.runtime.asked == []
            broken = jobs.pop("broken.png")
            assert (broken.state, broken.reason) == ("FAILED", "the model failed: it is no picture")
            assert broken.error == {"kind": "failed"}
            for key, job in jobs.items():
                assert (job.state, job.attempts, job.function_version) == ("SUCCEEDED", 1, "v1")
                assert job.outputs == ({"url": "file:///answers", "key": f"{key}.json", "size": 2},)
                told = [f"{step.state} {step.reason}".strip() for step in job.steps]
                url = f"http://prefect/runs/{way.begun[0].listing[:8]}-1"
                assert told == [
                    "PENDING", "RUNNABLE", "STARTING",
                    f"STARTING one of 21 files for batch-inference on 'pool': {url} (it waits for the pool)",
                    f"RUNNING one of 21 files for batch-inference on 'pool': {url}", "SUCCEEDED",
                ]  # fmt: skip
            await here.until(lambda: not [*(site.home.root / "dispatch" / "bulk").iterdir()])

    asyncio.run(check())


def test_what_comes_while_a_drop_gathers_is_of_the_same_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volvox.dispatch.bulks._SETTLE_SECONDS", 2.0)

    async def check() -> None:
        way = TameWay()
        way.going.set()
        async with dispatching(site, way=way, bulk=BULK) as here:
            for start in range(0, 40, 8):
                drop(here, numbered(40)[start : start + 8])
                await asyncio.sleep(0.1)
            await here.ended(40)
            assert [len(jobs) for jobs in way.lists.values()] == [40]

    asyncio.run(check())


def test_fewer_files_go_to_the_instances_as_ever(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(4))
            await here.ended(4)
            assert asked_of(here.runtime) == {*numbered(4)}
            assert way.begun == []

    asyncio.run(check())


def test_without_bulk_nothing_gathers(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way) as here:
            drop(here, numbered(20))
            await here.ended(20)
            assert way.begun == []

    asyncio.run(check())


def test_other_users_single_files_are_answered_while_the_drop_of_one_is_under_way(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(30, "ann"), user="ann")
            drop(here, numbered(3, "bob"), user="bob")
            await here.until(lambda: len(site.inbox.jobs(user="bob", states=["SUCCEEDED"])) == 3)
            await here.until(lambda: way.begun)
            drop(here, numbered(4, "more"), user="bob")
            drop(here, numbered(2, "late"), user="ann")
            await here.until(lambda: len(asked_of(here.runtime)) == 9)
            assert asked_of(here.runtime) == {*numbered(3, "bob"), *numbered(4, "more"), *numbered(2, "late")}
            assert [{job.user for job in jobs} for jobs in way.lists.values()] == [{"ann"}]
            way.going.set()
            await here.ended(39)

    asyncio.run(check())


def test_a_call_is_answered_at_once_though_files_of_nobody_gather(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volvox.dispatch.bulks._SETTLE_SECONDS", 60.0)

    async def check() -> None:
        async with dispatching(site, way=TameWay(), bulk=BULK) as here:
            drop(here, numbered(10))
            await here.until(lambda: site.inbox.runnable("f", 10) == 10)
            registry.apply(site.home, here.dispatcher.lanes["f"].applied.function)
            handed = place_for(site.home, "asked.png")
            handed.path.write_bytes(b"abc")
            job = call(site.home, site.inbox, "f", handed)
            await here.until(lambda: site.inbox.job(job.id).state == "SUCCEEDED")
            assert len(here.runtime.asked) == 1
            assert site.inbox.runnable("f", 10) == 10

    asyncio.run(check())


def test_a_run_has_no_more_files_than_stated_and_the_rest_goes_on(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk={**BULK, "most": 10}) as here:
            drop(here, numbered(27))
            await here.until(lambda: len(way.begun) == 2)
            await here.until(lambda: len(asked_of(here.runtime)) == 7)
            assert [len(jobs) for jobs in way.lists.values()] == [10, 10]
            way.going.set()
            assert states(await here.ended(27)) == {"SUCCEEDED": 27}

    asyncio.run(check())


def test_what_a_run_could_not_help_is_tried_again_by_an_instance(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        way.going.set()
        names = numbered(10, "gone")
        async with dispatching(site, way=way, bulk=BULK, retries={"first_pause_seconds": 0.05}) as here:
            drop(here, names)
            jobs = await here.ended(10)
            assert states(jobs) == {"SUCCEEDED": 10}
            assert {job.attempts for job in jobs} == {2}
            assert asked_of(here.runtime) == {*names}
            assert len(way.begun) == 1, "what was tried before does not gather again"

    asyncio.run(check())


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


def test_a_job_of_a_run_is_cancelled_at_once_and_the_run_passes_over_it(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            await here.until(lambda: len(site.inbox.jobs(states=["RUNNING"])) == 5)
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
            drop(here, numbered(10))
            await here.until(lambda: len(site.inbox.jobs(states=["RUNNING"])) == 5)
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
            drop(here, numbered(10))
            await here.until(lambda: len(site.inbox.jobs(states=["RUNNING"])) == 5)
        (kept,) = (site.home.root / "dispatch" / "bulk").iterdir()
        kept.write_text("{")
        runtime = Tame()
        async with dispatching(site, runtime, way=way) as here:
            assert states(await here.ended(10)) == {"SUCCEEDED": 10}
        assert len(asked_of(runtime)) == 5
        assert [path.suffix for path in kept.parent.iterdir()] == [".unreadable"]

    asyncio.run(check())


def test_a_large_drop_of_many_lists_is_answered_whole(site: Site) -> None:
    async def check() -> None:
        way = TameWay()
        way.going.set()
        async with dispatching(site, way=way, bulk={**BULK, "most": 1000}) as here:
            drop(here, numbered(1200))
            jobs = await here.ended(1200, seconds=60)
            assert states(jobs) == {"SUCCEEDED": 1200}
            assert sum(map(len, way.lists.values())) + len(asked_of(here.runtime)) == 1200
            assert max(map(len, way.lists.values())) == 1000

    asyncio.run(check())
