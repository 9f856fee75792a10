"""Which files go to one run, what becomes of them, and what stays with the instances."""

from __future__ import annotations

import asyncio

import pytest

from tests.volvox.dispatch.conftest import Site, dispatching
from tests.volvox.dispatch.tame_way import BULK, TameWay, asked_of, drop, numbered, quickly, states
from volvox.dispatch.calls import call, place_for
from volvox.functions import registry

__all__ = ["quickly"]  # a fixture

pytestmark = pytest.mark.usefixtures("quickly")


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


def test_of_a_function_that_is_removed_nothing_gathers_and_its_run_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        way = TameWay()
        async with dispatching(site, way=way, bulk=BULK) as here:
            drop(here, numbered(10))
            await here.until(lambda: way.begun)
            monkeypatch.setattr("volvox.dispatch.bulks._SETTLE_SECONDS", 60.0)
            drop(here, numbered(10, "late"))
            await here.until(lambda: here.dispatcher._bulks.gathering("f") == 10)
            await here.dispatcher.remove("f")
            assert here.dispatcher._bulks.gathering("f") == 0
            assert here.dispatcher._bulks.next_look > 60
            way.going.set()
            assert states(await here.ended(10)) == {"SUCCEEDED": 10}
            assert site.inbox.runnable("f", 100) == 10

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
