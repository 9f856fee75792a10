"""What a function needs goes away while its jobs wait: a bucket, its credentials, a model."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.dispatch.conftest import Running, Site, Tame, dispatching, function, opened
from tests.volvox.dispatch.whole import importable, whole
from tests.volvox.places.conftest import QUICK
from tests.volvox.runtimes.tiny import TinyModels
from tests.volvox.store.standin import StandIn, error
from volvox.buckets import Access
from volvox.dispatch.doing import Applied
from volvox.dispatch.state import trouble
from volvox.dispatch.telling import why_it_waits
from volvox.errors import NotFound
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import ENDED, Arrival, Job
from volvox.places import Place
from volvox.places.addresses import parsed
from volvox.places.s3 import S3Place
from volvox.runtimes.models import Model

TOKEN = "a-session-token-that-nobody-may-see"
# As the error responses of Amazon S3 are documented; the token comes back in it.
EXPIRED = error("ExpiredToken", f"<Token-0>{TOKEN}</Token-0><RequestId>R</RequestId><HostId>H</HostId>")
KEYS = [f"in/{number}" for number in range(6)]


@pytest.fixture
def bucket() -> Iterator[StandIn]:
    server = StandIn("bucket")
    yield server
    server.close()


def reached(server: StandIn) -> Callable[[str, Function, str], Place]:
    """Opens the bucket there, and folders here."""

    def open_place(url: str, function: Function, provider: str = "") -> Place:
        if not url.startswith("s3://"):
            return opened(url, function, provider)
        access = Access(server.url, "us-east-1", access_key_id="k", secret_access_key="s", session_token=TOKEN)
        return S3Place(parsed(url), access, QUICK)

    return open_place


class Held(Tame):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def _one(self, call: Any) -> Any:
        await self.go.wait()
        return await super()._one(call)


@contextlib.asynccontextmanager
async def half_done(site: Site, server: StandIn, attempts: int) -> AsyncIterator[tuple[Running, Held]]:
    """Of six objects of a bucket two are being answered and four wait; answers go into the bucket too."""
    for key in KEYS:
        server.buckets["bucket"][key] = (b"abc", 1_700_000_000.0)
    runtime = Held()
    more = {
        "inputs": [{"url": "s3://bucket/in"}], "outputs": [{"url": "s3://bucket/out"}], "scaling": {"batch": 1},
        "retries": {"attempts": attempts, "first_pause_seconds": 0.05, "longest_pause_seconds": 0.1},
    }  # fmt: skip
    async with dispatching(site, runtime, reached(server), **more) as here:
        site.inbox.record([Arrival("s3://bucket", key) for key in KEYS])
        await here.until(lambda: len(site.inbox.jobs()) == len(KEYS) and len(runtime.asked) == 2)
        yield here, runtime


async def goes_on_beside(here: Running, site: Site) -> None:
    """Another function, whose place is there, answers meanwhile."""
    await here.dispatcher.deploy(Applied(function(site, name="g"), "v1"))
    (site.source / "beside").write_bytes(b"abc")
    site.inbox.record([Arrival(f"file://{site.source}", "beside")])
    await here.until(lambda: site.inbox.jobs(key="beside", states=["SUCCEEDED"]))


def of_bucket(site: Site, *states: Any) -> list[Job]:
    return site.inbox.jobs(function="f", states=states)


def gone(server: StandIn) -> Callable[[], None]:
    kept = server.buckets.pop("bucket")
    return lambda: server.buckets.update(bucket=kept)


def expired(server: StandIn) -> Callable[[], None]:
    server.answer = (400, EXPIRED)
    return lambda: setattr(server, "answer", None)


FAULTS = [(gone, "the bucket 'bucket' does not exist"), (expired, "have expired (ExpiredToken); set new ones")]


@pytest.mark.parametrize(("fault", "sentence"), FAULTS)
def test_jobs_that_wait_fail_with_the_reason_and_go_on_when_asked(
    site: Site, bucket: StandIn, fault: Callable[[StandIn], Callable[[], None]], sentence: str
) -> None:
    async def check() -> None:
        async with half_done(site, bucket, attempts=2) as (here, runtime):
            mend = fault(bucket)
            runtime.go.set()
            await goes_on_beside(here, site)
            jobs = await here.until(lambda: len(found := of_bucket(site, *ENDED)) == 6 and found)
            for job in jobs:
                assert (job.state, job.attempts) == ("FAILED", 2)
                assert sentence in job.reason
                assert "after 2 attempts" in job.reason
                assert TOKEN not in f"{job.reason} {job.steps}"
            mend()
            for job in jobs:
                site.inbox.retry(job.id)
            await here.until(lambda: len(of_bucket(site, "SUCCEEDED")) == 6)
            assert sorted(key for asked in runtime.asked for key in asked if key in KEYS) == KEYS, "none is asked twice"
            assert written(bucket) == sorted(f"out/{job.key[3:]}.{job.id[:8]}.json" for job in jobs)

    asyncio.run(check())


@pytest.mark.parametrize(("fault", "sentence"), FAULTS)
def test_what_is_mended_in_time_fails_no_job(
    site: Site, bucket: StandIn, fault: Callable[[StandIn], Callable[[], None]], sentence: str
) -> None:
    async def check() -> None:
        async with half_done(site, bucket, attempts=100) as (here, runtime):
            mend = fault(bucket)
            runtime.go.set()
            waits = await here.until(lambda: of_bucket(site, "PENDING"))
            assert sentence in waits[0].reason
            await goes_on_beside(here, site)
            mend()
            await here.until(lambda: len(of_bucket(site, "SUCCEEDED")) == 6)
            assert len(written(bucket)) == 6

    asyncio.run(check())


def test_objects_that_nobody_may_look_at_yet_are_not_forgotten(
    site: Site, bucket: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials expire before it is known what came."""
    monkeypatch.setattr("volvox.dispatch.resolving._GONE_SECONDS", 0.3)

    async def check() -> None:
        bucket.buckets["bucket"]["in/a"] = (b"abc", 1_700_000_000.0)
        mend = expired(bucket)
        more = {"inputs": [{"url": "s3://bucket/in"}], "outputs": [{"url": str(site.target)}]}
        async with dispatching(site, Tame(), reached(bucket), **more) as here:
            site.inbox.record([Arrival("s3://bucket", "in/a")])
            (waits,) = await here.until(lambda: [one for one in bucket.requests if "in/a" in one][:1] and seen(site))
            assert "ExpiredToken" in waits
            assert TOKEN not in waits
            mend()
            assert (await here.ended())[0].state == "SUCCEEDED"

    def seen(site: Site) -> list[str]:
        with site.inbox._database.reading() as there:
            return [row["reason"] for row in there.read("SELECT reason FROM arrivals") if row["reason"]]

    asyncio.run(check())


def test_what_comes_before_a_new_function_was_noticed_waits_for_it(site: Site) -> None:
    """Whoever told of it has read the registry a moment before the dispatcher did."""

    async def check() -> None:
        async with dispatching(site) as here:
            folder = site.source.parent / "of g"
            folder.mkdir()
            (folder / "a").write_bytes(b"abc")
            later = function(site, name="g", inputs=[{"url": str(folder)}])
            registry.apply(site.home, later)
            site.inbox.record([Arrival(f"file://{folder}", "a", source="sweep", function="g")])
            await here.until(lambda: site.inbox.jobs(function="g"))
            await here.dispatcher.deploy(Applied(later, "v1"))
            assert [job.state for job in await here.ended()] == ["SUCCEEDED"]

    asyncio.run(check())


class Removable(TinyModels):
    """Models that are gone once `gone` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gone = threading.Event()

    def resolve(self, reference: str) -> Model:
        if self.gone.is_set():
            raise NotFound(f"no model {reference} is published")
        return super().resolve(reference)

    def weights(self, model: Model) -> Path | None:
        if self.gone.is_set():
            raise NotFound(f"the weights of {model.name}/{model.version} are not in the store")
        return super().weights(model)


def test_a_model_that_is_removed_while_jobs_wait(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", importable(tmp_path))
    models = Removable(tmp_path / "models")
    beside = tmp_path / "for g"
    beside.mkdir()
    retries = {"attempts": 2, "first_pause_seconds": 0.1}
    lost = function(site, model="tiny/1", retries=retries, scaling={"idle_seconds": 0.2}, deadline_seconds=60)
    other = function(site, name="g", model="tiny/1", inputs=[{"url": str(beside)}], scaling={"min_scale": 1})

    async def removed() -> None:
        async with whole(site, models) as here:
            await here.apply(lost, other)
            await here.until(lambda: not here.runtime._kept.present["f"].instances.ready)  # it is scaled to zero
            models.gone.set()
            for name in ("a", "b"):
                here.drop(name)
            here.drop("fine", folder=beside)
            jobs = await here.ended(3)
            assert {key: job.state for key, job in jobs.items()} == {"a": "FAILED", "b": "FAILED", "fine": "SUCCEEDED"}
            assert "the weights of tiny/1 are not in the store (after 2 attempts)" in jobs["a"].reason

    async def started_again() -> None:
        """A dispatcher that cannot deploy the function: what comes for it waits, with the reason, and is not lost."""
        async with whole(site, models) as here:
            here.drop("c")
            here.drop("d")
            await here.until(lambda: len(site.inbox.jobs(states=["RUNNABLE"])) == 2)
            (job,) = site.inbox.jobs(key="c")
            why = await here.until(lambda: trouble(site.home, "f"))
            said = why_it_waits(site.inbox, job, why)
            assert said == "its function cannot be deployed: no model tiny/1 is published"
            models.gone.clear()
            registry.apply(site.home, function(site, model="tiny/1", deadline_seconds=61))
            jobs = await here.ended(5)
            assert (jobs["c"].state, jobs["d"].state) == ("SUCCEEDED", "SUCCEEDED")

    asyncio.run(removed())
    asyncio.run(started_again())


def test_a_deadline_passes_though_the_function_cannot_be_deployed(site: Site, tmp_path: Path) -> None:
    models = Removable(tmp_path / "models")
    models.gone.set()

    async def check() -> None:
        registry.apply(site.home, function(site, model="tiny/1", deadline_seconds=0.2))
        async with whole(site, models) as here:
            here.drop("a")
            job = (await here.ended(1))["a"]
            assert (job.state, job.error) == ("FAILED", {"kind": "deadline"})

    asyncio.run(check())


def written(server: StandIn) -> list[str]:
    return sorted(key for key in server.buckets["bucket"] if key.startswith("out/"))
