"""One instance's share of jobs, from fetching what they are about to publishing what was answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from volvox.disks import full_behind
from volvox.dispatch.calls import arguments_of
from volvox.dispatch.foreseeing import bill
from volvox.dispatch.matching import Split
from volvox.dispatch.pausing import pause
from volvox.dispatch.publishing import Open, provider_of, publish, published_before, relative_key
from volvox.dispatch.work import Spares, Work, work_of
from volvox.errors import AccessRefused, InvalidInput, NotFound, PlaceGone, Unavailable, VolvoxError
from volvox.events.writing import notification
from volvox.functions.definition import Function
from volvox.inbox import Ending, Inbox, Job
from volvox.pricing.charges import Charge
from volvox.runtimes.interface import AGAIN, Call, Kind, Outcome, Runtime
from volvox.settings import Home

_HUNG_SECONDS = 900.0  # beyond what calls and the start of an instance may take: then the runtime's engine hangs
_PAUSE_SECONDS = (0.1, 5.0)  # before the inbox is asked again
_NOTES = 5
_SOON_SECONDS = 0.5  # a model that answers sooner is asked again by the next dispatcher if this one is killed meanwhile
_AT_ONCE = 8  # jobs of one function that wait for disks and networks at a time: a place that hangs holds up no other
_JOIN_SECONDS = 0.02  # a thread does jobs in turn, and another joins it if it is at them for so long

log = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Applied:
    """A function as it is deployed.

    Attributes:
        function: What it is.
        version: Digest of what answers: of the definition and of the model version that it names now.
    """

    function: Function
    version: str


@dataclass
class Doing:
    """What is needed to do jobs.

    Attributes:
        home: Where the work lies meanwhile.
        inbox: Whose jobs they are.
        holder: As whom they were taken.
        open_place: Opens a place by URL, for a function and by the name of its credentials.
        split: URL of a folder in a place -> the place's URL, and the folder.
        threads: For what waits for disks and networks.
        in_turn: Runs a function of the inbox, one at a time.
    """

    home: Home
    inbox: Inbox
    holder: str
    open_place: Open
    split: Split
    threads: Executor
    in_turn: Callable[[Callable[[], Any]], Awaitable[Any]]
    cancelled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """No function is at anything yet."""
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._spares = Spares(self.home)

    async def do(
        self, applied: Applied, runtime: Runtime, jobs: Sequence[Job], charge: Charge | None = None
    ) -> list[Outcome]:
        """Do jobs that were taken, together; each is ended in the inbox, whatever happens.

        Args:
            applied: Whose they are.
            runtime: Where they are done.
            jobs: The jobs.
            charge: What that costs; None: nobody knows.

        Returns:
            The outcomes of those that an instance was asked about.
        """
        open_jobs = {job.id: job for job in jobs}
        try:
            return await self._do(applied, runtime, open_jobs, charge)
        except asyncio.CancelledError:
            asked = [job for job in open_jobs.values() if job.id in self.cancelled]
            others = [job.id for job in open_jobs.values() if job.id not in self.cancelled]
            await self._end({}, [self._cancelled(job, work_of(self.home, job.id)) for job in asked])
            await asyncio.shield(
                self.in_turn(lambda: self.inbox.give_back(others, self.holder, "its dispatcher ended"))
            )
            raise
        except Exception as error:  # a fault of ours must not leave a job to nobody
            await self._end(open_jobs, [self._failed(applied, job, *told_of(error)) for job in open_jobs.values()])
            return []

    async def _do(
        self, applied: Applied, runtime: Runtime, open_jobs: dict[str, Job], charge: Charge | None
    ) -> list[Outcome]:
        function = applied.function
        calls: list[Call] = []
        ready: list[Ending] = []
        if function.trigger == "direct":
            ready = await self._answered_without_us(runtime, function, open_jobs)
        known = {one.id for one in ready}
        left = [(job, fetched_by(runtime, function, job)) for job in open_jobs.values() if job.id not in known]
        prepared = await self._each(self._prepared, applied, left)
        for one in prepared:
            (calls if isinstance(one, Call) else ready).append(one)  # pyright: ignore[reportArgumentType]
        if ready:
            await self._end(open_jobs, ready)
        if not calls:
            return []
        ids = [call.job for call in calls]
        await self.in_turn(lambda: self.inbox.running(ids, self.holder, applied.version))
        # The runtime keeps to the limit of each call. Those of a model may wait for others, and be asked again alone.
        rounds = 2 * (len(calls) + 1) if function.model else 1
        try:
            waits = float(getattr(runtime, "waits_seconds", 0.0))  # for a machine, where none is kept
            async with asyncio.timeout(rounds * function.timeout_seconds + waits + _HUNG_SECONDS):
                outcomes = await runtime.invoke(function.name, calls)
        except TimeoutError:
            reason, limit = f"runtime {runtime.name} did not say what became of it", function.timeout_seconds
            outcomes = [Outcome(call.job, "timeout", reason, seconds=limit) for call in calls]
        except (Unavailable, NotFound) as error:
            outcomes = [Outcome(call.job, "transient", str(error)) for call in calls]
        published = await self._each(self._ended, applied, [(open_jobs[one.job], one) for one in outcomes])
        versions = {one.job: one.version for one in outcomes}
        bills = {one.id: bill(outcomes, charge, open_jobs[one.id].bill) for one in published}
        ended = [replace(one, function_version=versions[one.id], bill=bills[one.id]) for one in published]
        await self._end(open_jobs, ended)
        return outcomes

    async def _answered_without_us(
        self, runtime: Runtime, function: Function, open_jobs: dict[str, Job]
    ) -> list[Ending]:  # fmt: skip
        """How jobs ended that the runtime's own events began; those of which nothing is known are done now."""
        answered: Any = getattr(runtime, "answered", None)
        found: list[Ending] = []
        for job in open_jobs.values() if answered else ():
            outcome: Outcome | None = await answered(function.name, job.id)
            if outcome is None or outcome.kind in AGAIN:
                continue
            state = "FAILED" if outcome.kind else "SUCCEEDED"
            error = {"kind": outcome.kind, "exit_code": outcome.exit_code} if outcome.kind else {}
            said = outcome.reason or f"{runtime.name} had answered it"
            found.append(Ending(job.id, state, said, outputs=outcome.outputs, error=error))
        return found

    # -- one job, in a thread ------------------------------------------------------------------------------------

    def _prepared(self, applied: Applied, job: Job, fetched_there: bool) -> Call | Ending:
        """What to ask the runtime about a job, or what became of it already."""
        function = applied.function
        work = work_of(self.home, job.id)
        try:
            if job.cancel:
                return self._cancelled(job, work)
            if reason := _too_large(function, job):
                return self._failed(applied, job, "refused", reason)
            if work.answer() is not None:
                return self._published(applied, job, work)
            begun_before = any(step.state == "STARTING" for step in job.steps[:-1])
            if begun_before and (there := published_before(function, job, self.open_place, self.split)):
                work.end()
                return Ending(job.id, "SUCCEEDED", "an earlier attempt had answered it", outputs=there)
            call = self._call(applied, job, work)
            work.log.parent.mkdir(parents=True, exist_ok=True)
            work.begin(self._spares if function.model else None)
            if fetched_there or not function.fetches or not job.key:
                return replace(call, input=None)
            target = work.input(job.key)
            place = self.open_place(job.place, function, provider_of(function, job, self.split))
            place.fetch(job.key, target, job.version)
            return replace(call, input=target)
        except (VolvoxError, OSError) as error:
            return self._failed(applied, job, *told_of(error))

    def _call(self, applied: Applied, job: Job, work: Work) -> Call:
        return Call(
            job=job.id, output=work.output, log=work.log, key=job.key, relative=relative_key(job), place=job.place,
            version=job.version, event=job.event or _event(job), user=job.user,
            event_time=datetime.fromtimestamp(job.created, UTC).isoformat(timespec="milliseconds"),
            arguments=arguments_of(job), timeout_seconds=applied.function.timeout_seconds,
        )  # fmt: skip

    def _ended(self, applied: Applied, job: Job, outcome: Outcome) -> Ending:
        work = work_of(self.home, job.id)
        if job.id in self.cancelled:
            return self._cancelled(job, work)
        if outcome.kind:
            return self._failed(applied, job, outcome.kind, outcome.reason, exit_code=outcome.exit_code)
        if outcome.outputs:
            work.end()
            return Ending(job.id, "SUCCEEDED", outputs=outcome.outputs)
        try:
            told = {"job": job.id, "version": outcome.version, "notes": outcome.notes}
            if applied.function.model and outcome.seconds < _SOON_SECONDS:
                return self._published(applied, job, work, told)
            work.answered(told)
            return self._published(applied, job, work)
        except (VolvoxError, OSError) as error:
            return self._failed(applied, job, *told_of(error))

    def _published(self, applied: Applied, job: Job, work: Work, unnoted: dict[str, Any] | None = None) -> Ending:
        try:
            written = publish(applied.function, job, work, self.open_place, self.split)
        except VolvoxError as error:  # what it answered stays, and is published by the next attempt
            if unnoted is not None:
                work.answered(unnoted)
            kind, reason = told_of(error)
            return self._failed(applied, job, kind if kind in AGAIN else "unpublished", reason, keep=True)
        answered = unnoted or work.answer() or {}
        notes = [*answered.get("notes", ())]
        if not written:
            files = len(work.files())
            notes.insert(0, f"none of the {files} files it wrote fits an output" if files else "it wrote no file")
        work.end(self._spares if applied.function.model else None)  # what a script left running may write there yet
        version = answered.get("version", "")
        return Ending(job.id, "SUCCEEDED", "; ".join(notes[:_NOTES]), outputs=written, function_version=version)

    def ended_elsewhere(self, applied: Applied, job: Job, outcome: Outcome) -> Ending:
        """What becomes of a job whose answer was published by what answered it."""
        if outcome.kind:
            return self._failed(applied, job, outcome.kind, outcome.reason, exit_code=outcome.exit_code)
        return Ending(job.id, "SUCCEEDED", outputs=outcome.outputs, function_version=applied.version)

    def _cancelled(self, job: Job, work: Work) -> Ending:
        work.end()
        self.cancelled.discard(job.id)
        return Ending(job.id, "FAILED", "cancelled", error={"kind": "cancelled"})

    def _failed(
        self, applied: Applied, job: Job, kind: str, reason: str, *, keep: bool = False, exit_code: int | None = None
    ) -> Ending:
        """What becomes of a job that failed: another attempt, if that may help and there is one left."""
        retries = applied.function.retries
        error = {"kind": kind} if exit_code is None else {"kind": kind, "exit_code": exit_code}
        if not keep:
            with contextlib.suppress(OSError):
                work_of(self.home, job.id).end()
        reason = _plain(reason)
        if kind in AGAIN and job.attempts < retries.attempts:
            seconds = pause(job.attempts, retries)
            said = f"{reason}; attempt {job.attempts + 1} of {retries.attempts} follows in {seconds:.1f} s"
            return Ending(job.id, "PENDING", said, again_in=seconds, error=error)
        tries = f" (after {job.attempts} attempts)" if kind in AGAIN and job.attempts > 1 else ""
        return Ending(job.id, "FAILED", f"{reason}{tries}", error=error)

    async def fitting(self, function: Function, jobs: Sequence[Job]) -> list[Job]:
        """Those of these jobs whose objects are not too large; the others end."""
        large = {job.id: reason for job in jobs if (reason := _too_large(function, job))}
        if large:
            refused = [Ending(one, "FAILED", reason, error={"kind": "refused"}) for one, reason in large.items()]
            await asyncio.shield(self._said(refused))
        return [job for job in jobs if job.id not in large]

    # -- inside --------------------------------------------------------------------------------------------------

    async def _end(self, open_jobs: dict[str, Job], endings: Sequence[Ending]) -> None:
        await asyncio.shield(self._said(endings))
        for one in endings:
            open_jobs.pop(one.id, None)

    async def _said(self, endings: Sequence[Ending]) -> None:
        """Tell the inbox, however long it is locked or its disk is full: else the jobs would be left to nobody."""
        pause_seconds, longest = _PAUSE_SECONDS
        while True:
            try:
                await self.in_turn(lambda: self.inbox.end(endings, self.holder))
                return
            except VolvoxError as error:
                log.error("what became of %d jobs is told again in %.1f s: %s", len(endings), pause_seconds, error)
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, longest)

    async def _each(
        self, do: Callable[[Applied, Job, V], T], applied: Applied, some: Sequence[tuple[Job, V]]
    ) -> list[T | Ending]:
        """What `do` makes of each job, in as many threads as it takes: few where disks are quick."""
        made: dict[str, T | Ending] = {}
        left = deque(some)

        def in_turn() -> None:
            while True:
                try:
                    job, value = left.popleft()
                except IndexError:
                    return
                made[job.id] = self._one(do, applied, job, value)

        async def thread() -> None:
            async with self._turns.setdefault(applied.function.name, asyncio.Semaphore(_AT_ONCE)):
                if left:
                    await asyncio.get_running_loop().run_in_executor(self.threads, in_turn)

        threads = {asyncio.ensure_future(thread())}
        try:
            while pending := {one for one in threads if not one.done()}:
                more = left and len(threads) < min(_AT_ONCE, len(some))
                await asyncio.wait(pending, timeout=_JOIN_SECONDS if more else None)
                if left and len(threads) < _AT_ONCE:
                    threads.add(asyncio.ensure_future(thread()))
        finally:
            left.clear()  # of those that are cancelled, the next is not begun
            for one in threads:
                one.cancel()
        await asyncio.gather(*threads)
        return [made[job.id] for job, _ in some]

    def _one(self, do: Callable[[Applied, Job, V], T], applied: Applied, job: Job, value: V) -> T | Ending:
        """What `do` makes of one job; a fault of ours fails this one, and none of those beside it."""
        try:
            return do(applied, job, value)
        except Exception as error:
            log.exception("job %s", job.id)
            return self._failed(applied, job, *told_of(error))


def _event(job: Job) -> str:
    """The notification that scripts expect, where nobody sent one."""
    return notification(job.place, job.key, size=job.size, user=job.user, modified=job.created) if job.key else ""


def fetched_by(runtime: Runtime, function: Function, job: Job) -> bool:
    """Whether the runtime fetches the job's file itself; one that does so from some places only says from which."""
    fetches_from = getattr(runtime, "fetches_from", None)
    return runtime.fetches and (fetches_from is None or bool(fetches_from(function, job.place)))


def _too_large(function: Function, job: Job) -> str:
    """Why an object is not fetched, or empty: `max_object_mb`, or else the scratch disk that it would not fit on."""
    limits = {"max_object_mb": function.max_object_mb or None, "resources.storage_mb": function.resources.storage_mb}
    name, limit = next(((name, limit) for name, limit in limits.items() if limit), ("", 0))
    if not limit or job.size <= limit << 20:
        return ""
    return f"it has {job.size / (1 << 20):,.1f} MB, and function {function.name!r} takes {limit:,} MB at most ({name})"


def told_of(error: Exception) -> tuple[Kind, str]:
    """What an error means for a job, and the reason; what is no fault of the job's object is tried again."""
    if isinstance(error, VolvoxError):
        if isinstance(error, Unavailable | AccessRefused | PlaceGone) or full_behind(error):
            return "transient", str(error)
        if isinstance(error, NotFound):
            return "missing", str(error)
        return "refused" if isinstance(error, InvalidInput) else "failed", str(error)
    if full := full_behind(error):
        return "transient", f"the disk here is full ({full.filename or full})"
    if isinstance(error, OSError):
        return "failed", f"{error.filename or 'a file'}: {error.strerror or error}"
    return "failed", f"{type(error).__name__}: {error}"  # a fault of ours


def _plain(text: str) -> str:
    """Without what no database holds: what a script printed is quoted in reasons."""
    return text.replace("\0", "\\0").encode(errors="backslashreplace").decode()


def waited(job: Job) -> float:
    """Seconds that a job waited before it was begun last."""
    begun = next((step.time for step in reversed(job.steps) if step.state == "STARTING"), time.time())
    return begun - job.created


def log_tail(path: Path, size: int = 4000) -> str:
    """The end of a log."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - size))
        return stream.read().decode(errors="replace")
    return ""
