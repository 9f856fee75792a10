"""A stage that does what it is told, for each kind of pool; it is put into the image of the tests."""

from __future__ import annotations

import asyncio
import os
import time

from prefect import task

from blocks.store import ObjectStore
from flows.stage import stage
from tasks.retries import is_transient
from tasks.reuse import once
from volvox import progress
from volvox.blocking import entered
from volvox.errors import InvalidInput, Unavailable
from volvox.identity import stage_key
from volvox.records import Job
from volvox.store import Store

STEPS = 24  # of a quarter of a second
_MB = 1 << 20


@stage("standin", "standin-{what}")
async def standin(what: str, *, number: int = 0, store: ObjectStore | None = None) -> Job:
    """Do `what`; the record says in which process it was done."""
    opened = (store or ObjectStore.local()).open()
    if what == "raise":
        raise ZeroDivisionError("number by zero")
    if what == "refuse":
        raise InvalidInput("the number is odd")
    if what == "memory":
        await eat(number)
    if what == "sleep":
        await rest(number)
    if what == "flaky":
        return await flaky(opened, number)
    if what == "learn":
        return await learn(opened, number)
    return await work(opened, number)


@task(name="work")
@progress.working
async def work(store: Store, number: int) -> Job:
    """The same object for the same number, made once."""
    key = stage_key("standin", arguments=number)

    async def make() -> Job:
        progress.advance(1, 1, "numbers")
        digest = store.put_bytes(f"answer {number}".encode())
        return Job(
            service="standin", version=str(os.getpid()), input=str(number), input_digest="", answer_object=digest
        )

    return await once(store, "standin", key, Job, make)


@task(name="flaky", retries=2, retry_delay_seconds=0, retry_condition_fn=is_transient)
async def flaky(store: Store, number: int) -> Job:
    """Fail the first two times, as a service does that does not answer."""
    tries = len(store.keys(f"tries-{number}"))
    store.put_record(f"tries-{number}", str(tries), {})
    if tries < 2:
        raise Unavailable(f"not yet, {tries}")
    return Job(service="standin", version=str(tries), input="", input_digest="", answer_object="")


@task(name="learn")
@progress.working
async def learn(store: Store, number: int) -> Job:
    """Write a checkpoint a step, as training does; the record says after which step this process began."""
    key = stage_key("standin-learn", arguments=number)

    async def make() -> Job:
        async with entered(store.checkpoints(key)) as folder:
            began = max((int(path.name.removeprefix("step-")) for path in folder.glob("step-*[0-9]")), default=0)
            for step in range(began + 1, STEPS + 1):
                await asyncio.sleep(0.25)
                written = folder / f"step-{step}.new"
                written.write_bytes(f"{number} after {step}".encode())
                written.rename(folder / f"step-{step}")
                progress.advance(step, STEPS, "steps", began=began)
            digest = store.put_bytes((folder / f"step-{STEPS}").read_bytes())
        return Job(service="standin", version=str(began), input=str(number), input_digest="", answer_object=digest)

    made = await once(store, "standin-learn", key, Job, make)
    await asyncio.to_thread(store.drop_checkpoints, key)
    return made


@task(name="rest")
async def rest(seconds: int) -> None:
    """Tell every tenth of a second that it goes on."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        progress.advance(seconds - (until - time.monotonic()), seconds, "seconds")
        await asyncio.sleep(0.1)


@task(name="eat")
async def eat(megabytes: int) -> None:
    """Take memory until there is none."""
    held = []
    for _ in range(megabytes):
        held.append(bytearray(os.urandom(_MB)))
        await asyncio.sleep(0)
