"""Answer the files of a list by warm processes of this machine, as the runtime `local` answers single ones."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from volvox import progress
from volvox.bulk.listing import Listed, Listing
from volvox.bulk.outcomes import Telling
from volvox.bulk.steps import Steps, answer_each
from volvox.dispatch.doing import told_of
from volvox.dispatch.publishing import Open, provider_of, publish, published_before, relative_key
from volvox.dispatch.work import Work
from volvox.errors import InvalidInput, NotFound, VolvoxError
from volvox.places import split
from volvox.records import Image
from volvox.runtimes.interface import Call, Outcome, Runtime
from volvox.runtimes.models import Model, Models

_THREADS = 16  # files are fetched and answers written so many at a time
_AHEAD = 2  # shares of an instance: while it is at one, the next is fetched
_MOST_AT_ONCE = 256
_LOOK_SECONDS = 0.25
_MOST_NOTED = 20  # failures that the run's log tells; all are told to their jobs
_CANCELLED_SECONDS = 2.0  # between two looks at what was cancelled

T = TypeVar("T")


class Pinned:
    """The model of a list, whatever its name means by now; what belongs to it is found among others."""

    def __init__(self, models: Models, model: Model) -> None:
        """`models` finds weights and samples of `model`."""
        self._models, self._model = models, model

    def resolve(self, reference: str) -> Model:  # noqa: ARG002 - it was resolved when the list was made
        """The model."""
        return self._model

    def weights(self, model: Model) -> Path | None:
        """As `Models.weights`."""
        return self._models.weights(model)

    def samples(self, model: Model) -> list[Path]:
        """As `Models.samples`."""
        return self._models.samples(model)

    def image(self, model: Model) -> Image | None:
        """As `Models.image`."""
        return self._models.image(model)


class Answering(Steps[Listed, Outcome, Outcome]):
    """How a file of a list is answered: from its place, by a runtime, into the function's output places."""

    def __init__(
        self, listing: Listing, runtime: Runtime, folder: Path, open_place: Open, *, begun_before: bool
    ) -> None:
        """Nothing is done yet.

        Args:
            listing: What is answered.
            runtime: Where the function is deployed; files are brought to it.
            folder: For what is fetched, as long as it is asked about.
            open_place: Opens a place by URL, for a function and by the name of its credentials.
            begun_before: Whether answers may be there already.
        """
        self._listing, self._function, self._runtime = listing, listing.function, runtime
        self._folder, self._open, self._begun_before = folder, open_place, begun_before
        self._threads = ThreadPoolExecutor(_THREADS, "files")

    @property
    def at_once(self) -> int:
        """How many files are worth having under way."""
        scaling = self._function.scaling
        return min(_MOST_AT_ONCE, _AHEAD * scaling.max_scale * scaling.concurrency * scaling.batch)

    async def there(self, one: Listed) -> Outcome | None:
        """The answer that an earlier run of this list has written; asked only if there was one."""
        if not self._begun_before:
            return None
        try:
            found = await self._off(published_before, self._function, one, self._open, split)
        except VolvoxError:  # an image of a pool may be unable to list; asked again, nothing is written twice
            return None
        return Outcome(one.id, outputs=tuple(found)) if found else None

    @contextlib.asynccontextmanager
    async def fetched(self, one: Listed) -> AsyncIterator[Path]:
        """The object, in a folder of its own."""
        work = self._work(one)
        try:
            yield await self._off(self._fetch, one, work)
        finally:
            await asyncio.shield(self._off(work.end))

    async def asked(self, one: Listed, file: Path) -> Outcome:
        """What the model answers; the answer itself lies in the job's folder."""
        call = Call(
            job=one.id, input=file, output=self._work(one).output, key=one.key, relative=relative_key(one),
            place=one.place, version=one.version, user=one.user, arguments=self._function.arguments,
            timeout_seconds=self._function.timeout_seconds,
        )  # fmt: skip
        (outcome,) = await self._runtime.invoke(self._function.name, [call])
        return outcome

    async def kept(self, one: Listed, file: Path, ask: Callable[[], Awaitable[Outcome]]) -> Outcome:  # noqa: ARG002
        """Write the answer where it belongs, unless one is there."""
        outcome = await ask()
        if outcome.kind:
            return outcome
        try:
            written = await self._off(publish, self._function, one, self._work(one), self._open, split)
        except (InvalidInput, NotFound) as error:
            return Outcome(one.id, "unpublished", str(error), seconds=outcome.seconds)
        return replace(outcome, outputs=tuple(written))

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, one: Listed, work: Work) -> Path:
        work.begin()
        target = work.input(one.key)
        self._open(one.place, self._function, provider_of(self._function, one, split)).fetch(
            one.key, target, one.version
        )
        return target

    def _work(self, one: Listed) -> Work:
        return Work(self._folder / one.id, self._folder / f"{one.id}.log", self._folder / "kept" / one.id)

    async def _off(self, do: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, do, *values)


async def answered(listing: Listing, telling: Telling, steps: Answering) -> None:
    """Have every file of the list answered, and tell of it while that goes on.

    Raises:
        Unavailable: If what became of the files cannot be told in the store; what is answered stays answered.
    """
    counting = _Counting(telling, len(listing.jobs))
    await asyncio.to_thread(telling.tell)  # that it has begun
    cancelled = await asyncio.to_thread(telling.cancelled)

    def to_do() -> Iterator[Listed]:
        for one in listing.jobs:
            if one.id in cancelled and one.id not in telling.known:
                telling.add(Outcome(one.id, "cancelled", "cancelled"))
            if one.id not in telling.known:
                yield one

    going_on = asyncio.create_task(_going_on(telling, cancelled))
    try:
        await answer_each(to_do(), steps, lambda one, told: counting.heard(_outcome(one, told)), at_once=steps.at_once)
    finally:
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)
        await asyncio.shield(asyncio.to_thread(telling.tell))
        counting.say()


async def _going_on(telling: Telling, cancelled: set[str]) -> None:
    """Tell what is new, and hear what nobody wants any more; a store that is away for a moment is told later."""
    looked = time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        with contextlib.suppress(VolvoxError, OSError):
            if telling.due:
                await asyncio.to_thread(telling.tell)
            if time.monotonic() - looked >= _CANCELLED_SECONDS:
                looked = time.monotonic()
                cancelled |= await asyncio.to_thread(telling.cancelled)


class _Counting:
    """Says how far it is, how fast, and how long it will take."""

    def __init__(self, telling: Telling, total: int) -> None:
        self._telling, self._total = telling, total
        self._failed = sum(bool(one.kind) for one in telling.known.values())
        self._before, self._began = len(telling.known), time.monotonic()
        self.say()

    def heard(self, outcome: Outcome) -> None:
        self._telling.add(outcome)
        self._failed += bool(outcome.kind)
        if outcome.kind and self._failed <= _MOST_NOTED:
            progress.note(f"job {outcome.job[:8]} failed: {outcome.reason}")
        self.say()

    def say(self) -> None:
        done, seconds = len(self._telling.known), time.monotonic() - self._began
        speed = (done - self._before) / seconds if seconds > 0 else 0.0
        left = {"s left": round((self._total - done) / speed)} if speed else {}
        progress.advance(done, self._total, "files", failed=self._failed, **{"files/s": round(speed, 1)}, **left)


def _outcome(one: Listed, told: Outcome | Exception) -> Outcome:
    return told if isinstance(told, Outcome) else Outcome(one.id, *told_of(told))


def emptied(folder: Path) -> Path:
    """An empty folder; what a run left there that was killed is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
