"""Batch inference: many files that one run answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import Field

from blocks.store import ObjectStore
from flows.stage import stage
from tasks.batch_inference import answer_files
from volvox import progress
from volvox.bulk.answers import BatchAnswers
from volvox.settings import Home

_SHOWN_SECONDS = 3.0  # between two changes of what Prefect's page of the run shows
_SHOW_SECONDS = 3.0

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@stage("batch-inference", "answer-{function}-{jobs:.8}")
async def batch_inference(function: str, jobs: Digest, *, store: ObjectStore | None = None) -> BatchAnswers:
    """Answer many files of a function; a dispatcher starts it for files that wait together.

    Begun again with the same list, it goes on where it was.

    Args:
        function: The function's name, for people.
        jobs: Digest of the list of files in the store; a dispatcher makes one.
        store: Where the list is; default: this installation's.

    Raises:
        NotFound: If the store has no such list.
        ModuleFailed: If the model does not start. A file that it fails at is an outcome of that file.
        Unavailable: If the store does not answer.
    """
    async with _shown(function, jobs):
        return await answer_files(jobs, store=(store or ObjectStore.local()).open(), home=Home.current())


@contextlib.asynccontextmanager
async def _shown(function: str, jobs: str) -> AsyncIterator[None]:
    """Show how far it is on the run's page in Prefect; a server that does not answer stops nothing."""
    far = _Far()
    showing = asyncio.create_task(_show(far, re.sub(r"[^a-z0-9]+", "-", f"batch-{function}-{jobs[:8]}".lower())))
    try:
        with progress.listening(far.hear):
            yield
    finally:
        far.over.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SHOW_SECONDS):
                await showing


class _Far:
    """How far it is."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.share = 0.0
        self.sentence = "the model is being started"

    def hear(self, event: progress.Event) -> None:
        if event.kind == "advanced" and event.total:
            self.share = event.done / event.total
            self.sentence = in_a_sentence(event)


def in_a_sentence(event: progress.Event) -> str:
    """How many files were answered, how many failed, how fast it goes and when it will be done."""
    told = f"{event.done:,.0f} of {event.total:,.0f} {event.unit}, {event.detail.get('failed', 0):,} failed"
    if speed := event.detail.get("files/s"):
        told += f", {speed:g} files/s"
    if event.done < event.total and (left := event.detail.get("s left")) is not None:
        told += f", {left:,} s left"
    return told


async def _show(far: _Far, key: str) -> None:
    from prefect.artifacts import acreate_progress_artifact, aupdate_progress_artifact

    with contextlib.suppress(Exception):
        artifact, shown = await acreate_progress_artifact(progress=0.0, key=key, description=far.sentence), ""
        while True:
            over = far.over.is_set()
            if far.sentence != shown:
                shown = far.sentence
                await aupdate_progress_artifact(artifact, progress=100.0 * far.share, description=shown)
            if over:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SHOWN_SECONDS):
                    await far.over.wait()
