"""What has to be done so that the flow runs' states and the engine's jobs agree; pure, so that it can be tested.

The rules, for jobs of our own pools only:

* a job whose run is over ends: at once if the run was cancelled or deleted, else when it does not leave by itself;
* a job that has ended is removed when its run is over, that is, after its reason was read;
* a run that claims to run, and whose job has ended, is stuck or is not there any more, is over, for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from volvox.infrastructure import jobs as told
from volvox.infrastructure.jobs import Job

GRACE_SECONDS = 6.0  # SIGTERM, then SIGKILL; with the way there and back a cancelled run is gone within 15 s

_OVER = frozenset({"COMPLETED", "FAILED", "CRASHED"})
_LEAVES_SECONDS = 10.0  # a run tells its end before its process has written its logs and left
_KEPT_SECONDS = 3.0  # a worker that is not ours may still read how its container ended
_SILENT_SECONDS = 10.0  # a process that ended well has told its run's end; the server may be slow to write it
_ABSENT_SECONDS = 4.0  # a job is told to Prefect a moment after it was made
_COMING_SECONDS = 4.0  # an image may be fetched for minutes; a job that comes then finds its run cancelled, and ends
_LOST_SECONDS = 60.0  # a submission that nobody works on any more
_EARLY = datetime.min.replace(tzinfo=UTC)

# What Prefect's own workers and observers say of any end; the sweep for dead runs says it of any silence.
_GENERIC = (
    "Flow run infrastructure exited with non-zero status code",
    "No active or succeeded pods found for any job",
    "Kubernetes job was deleted",
    "The following containers stopped with a non-zero exit code",
    "ECS task failed to start",
    "No sign of life",
)
# What a run's own process says when it was asked to end and nobody had cancelled the run.
_INTERRUPTED = ("Execution was aborted by a termination signal", "Execution was cancelled by the runtime environment")
_CAUSES = frozenset({"out_of_memory", "image_not_found", "image_refused", "unschedulable", "gone"})


@dataclass(frozen=True, slots=True)
class Run:
    """A flow run as the Prefect server has it.

    Attributes:
        id: Its id.
        state: Type of its state, e.g. `RUNNING`.
        since: When it came into it.
        message: What its state says.
        pool_id: Id of its work pool.
        identifier: `infrastructure_pid`; empty while there is none.
        identifier_since: When it was first seen with that identifier.
        submitting: Whether a worker of this process is at work to start it, or may be one elsewhere.
        again: Whether its flow allows that it is run once more.
        started: Whether its process ever told that it runs, so that it can be asked to end.
    """

    id: str
    state: str
    since: datetime
    message: str = ""
    pool_id: str = ""
    identifier: str = ""
    identifier_since: datetime | None = None
    submitting: bool = False
    again: bool = False
    started: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """End this job and remove what is left of it; then its run is cancelled, if `cancelled`."""

    job: Job
    grace_seconds: float
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Nothing of the run is left: it may be called cancelled."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Crashed:
    """The run is over, for this reason.

    Attributes:
        run_id: Its id.
        message: The reason.
        output: The last lines that its job printed.
        again: Whether to run it once more, as its flow allows.
        amend: Whether it is over already, and only the reason was wrong.
    """

    run_id: str
    message: str
    output: str = ""
    again: bool = False
    amend: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """The run waits on the engine, for this."""

    run_id: str
    message: str


Action = End | Cancelled | Crashed | Waits


def decide(
    runs: Iterable[Run],
    jobs: Iterable[Job],
    now: datetime,
    *,
    pools: Collection[str],
    covers: Callable[[str], bool] = lambda _: True,
) -> list[Action]:
    """What to do now. The jobs must have been listed before the runs were read.

    Args:
        runs: Those of our pools that are not over, and those of the jobs; one that is missing is unknown to the server.
        jobs: All that the engine shows.
        now: The time, with a zone.
        pools: Ids of our pools. Nothing of another pool is touched.
        covers: Whether the engine would show the job of an identifier.
    """
    known = {run.id: run for run in runs}
    ours: dict[str, list[Job]] = {}
    for job in jobs:
        run = known.get(job.run_id)
        if (job.pool_id or (run.pool_id if run else "")) in pools:
            ours.setdefault(job.run_id, []).append(job)
    actions: list[Action] = []
    for run in known.values():
        if run.pool_id in pools or run.id in ours:
            actions += _of_run(run, ours.get(run.id, []), now, covers)
    for run_id, some in ours.items():
        for job in some:
            actions += _of_job(job, known.get(run_id), now)
    return actions


def _of_job(job: Job, run: Run | None, now: datetime) -> list[Action]:
    if run is None:  # it was deleted, and its pool is ours
        return [End(job, GRACE_SECONDS)]
    if run.state in ("CANCELLING", "CANCELLED"):
        # One that has not started does not listen yet, and would make a run that is called cancelled run.
        return [End(job, GRACE_SECONDS if run.started else 0.0, cancelled=True)]
    if run.state in _OVER:
        for_seconds = (now - run.since).total_seconds()
        if job.state in ("waiting", "starting"):  # a killed pod's Job makes another one, which would wake the run
            return [End(job, 0.0)]
        if job.live and for_seconds > _LEAVES_SECONDS:
            return [End(job, GRACE_SECONDS)]
        if not job.live and for_seconds > _KEPT_SECONDS:
            return [End(job, 0.0)]
    return []


def _of_run(run: Run, jobs: list[Job], now: datetime, covers: Callable[[str], bool]) -> list[Action]:
    for_seconds = (now - run.since).total_seconds()
    if run.state == "CANCELLING":
        elsewhere = bool(run.identifier) and not covers(run.identifier)
        coming = run.submitting and for_seconds < _COMING_SECONDS
        return [] if jobs or elsewhere or coming else [Cancelled(run.id)]
    if run.state in _OVER:
        if amended := _amended(run, jobs):
            return amended
        if run.state == "CRASHED" and run.message.startswith(_INTERRUPTED) and not any(job.live for job in jobs):
            return [Crashed(run.id, told.interrupted(), again=run.again, amend=not run.again)]
        return []
    if run.state not in ("PENDING", "RUNNING"):
        return []
    if live := [job for job in jobs if job.live]:
        waits = next((job.message for job in live if job.message), "")
        return [Waits(run.id, waits)] if waits else []
    if job := _current(run, jobs):
        if job.reason:
            again = run.again and job.reason == "gone"
            return [Crashed(run.id, job.message, job.output, again=again)]
        if (now - max(run.since, job.ended or run.since)).total_seconds() > _SILENT_SECONDS:
            return [Crashed(run.id, f"the {job.name} ended well, and the run never told how it went; run it again")]
        return []
    if run.identifier:
        seen = (now - (run.identifier_since or now)).total_seconds()
        if covers(run.identifier) and seen > _ABSENT_SECONDS:
            return [Crashed(run.id, told.vanished(_kind_of(run.identifier)), again=run.again)]
        return []
    if run.state == "PENDING" and not run.submitting and for_seconds > _LOST_SECONDS:
        return [Crashed(run.id, "the worker that was to start it ended before it had; run it again", again=run.again)]
    return []


def _current(run: Run, jobs: list[Job]) -> Job | None:
    """The job of the run's present attempt: earlier ones may still lie about."""
    if run.identifier:
        return next((job for job in jobs if job.identifier == run.identifier), None)
    newest = max(jobs, key=lambda job: job.created or _EARLY, default=None)
    if newest is not None and run.state == "PENDING" and (newest.created or _EARLY) < run.since:
        return None
    return newest


def _amended(run: Run, jobs: list[Job]) -> list[Action]:
    job = _current(run, jobs)
    if job is None or job.live or job.reason not in _CAUSES or job.message in run.message:
        return []
    if run.state == "CRASHED" and run.message.startswith(_GENERIC):
        return [Crashed(run.id, job.message, job.output, amend=True)]
    # Its process lived, and told that a child was killed: only the engine knows why.
    if run.state == "FAILED" and job.reason == "out_of_memory" and "out of memory" not in run.message.lower():
        return [Crashed(run.id, f"{job.message}; {run.message}", amend=True)]
    return []


def _kind_of(identifier: str) -> str:
    if "::" in identifier:
        return "ECS task"
    return "container" if "://" in identifier else "Kubernetes job"
