"""What a worker may start now: no more runs than its pool takes at a time, no more GPUs than it has, in their order.

Prefect's server counts a pool's runs when it is asked, and only those that are pending or running: one that is about
to start, or about to end, takes no place, and of GPUs it knows nothing. So a worker looks once more at what it was
given. What is taken is counted anew each time, from the runs themselves: a worker that is killed leaves nothing taken.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from volvox.pools.definition import PRIORITIES
from volvox.pools.requests import gpus_of

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.workers.base import BaseWorker

_AT_ONCE = 200  # the most that the server answers with
_ENDING_SECONDS = 60.0  # one that does not end when it is cancelled shall not take a place for ever

K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound="BaseWorker[Any, Any, Any]")


def admitted(
    asked: Mapping[K, int], taken: Mapping[K, int], limit: int | None, gpus_total: int | None
) -> tuple[list[K], list[K]]:
    """Which of the runs that wait may start, and which of them wait for a GPU.

    Of those that need GPUs none overtakes another, or one that needs many would wait for ever; others pass them.

    Args:
        asked: Those that wait, in their order: run -> GPUs it needs. One that needs more than there are gets all.
        taken: Those that are under way: run -> GPUs it has.
        limit: How many may be under way, or None.
        gpus_total: How many GPUs there are for all of them, or None where nobody counts them.
    """
    places = None if limit is None else limit - len(taken)
    free = 0 if gpus_total is None else gpus_total - sum(taken.values())
    chosen: list[K] = []
    held: list[K] = []
    for key, wanted in asked.items():
        if key in taken:
            continue
        if places is not None and len(chosen) >= places:
            break
        needed = 0 if gpus_total is None else min(wanted, gpus_total)
        if needed and (held or needed > free):
            held.append(key)
        else:
            free -= needed
            chosen.append(key)
    return chosen, held


def in_turns(worker: W, gpus_total: int | None = None) -> W:
    """Make `worker` start no more than `admitted` says.

    Args:
        worker: Before it is started.
        gpus_total: How many GPUs the jobs of its pool have together; None: nobody counts them.
    """
    polled = worker._get_scheduled_flow_runs
    started: dict[UUID, int] = {}
    told: set[UUID] = set()

    async def get_scheduled_flow_runs() -> Any:
        given = list(await polled())
        if not given:
            return given
        taken = await _taken(worker, started)
        limit = worker._work_pool.concurrency_limit if worker._work_pool else None
        chosen, held = _choose(given, taken, limit, gpus_total)
        if held:
            # The server gives as many as there are places, so those that wait for a GPU may be all that it gave.
            given += await _behind(worker, given)
            chosen, held = _choose(given, taken, limit, gpus_total)
        by_id = {one.flow_run.id: one for one in given}
        for run_id in set(held) - told:
            worker.get_flow_run_logger(by_id[run_id].flow_run).info(
                "waits for a GPU: of the %s of pool %r too few are free", gpus_total, worker._work_pool_name
            )
        told.update(held)
        for run_id in set(started) - worker._submitting_flow_run_ids:
            del started[run_id]
        started.update({run_id: gpus_of(by_id[run_id].flow_run.tags) for run_id in chosen})
        return [by_id[run_id] for run_id in chosen]

    worker._get_scheduled_flow_runs = get_scheduled_flow_runs
    return worker


def _choose(
    given: list[Any], taken: Mapping[UUID, int], limit: int | None, gpus_total: int | None
) -> tuple[list[UUID], list[UUID]]:
    asked = {one.flow_run.id: gpus_of(one.flow_run.tags) for one in given}
    return admitted(asked, taken, limit, gpus_total)


async def _taken(worker: BaseWorker[Any, Any, Any], started: Mapping[UUID, int]) -> dict[UUID, int]:
    """The runs of the pool that are under way, in whatever worker, and those that this one is starting."""
    from prefect.client.schemas.objects import StateType

    found = await _runs(worker, [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    now = datetime.now(UTC)
    taken = {run.id: gpus_of(run.tags) for run in found if not _stuck(run, now)}
    return {**{run_id: started.get(run_id, 0) for run_id in worker._submitting_flow_run_ids}, **taken}


def _stuck(run: FlowRun, now: datetime) -> bool:
    state = run.state
    return (
        state is not None
        and state.type.value == "CANCELLING"
        and (now - state.timestamp).total_seconds() > _ENDING_SECONDS
    )


async def _behind(worker: BaseWorker[Any, Any, Any], given: list[Any]) -> list[Any]:
    """The runs that come after those that were given; of schedules, which are looked at elsewhere, none."""
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.responses import WorkerFlowRunResponse

    there, now = {one.flow_run.id for one in given}, datetime.now(UTC)
    queues = list(PRIORITIES)
    found = [
        run
        for run in await _runs(worker, [StateType.SCHEDULED])
        if run.id not in there
        and not run.auto_scheduled
        and run.next_scheduled_start_time is not None
        and run.next_scheduled_start_time <= now
    ]
    # By queue, and within one by time, which is the order they come in.
    found.sort(key=lambda run: queues.index(run.work_queue_name) if run.work_queue_name in queues else len(queues))
    return [
        WorkerFlowRunResponse(work_pool_id=given[0].work_pool_id, work_queue_id=run.work_queue_id, flow_run=run)
        for run in found
        if run.work_queue_id is not None
    ]


async def _runs(worker: BaseWorker[Any, Any, Any], types: list[Any]) -> list[FlowRun]:
    from prefect.client.schemas import filters
    from prefect.client.schemas.sorting import FlowRunSort

    return await worker.client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(
            state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=types))
        ),
        work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[worker._work_pool_name])),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=_AT_ONCE,
    )
