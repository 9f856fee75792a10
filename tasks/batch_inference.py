"""Many objects in, an answer for each in the function's output places."""

from __future__ import annotations

import asyncio
import shutil
import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.retries import is_transient
from tasks.reuse import once
from volvox import progress
from volvox.bulk import listing
from volvox.bulk.answering import Answering, Pinned, answered, emptied
from volvox.bulk.answers import BatchAnswers
from volvox.bulk.outcomes import Telling
from volvox.settings import Home
from volvox.store import Store


@task(
    name="answer_files", retries=2, retry_delay_seconds=[5, 30], retry_condition_fn=is_transient, cache_policy=NO_CACHE
)
@progress.working
async def answer_files(jobs: str, *, store: Store, home: Home) -> BatchAnswers:
    """Answer every file of a list by warm processes of this machine; what was answered before is not asked again.

    A file that fails is one outcome with its reason, and stops no other.

    Args:
        jobs: Digest of the list, see `volvox.bulk.listing`.
        store: Where the list is, and where what became of its files is told.
        home: In whose cache files lie while they are asked about.

    Raises:
        NotFound: If the store has no such list.
        InvalidInput: If it is none, or the model has no such arguments.
        ModuleFailed: If the model does not start, or does not pass its test.
        Unavailable: If the store does not answer (tried again twice).
    """
    from volvox.dispatch.opening import opener
    from volvox.runtimes.local import LocalRuntime
    from volvox.runtimes.models import PublishedModels

    told = await asyncio.to_thread(listing.read, store, jobs)

    async def make() -> BatchAnswers:
        began, telling = time.monotonic(), await asyncio.to_thread(Telling, store, jobs, len(told.jobs))
        folder = await asyncio.to_thread(emptied, home.cache / "batch" / jobs[:32])
        function = told.function.model_copy(update={"runtime": "local"})
        runtime = LocalRuntime(folder / "runtime", Pinned(PublishedModels(store), told.model), fork=False)
        steps = Answering(told, runtime, folder / "jobs", opener(), begun_before=telling.begun_before)
        try:
            await runtime.deploy(function, version=told.version, tell=progress.note)
            await answered(told, telling, steps)
        finally:
            await asyncio.shield(runtime.close())
            steps.close()
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        failed = sum(bool(one.kind) for one in telling.known.values())
        return BatchAnswers(
            function=function.name, model=told.model.name, version=told.model.version, jobs_object=jobs,
            outcomes_object=await asyncio.to_thread(telling.whole), files=len(told.jobs),
            answered=len(told.jobs) - failed, failed=failed, seconds=time.monotonic() - began,
        )  # fmt: skip

    return await once(store, "batch-inference", jobs, BatchAnswers, make)
