from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.volvox.dispatch.conftest import Site, Tame, dispatching, function, opened
from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.doing import Applied
from volvox.dispatch.work import work_of
from volvox.errors import InvalidInput
from volvox.inbox import Arrival, Job, NewJob
from volvox.places import open_place, split


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "sub/folder/a.png",
        "with space.png",
        "ünïcödé-日本.png",
        "a+b%2Fc%20d.png",
        "no suffix",
        ".dotted",
        "x" * 200,
    ],
)
def test_a_file_is_answered_once_under_a_name_that_tells_whose_answer_it_is(site: Site, name: str) -> None:
    async def check() -> None:
        async with dispatching(site) as here:
            here.drop(name)
            (job,) = await here.ended()
            assert (job.state, job.key) == ("SUCCEEDED", name)
            assert here.answers() == {f"{name}.{job.id[:8]}.json": {"size": 3}}
            assert job.outputs == (
                {"url": f"file://{here.target}", "key": f"{name}.{job.id[:8]}.json", "size": len('{"size": 3}')},
            )
            here.tell(name)
            here.tell(name)
            await asyncio.sleep(0.3)
            assert len(site.inbox.jobs()) == 1, "told again, it is the same job"
            assert not work_of(site.home, job.id).folder.exists()
            assert work_of(site.home, job.id).log.read_text().startswith("asked about")

    asyncio.run(check())


def test_the_longest_name_that_a_disk_takes_has_an_answer_too(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site) as here:
            here.drop("ü" * 127)
            (job,) = await here.ended()
            (name,) = here.answers()
            assert job.state == "SUCCEEDED"
            assert name.endswith(f"ü.{job.id[:8]}.json")
            assert len(name.encode()) <= 255

    asyncio.run(check())


def test_other_bytes_under_the_same_name_are_another_job(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site) as here:
            here.drop("a.png", b"one")
            await here.ended()
            here.drop("a.png", b"other")
            await here.ended(2)
            assert sorted(told["size"] for told in here.answers().values()) == [3, 5]

    asyncio.run(check())


def test_files_that_wait_together_go_to_an_instance_together(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site, Tame(seconds=0.05), scaling={"batch": 4}) as here:
            for number in range(20):
                here.drop(f"{number}.png")
            await here.ended(20)
            assert max(map(len, here.runtime.asked)) > 1
            assert max(map(len, here.runtime.asked)) <= 4
            assert sorted(key for asked in here.runtime.asked for key in asked) == sorted(f"{n}.png" for n in range(20))

    asyncio.run(check())


def test_what_an_instance_took_down_with_it_is_tried_again_with_pauses(site: Site) -> None:
    async def check() -> None:
        runtime = Tame(troubles={"a.png": 2, "never.png": 99})
        retries = {"attempts": 3, "first_pause_seconds": 0.05}
        async with dispatching(site, runtime, retries=retries) as here:
            here.drop("a.png")
            here.drop("never.png")
            jobs = {job.key: job for job in await here.ended(2)}
            assert (jobs["a.png"].state, jobs["a.png"].attempts) == ("SUCCEEDED", 3)
            assert (jobs["never.png"].state, jobs["never.png"].error) == ("FAILED", {"kind": "gone"})
            assert jobs["never.png"].reason == "its instance ended (after 3 attempts)"
            pending = [step for step in jobs["a.png"].steps if step.state == "PENDING" and step.reason]
            assert len(pending) == 2
            assert "attempt 2 of 3 follows in" in pending[0].reason

    asyncio.run(check())


def test_what_the_script_refuses_is_not_tried_again_and_the_rest_goes_on(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site) as here:
            here.drop("exit3.png")
            here.drop("b.png")
            jobs = {job.key: job for job in await here.ended(2)}
            assert jobs["exit3.png"].error == {"kind": "failed", "exit_code": 3}
            assert "exit code 3" in jobs["exit3.png"].reason
            assert jobs["b.png"].state == "SUCCEEDED"
            site.inbox.retry(jobs["exit3.png"].id)
            await here.until(lambda: len(here.runtime.asked) >= 3)

    asyncio.run(check())


def test_a_running_job_is_cancelled_alone(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site, scaling={"max_scale": 2, "batch": 1}) as here:
            here.drop("slow.png")
            here.drop("b.png")
            await here.until(lambda: site.inbox.jobs(states=["RUNNING"]))
            (slow,) = site.inbox.jobs(key="slow")
            site.inbox.cancel(slow.id)
            jobs = {job.key: job for job in await here.ended(2)}
            assert jobs["slow.png"].error == {"kind": "cancelled"}
            assert jobs["b.png"].state == "SUCCEEDED"
            assert list(here.answers()) == [f"b.png.{jobs['b.png'].id[:8]}.json"]

    asyncio.run(check())


@pytest.mark.parametrize("key", ["../etc/passwd", "a/../../b", "a\0b", "x" * 1100, "a//b"])
def test_a_name_that_no_place_holds_is_a_job_that_failed_with_the_reason(site: Site, key: str) -> None:
    async def check() -> None:
        async with dispatching(site) as here:
            here.tell(key)
            (job,) = await here.ended()
            assert (job.state, job.key, job.error) == ("FAILED", key, {"kind": "refused"})
            assert job.reason
            assert here.runtime.asked == []

    asyncio.run(check())


def test_a_file_told_of_by_an_outer_folder_is_the_same_job(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site) as here:
            here.drop("a.png")
            await here.ended()
            site.inbox.record([Arrival(f"file://{site.source.parent}", f"{site.source.name}/a.png")])
            await here.until(lambda: site.inbox.arrivals_waiting() == 0)
            assert len(site.inbox.jobs()) == 1

    asyncio.run(check())


def test_an_object_that_is_gone_or_nobody_answers_is_no_job(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site) as here:
            here.tell("never there.png")
            site.inbox.record([Arrival("s3://somebody", "else.png")])
            await here.until(lambda: site.inbox.arrivals_waiting() == 0)
            assert site.inbox.jobs() == []

    asyncio.run(check())


def test_a_file_that_is_removed_before_its_turn_fails_with_a_sentence(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site, scaling={"batch": 1}) as here:
            here.drop("slow.png")
            here.drop("slow too.png")
            await here.until(lambda: len(site.inbox.jobs(states=["RUNNING"])) == 2)
            here.drop("c.png")
            await here.until(lambda: site.inbox.jobs(key="c.png"))
            (here.source / "c.png").unlink()
            for job in site.inbox.jobs(key="slow"):
                site.inbox.cancel(job.id)
            jobs = {job.key: job for job in await here.ended(3)}
            assert jobs["c.png"].error == {"kind": "missing"}
            assert "c.png" in jobs["c.png"].reason

    asyncio.run(check())


def test_what_is_under_way_is_given_back_when_the_dispatcher_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volvox.dispatch.dispatcher._END_SECONDS", 0.1)

    async def check() -> None:
        async with dispatching(site) as here:
            here.drop("slow.png")
            await here.until(lambda: site.inbox.jobs(states=["RUNNING"]))
        (job,) = site.inbox.jobs()
        assert (job.state, job.attempts, job.reason) == ("RUNNABLE", 0, "its dispatcher ended")

    asyncio.run(check())


def taken_by_one_that_is_dead(site: Site) -> Job:
    """A job that a dispatcher had begun when it was killed."""
    (site.source / "a.png").write_bytes(b"abc")
    place = f"file://{site.source}"
    found = open_place(place).find("a.png")
    assert found is not None
    site.inbox.enter([NewJob("f", place, "a.png", found.version)])
    (job,) = site.inbox.take("f", 1, "one that is dead")
    return job


def test_answers_of_a_killed_dispatcher_are_published_not_made_again(site: Site) -> None:
    """It was killed after the answer and before it was published; the next one finds `done.json`."""

    async def check() -> None:
        job = taken_by_one_that_is_dead(site)
        work = work_of(site.home, job.id)
        work.begin()
        (work.output / "a.png.json").write_text('{"size": 42}')
        work.answered({"job": job.id})
        async with dispatching(site) as here:
            (done,) = await here.ended()
            assert (done.state, done.reason) == ("SUCCEEDED", "")
            assert list(here.answers().values()) == [{"size": 42}]
            assert here.runtime.asked == []

    asyncio.run(check())


def test_an_answer_that_is_there_is_not_written_again(site: Site) -> None:
    """It was killed after publishing and before it said so."""

    async def check() -> None:
        job = taken_by_one_that_is_dead(site)
        there = site.target / f"a.png.{job.id[:8]}.json"
        there.write_text('{"size": 7}')
        async with dispatching(site) as here:
            (done,) = await here.ended()
            assert (done.state, done.reason) == ("SUCCEEDED", "an earlier attempt had answered it")
            assert here.answers() == {there.name: {"size": 7}}
            assert here.runtime.asked == []

    asyncio.run(check())


def test_a_function_without_outputs_keeps_its_answers(site: Site) -> None:
    async def check() -> None:
        async with dispatching(site, outputs=[]) as here:
            here.drop("a.png")
            (job,) = await here.ended()
            assert [one["url"] for one in job.outputs] == [""]
            assert (work_of(site.home, job.id).kept / job.outputs[0]["key"]).read_text() == '{"size": 3}'

    asyncio.run(check())


def test_per_user_folders_say_whose_a_file_is(site: Site) -> None:
    async def check() -> None:
        inputs = [{"url": str(site.source), "per_user": True}]
        async with dispatching(site, inputs=inputs) as here:
            here.drop("ann/a.png", user="bob")
            (job,) = await here.ended()
            assert job.user == "ann", "the folder decides, not who told"
            assert list(here.answers()) == [f"ann/a.png.{job.id[:8]}.json"]

    asyncio.run(check())


def test_no_more_is_under_way_than_there_may_be_instances(site: Site) -> None:
    async def check() -> None:
        runtime = Tame(seconds=0.02)
        scaling = {"max_scale": 2, "batch": 1}
        more: dict[str, Any] = {"model": "", "image": "busybox", "scaling": scaling}
        async with dispatching(site, runtime, **more) as here:
            for number in range(12):
                here.drop(f"{number}.png")
            await here.ended(12)
            assert runtime.most_at_work == 2

    asyncio.run(check())


def test_a_function_whose_runtime_is_not_here_is_refused(site: Site) -> None:
    async def check() -> None:
        dispatcher = Dispatcher(site.home, site.inbox, runtimes={"local": Tame()}, open_place=opened, split=split)
        with pytest.raises(InvalidInput, match="runs on lambda, which is not here; here are local"):
            await dispatcher.deploy(Applied(function(site, runtime="lambda"), "v1"))

    asyncio.run(check())


def test_instances_that_take_long_to_start_hold_up_no_job(site: Site) -> None:
    class Starting(Tame):
        async def scale(self, name: str, instances: int) -> None:
            await super().scale(name, instances)
            await asyncio.sleep(600)

    async def check() -> None:
        async with dispatching(site, Starting(seconds=0.5), scaling={"max_scale": 2, "batch": 1}) as here:
            for number in range(24):
                here.drop(f"{number}.png")
            await here.until(lambda: here.runtime.scaled)
            here.drop("later.png")
            assert {job.state for job in await here.ended(25)} == {"SUCCEEDED"}
            assert len(here.runtime.scaled) == 1, "one is asked for at a time"

    asyncio.run(check())
