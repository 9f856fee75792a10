"""After a downtime one run stands for all the times that a schedule missed.

Prefect makes the runs of a schedule ahead of their time (three, or those of the next hour), and goes on making them
while no worker runs. Nothing is made for times at which the server itself was down, but whatever was made and missed
would run, all of it, as soon as a worker comes back. So a worker looks before it starts what it was given: of the runs
of one schedule whose time has come, the newest is left and the others are cancelled. Cancelled and not deleted: who
looks for last Sunday's run finds it, with the reason.

It is done in each poll, not beside the polls: on a machine that wakes from sleep the first poll would be faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.workers.base import BaseWorker

_AT_ONCE = 200  # the most that the server answers with
_CANCELLED_AT_ONCE = 10  # it takes a transaction a run, and the answer must come in time
_TAG = "auto-scheduled"
_NOT_BEGUN = ("Scheduled", "Late")  # others of type SCHEDULED wait for a retry or a free place

W = TypeVar("W", bound="BaseWorker[Any, Any, Any]")


def once_for_missed_times(worker: W) -> W:
    """Make `worker`, before it starts scheduled runs, leave out those whose time was missed but for the newest.

    To cancel many takes a while. Until that is done the newest is held back, and all other runs are started as ever.
    """
    polled = worker._get_scheduled_flow_runs
    tidying: list[asyncio.Task[None]] = []

    async def tidy(deployments: list[UUID]) -> None:
        try:
            for newest, missed in (await leave_newest(worker.client, deployments)).values():
                worker.get_flow_run_logger(newest).info("stands for %s earlier times that were missed", len(missed))
        except Exception as error:
            worker._logger.warning("missed runs could not be cancelled, which is tried again: %s", error)

    async def get_scheduled_flow_runs() -> Any:
        given, now = await polled(), datetime.now(UTC)
        due = (one.flow_run.deployment_id for one in given if _is_due(one.flow_run, now))
        late = list({deployment for deployment in due if deployment is not None})
        if not late:
            return given
        if not (tidying and not tidying[-1].done()):
            if all(len(runs) == 1 for runs in _by_schedule(await _due(worker.client, late, now)).values()):
                return given
            tidying[:] = [asyncio.create_task(tidy(late))]
        return [one for one in given if not _is_due(one.flow_run, now)]

    worker._get_scheduled_flow_runs = get_scheduled_flow_runs
    return worker


async def leave_newest(
    client: PrefectClient, deployments: Iterable[UUID], now: datetime | None = None
) -> dict[UUID, tuple[FlowRun, list[FlowRun]]]:
    """Cancel the runs of each schedule whose time has come, but for the newest.

    Never a run that a person or an automation made, one that has begun, or one whose time is still to come. Schedules
    of one deployment are told apart: they may train different models.

    Args:
        client: A client of the server.
        deployments: Whose schedules.
        now: The time; default: what the clock says.

    Returns:
        Id of the schedule -> the run that is left and those that were cancelled, where there were any.
    """
    left: dict[UUID, tuple[FlowRun, list[FlowRun]]] = {}
    for schedule, runs in _by_schedule(await _due(client, list(deployments), now or datetime.now(UTC))).items():
        *missed, newest = sorted(runs, key=lambda run: run.expected_start_time or datetime.min.replace(tzinfo=UTC))
        told = f"Missed: nothing ran it in time. Run {newest.name!r}, planned for {_shown(newest)}, stands for it."
        for start in range(0, len(missed), _CANCELLED_AT_ONCE):
            await _skip(client, [run.id for run in missed[start : start + _CANCELLED_AT_ONCE]], told)
        if missed:
            left[schedule] = (newest, missed)
    return left


async def _skip(client: PrefectClient, runs: list[UUID], message: str) -> None:
    """Cancel those of `runs` that have not begun meanwhile, in one request."""
    from prefect.client.schemas import filters

    wanted = filters.FlowRunFilter(
        id=filters.FlowRunFilterId(any_=runs),
        state=filters.FlowRunFilterState(name=filters.FlowRunFilterStateName(any_=list(_NOT_BEGUN))),
    )
    body = {
        "flow_runs": wanted.model_dump(mode="json"),
        "state": {"type": "CANCELLED", "name": "Skipped", "message": message},
    }
    send: Any = client.request  # its type lists the paths that it knows
    await send("POST", "/flow_runs/bulk_set_state", json=body)


async def _due(client: PrefectClient, deployments: list[UUID], now: datetime) -> list[FlowRun]:
    from prefect.client.schemas import filters
    from prefect.client.schemas.sorting import FlowRunSort

    wanted = filters.FlowRunFilter(
        deployment_id=filters.FlowRunFilterDeploymentId(any_=deployments),
        tags=filters.FlowRunFilterTags(all_=[_TAG]),
        state=filters.FlowRunFilterState(name=filters.FlowRunFilterStateName(any_=list(_NOT_BEGUN))),
        next_scheduled_start_time=filters.FlowRunFilterNextScheduledStartTime(before_=now),  # pyright: ignore[reportArgumentType]
    )
    found: list[FlowRun] = []
    while True:
        some = await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=_AT_ONCE, offset=len(found)
        )
        found += some
        if len(some) < _AT_ONCE:
            return [run for run in found if _is_due(run, now)]


def _by_schedule(runs: Iterable[FlowRun]) -> dict[UUID, list[FlowRun]]:
    found: dict[UUID, list[FlowRun]] = {}
    for run in runs:
        if run.created_by is not None and run.created_by.type == "SCHEDULE" and run.created_by.id is not None:
            found.setdefault(run.created_by.id, []).append(run)
    return found


def _is_due(run: FlowRun, now: datetime) -> bool:
    """Whether a schedule made it, it has not begun, and its time has come."""
    # What a worker is given comes without its state, which is SCHEDULED.
    begun = run.run_count > 0 or (run.state is not None and run.state.name not in _NOT_BEGUN)
    time = run.next_scheduled_start_time or run.expected_start_time
    return run.auto_scheduled and not begun and time is not None and time <= now


def _shown(run: FlowRun) -> str:
    return f"{run.expected_start_time:%Y-%m-%d %H:%M} UTC" if run.expected_start_time else "no time"
