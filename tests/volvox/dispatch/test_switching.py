"""A new version of a function while files keep coming: no job fails, and each says which version answered it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.volvox.dispatch.conftest import Site, Tame, dispatching, function
from tests.volvox.dispatch.whole import Whole, importable, whole
from tests.volvox.runtimes.tiny import TinyModels
from volvox.dispatch.doing import Applied
from volvox.functions import registry

RATE = 50.0  # files a second


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", importable(tmp_path))


async def uploaded(here: Whole, enough: asyncio.Event) -> None:
    """Drop files at the rate, each at its own time, however long the one before took."""
    due, number = time.monotonic(), 0
    while not enough.is_set():
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.to_thread(here.drop, f"{number:05}.txt")
        number, due = number + 1, due + 1 / RATE


@dataclass(frozen=True)
class Switch:
    """A version that was asked for, and reported to answer; seconds since the epoch."""

    version: str
    asked: float
    reported: float


@pytest.mark.parametrize(
    ("switches", "seconds_each"), [(2, 1.5), pytest.param(12, 10.0, marks=pytest.mark.soak)]
)  # fmt: skip
@pytest.mark.timeout(600)
def test_versions_are_switched_under_load(site: Site, tmp_path: Path, switches: int, seconds_each: float) -> None:
    """Applied, rolled back and so on; the second version has an argument that the first one does not give."""
    first = function(site, model="tiny/1", scaling={"max_scale": 2})
    second = function(site, model="tiny/2", arguments={"top": 7}, scaling={"max_scale": 2})

    async def check() -> None:
        async with whole(site, TinyModels(tmp_path / "models")) as here:
            await here.apply(first)
            names = {here.version(first): "1", here.version(second): "2"}
            done = [Switch("1", 0.0, time.time())]
            enough = asyncio.Event()
            uploading = asyncio.create_task(uploaded(here, enough))
            for number in range(switches):
                await asyncio.sleep(seconds_each)
                asked, wanted = time.time(), first if number % 2 else second
                if number:
                    await asyncio.to_thread(registry.activate, site.home, "f")
                else:
                    await asyncio.to_thread(registry.apply, site.home, second)
                reported = await here.answering(here.version(wanted))
                done.append(Switch(names[here.version(wanted)], asked, reported))
                print(f"version {done[-1].version} answered {reported - asked:.2f} s after it was asked for")
            await asyncio.sleep(seconds_each)
            enough.set()
            await uploading
            jobs = (await here.ended(len(here.dropped))).values()
            answers = here.answers()
        assert [job.reason for job in jobs if job.state != "SUCCEEDED" or job.attempts != 1] == []
        assert len(jobs) == len(here.dropped) == len(answers), "one job and one answer for each file"
        certain = 0
        for job in jobs:
            told, dropped = answers[f"{job.key}.{job.id[:8]}.json"], here.dropped[job.key]
            assert names[job.function_version] == told["version"], "the job says which version gave its answer"
            assert told["top"] == (7 if told["version"] == "2" else 1), "with the arguments of that version"
            last = [one for one in done if one.reported <= dropped][-1]
            if not any(one.asked <= dropped < one.reported for one in done):
                assert told["version"] == last.version, f"it came after version {last.version} was reported to answer"
                certain += 1
        assert certain > (switches + 1) * seconds_each * RATE / 2
        print(f"{len(jobs)} files, {certain} of them while no switch was under way")

    asyncio.run(check())


def test_a_switch_takes_what_the_new_version_no_longer_has(site: Site, tmp_path: Path) -> None:
    """Files that waited for the version before are answered by the new one, with its own arguments."""
    first = function(site, model="tiny/1", arguments={"top": 3})
    second = function(site, model="tiny/2")

    async def check() -> None:
        async with whole(site, TinyModels(tmp_path / "models")) as here:
            await here.apply(first)
            for name, content in (("a.txt", "sleep 2"), ("b.txt", "fine")):
                here.drop(name, content)
                await here.until(lambda key=name: site.inbox.jobs(key=key, states=["RUNNING"]))
            registry.apply(site.home, second)
            jobs = await here.ended(2)
            answers = {name[0]: told for name, told in here.answers().items()}
        assert (answers["a"]["version"], answers["a"]["top"]) == ("1", 3)
        assert (answers["b"]["version"], answers["b"]["top"]) == ("2", 1), jobs["b.txt"].reason
        assert jobs["a.txt"].function_version == here.version(first)
        assert jobs["b.txt"].function_version == here.version(second)

    asyncio.run(check())


def test_functions_come_and_go_while_jobs_run(site: Site) -> None:
    """The loop goes through the functions that there are while others are deployed and removed."""

    async def check() -> None:
        async with dispatching(site, Tame(seconds=0.01), scaling={"batch": 1}) as here:
            for number in range(60):
                here.drop(f"{number}.png")
            for number in range(30):
                other = function(site, name=f"g{number}", inputs=[])
                await here.dispatcher.deploy(Applied(other, "v1"))
                await asyncio.sleep(0.01)
                if number % 2:
                    await here.dispatcher.remove(other.name)
            assert {job.state for job in await here.ended(60)} == {"SUCCEEDED"}
            assert len(here.answers()) == 60

    asyncio.run(check())
