"""Run a stage on a work pool: submit it once, follow it, and take its record as if it had run here."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import typing
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import BaseModel

from flows.hearing import Hearing, hearing, patiently
from volvox import progress, results
from volvox.errors import InvalidInput, StageCancelled, StageCrashed, StageFailed
from volvox.identity import digest_of
from volvox.pools.definition import Priority
from volvox.pools.requests import gpu_tags
from volvox.records import Record
from volvox.settings import Home
from volvox.stack import waking

if TYPE_CHECKING:
    from prefect.events import Event

    from volvox.store import Store

R = TypeVar("R", bound=Record)

_CANCEL_SECONDS = 15.0
_LEFT_SECONDS = 5.0
_AMENDED_SECONDS = 7.0  # on ECS the reconciler looks every 5 s
_LOOK_SECONDS = 0.3
# Causes that another run would meet again; what the reconciler writes of them begins so.
_HOPELESS = ("out of memory", "image", "cannot be scheduled")


@dataclass(frozen=True)
class Submission:
    """One stage for one pool.

    Attributes:
        stage: The stage's flow.
        pool: The work pool's name.
        parameters: Parameters of the flow, records and all.
        store: Where the run leaves its record.
        job_variables: What the pool's job template is told of this run: memory, GPUs, ...
        tries: How often to run it in all if what it runs on vanishes.
        priority: Its turn among the runs that wait for the pool.
        gpus: How many GPUs it needs, for a pool that has only so many.
    """

    stage: Flow[..., Any]
    pool: str
    parameters: dict[str, Any]
    store: Store
    job_variables: dict[str, Any]
    tries: int = 2
    priority: Priority = "default"
    gpus: int = 0

    @property
    def where(self) -> str:
        """Which stage on which pool, for messages."""
        return f"{self.stage.name} on pool {self.pool!r}"

    @property
    def deployment(self) -> str:
        """The deployment that runs it."""
        return deployment_name(self.stage.name, self.pool)

    @property
    def tag(self) -> str:
        """What a run of the same stage with the same parameters is found by, wherever it runs."""
        return f"volvox-stage:{digest_of([self.stage.name, as_json(self.parameters)])[:32]}"


def deployment_name(stage: str, pool: str) -> str:
    """Prefect's name of the deployment that runs `stage` on `pool`."""
    return f"{stage}/{pool}"


def as_json(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as Prefect stores them: records as JSON, saved blocks by reference, other blocks left out.

    A block that was never saved is this process's own idea of an address; the pool's jobs have theirs.
    """
    told: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, Block):
            if value._block_document_id is not None:
                told[name] = {"$ref": {"block_document_id": str(value._block_document_id)}}
        elif isinstance(value, BaseModel):
            told[name] = value.model_dump(mode="json", exclude={"digest"})
        elif value is not None:
            told[name] = json.loads(json.dumps(value))
    return told


async def run_elsewhere(submission: Submission) -> Any:
    """Run the stage on its pool and return its record, validated.

    A run of the same stage and parameters that is under way is joined, so a parent that was killed and started again
    goes on with it. Cancelling the caller cancels the run.

    Raises:
        InvalidInput: If the pool has no deployment of the stage.
        StageCrashed: If what it ran on vanished as often as it was tried, or could not run at all.
        StageCancelled: If somebody cancelled it.
        VolvoxError: As the stage itself raises.
    """
    kind: type[Record] = typing.get_type_hints(inspect.unwrap(submission.stage.fn))["return"]
    async with hearing() as server:
        for left in range(submission.tries - 1, -1, -1):
            begun = asyncio.ensure_future(_begun(server, submission))
            try:
                run = await asyncio.shield(begun)  # half submitted, it would run though nobody knew of it
                progress.note(f"on pool {submission.pool}: run {run.name}", flow_run=str(run.id))
                run, cancelling = await _settled(server.client, await server.ended(run.id, _hear))
            except asyncio.CancelledError:
                await asyncio.shield(_cancelled(begun))
                raise
            state, message = run.state, (run.state.message or "" if run.state else "")
            assert state is not None
            if state.type == StateType.CANCELLED or (cancelling and state.type == StateType.CRASHED):
                raise StageCancelled(f"{submission.where} was cancelled: {message or 'in Prefect'}")
            if state.type == StateType.CRASHED:
                if left and not message.lower().startswith(_HOPELESS):
                    progress.note(f"on pool {submission.pool}: {message or 'the run is gone'}; run again")
                    continue
                raise StageCrashed(f"{submission.where} crashed: {message or 'its process or its machine is gone'}")
            kept = await _left_by(submission.store, run.id)
            if kept is None:
                raise StageFailed(_unexplained(submission, state.type, message))
            _retell(kept)
            return results.record_of(kept, kind, submission.where)
    raise AssertionError("tried at least once")


def _unexplained(submission: Submission, state: StateType, message: str) -> str:
    if state == StateType.COMPLETED:
        return (
            f"{submission.where} completed, but its record is not in the store at {submission.store.address}; the jobs "
            f"of the pool must have the same store: `volvox pools check {submission.pool}`"
        )
    return f"{submission.where} failed: {message or 'without a message'}"


async def _begun(server: Hearing, submission: Submission) -> FlowRun:
    """The run that is under way, or a new one; a server that is too busy to answer makes one all the same."""
    key = f"{submission.tag}:{uuid.uuid4()}"  # by which one is found that was made though nobody heard of it

    async def begun() -> FlowRun:
        async with server.submitting:
            return await _under_way(server.client, submission) or await _submitted(server.client, submission, key)

    return await patiently(begun)


async def _under_way(client: PrefectClient, submission: Submission) -> FlowRun | None:
    """A run of the same stage and parameters that has not ended."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        FlowRunFilterTags,
    )

    unfinished = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING]
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[submission.tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished)),
        ),
        limit=1,
    )
    return found[0] if found else None


async def _submitted(client: PrefectClient, submission: Submission, key: str) -> FlowRun:
    from prefect.deployments import arun_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        run = await arun_deployment(
            submission.deployment,
            client=client,
            parameters=as_json(submission.parameters),
            job_variables=submission.job_variables or None,
            tags=["volvox", submission.tag, *gpu_tags(submission.gpus)],
            work_queue_name=None if submission.priority == "default" else submission.priority,
            timeout=0,
            idempotency_key=key,
        )
    except ObjectNotFound as error:
        raise InvalidInput(
            f"the Prefect server has no deployment {submission.deployment!r}; `volvox apply` makes it match the pools "
            "that are enabled (`volvox pools`)"
        ) from error
    waking.wake(Home.current(), submission.pool)
    return run


async def _settled(client: PrefectClient, run: FlowRun) -> tuple[FlowRun, bool]:
    """The run once what is said of its end is final, and whether it crashed because it was cancelled.

    A job that is asked to end says itself that it crashed; a moment later the reconciler says why: it was cancelled, it
    had no more memory, somebody took it away.
    """
    if run.state is None or run.state.type != StateType.CRASHED:
        return run, False
    cancelling = any(state.type == StateType.CANCELLING for state in await client.read_flow_run_states(run.id))
    deadline = asyncio.get_running_loop().time() + _AMENDED_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        run = await client.read_flow_run(run.id)
        state = run.state
        told = not cancelling and state is not None and state.message and not _vague(state.message)
        if state is not None and (state.type != StateType.CRASHED or told):
            return run, cancelling
        await asyncio.sleep(_LOOK_SECONDS)
    return run, cancelling


def _vague(message: str) -> bool:
    return message.startswith(("Execution was", "Flow run infrastructure exited"))


def _hear(event: Event) -> None:
    """Tell the run's progress on."""
    told = event.payload
    if told.get("kind") == "noted":
        progress.note(str(told.get("text", "")))
    else:
        _advance(told)


def _advance(told: dict[str, Any]) -> None:
    progress.advance(
        float(told.get("done", 0)), float(told.get("total", 0)), str(told.get("unit", "")),
        **dict(told.get("detail") or {}),
    )  # fmt: skip


async def _cancelled(begun: asyncio.Future[FlowRun]) -> None:
    """Cancel the run, and wait until nothing of it runs any more; goes on though the caller leaves."""
    from prefect.states import Cancelled, Cancelling

    with contextlib.suppress(Exception):  # a server that is gone cannot be told; the caller ends in any case
        async with asyncio.timeout(_CANCEL_SECONDS), hearing() as server:
            run_id = (await begun).id
            await server.client.set_flow_run_state(run_id, Cancelling())
            run, _ = await _settled(server.client, await server.ended(run_id, _hear))
            if run.state is not None and run.state.type == StateType.CRASHED:  # a process says so of itself
                message = "Cancelled by the run that waited for it."
                await server.client.set_flow_run_state(run_id, Cancelled(message=message), force=True)


async def _left_by(store: Store, run_id: UUID) -> dict[str, Any] | None:
    """What the run left, which a shared volume may show a moment later than the server tells of its end."""
    deadline = asyncio.get_running_loop().time() + _LEFT_SECONDS
    while (kept := await asyncio.to_thread(store.record, results.STAGE, str(run_id))) is None:
        if asyncio.get_running_loop().time() > deadline:
            return None
        await asyncio.sleep(0.1)
    return kept


def _retell(kept: dict[str, Any]) -> None:
    """What only the run itself could know of its time."""
    if told := kept.get("progress"):
        _advance(told)
    if kept.get("reused"):
        progress.reused()
    progress.worked(float(kept.get("worked_seconds") or 0.0))
