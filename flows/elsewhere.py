"""Run a stage on a work pool: submit it once, follow it, and take its record as if it had run here."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import typing
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
from prefect import Flow
from prefect.blocks.core import Block
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import BaseModel

from flows.stage import PROGRESS
from volvox import progress, results
from volvox.errors import InvalidInput, StageCancelled, StageCrashed, StageFailed, Unavailable
from volvox.identity import digest_of
from volvox.pools.definition import Priority
from volvox.pools.requests import gpu_tags
from volvox.records import Record

if TYPE_CHECKING:
    from prefect.events import Event

    from volvox.store import Store

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_POLL_SECONDS = 5.0  # only for what the server's events did not tell
_POLL_AT_MOST_SECONDS = 30.0  # where nothing is heard for long: a hundred that wait must not keep the server busy
_CANCEL_SECONDS = 15.0
_LEFT_SECONDS = 5.0
_AMENDED_SECONDS = 7.0  # on ECS the reconciler looks every 5 s
_LOOK_SECONDS = 0.3
_BUSY_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0)
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
    async with get_client() as client:
        for left in range(submission.tries - 1, -1, -1):
            run = await _begun(client, submission)
            progress.note(f"on pool {submission.pool}: run {run.name}", flow_run=str(run.id))
            try:
                run, cancelling = await _settled(client, await _ended(client, run.id))
            except asyncio.CancelledError:
                await asyncio.shield(_cancelled(client, run.id))
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


async def _begun(client: PrefectClient, submission: Submission) -> FlowRun:
    """The run that is under way, or a new one; a server that is too busy to answer makes one all the same."""
    key = f"{submission.tag}:{uuid.uuid4()}"  # by which one is found that was made though nobody heard of it

    async def begun() -> FlowRun:
        return await _under_way(client, submission) or await _submitted(client, submission, key)

    return await _patiently(begun)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again a server that is too busy to answer in time, as one is that gets a hundred runs at once."""
    for pause in _BUSY_SECONDS:
        try:
            return await ask()
        except httpx.TimeoutException:
            await asyncio.sleep(pause)
    try:
        return await ask()
    except httpx.TimeoutException as error:
        raise Unavailable("the Prefect server is too busy to answer; run the same command again later") from error


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
        return await arun_deployment(
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


async def _ended(client: PrefectClient, run_id: UUID) -> FlowRun:
    """Follow a run until it has ended: by its events, and now and then by asking."""
    async with contextlib.aclosing(_events(run_id)) as events:
        hearing = asyncio.ensure_future(anext(events))
        pause = _POLL_SECONDS
        try:
            while True:
                run = await _patiently(lambda: client.read_flow_run(run_id))
                if run.state is not None and run.state.is_final():
                    return run
                waiting = run.state is not None and run.state.is_scheduled()
                pause = min(pause * 1.5, _POLL_AT_MOST_SECONDS) if waiting else _POLL_SECONDS
                while (await asyncio.wait([hearing], timeout=pause))[0]:
                    pause = _POLL_SECONDS
                    event = hearing.result()
                    hearing = asyncio.ensure_future(anext(events))
                    if _hear(event):
                        break
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)


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


async def _events(run_id: UUID) -> AsyncGenerator[Event, None]:
    """The run's events as they come; a subscription that breaks is made again, for ever."""
    from prefect.events.clients import get_events_subscriber
    from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter

    wanted = EventFilter(
        event=EventNameFilter(prefix=["prefect.flow-run.", PROGRESS]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    while True:
        with contextlib.suppress(Exception):  # the server restarts: what is missed meanwhile is asked for
            async with get_events_subscriber(filter=wanted) as subscriber:
                async for event in subscriber:
                    yield event
        await asyncio.sleep(_POLL_SECONDS)


def _hear(event: Event) -> bool:
    """Tell progress on; whether the run may have ended."""
    if event.event == PROGRESS:
        told = event.payload
        if told.get("kind") == "noted":
            progress.note(str(told.get("text", "")))
        else:
            _advance(told)
        return False
    kind = event.resource.get("prefect.state-type")
    return bool(kind) and StateType(kind) in (
        StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED,
    )  # fmt: skip


def _advance(told: dict[str, Any]) -> None:
    progress.advance(
        float(told.get("done", 0)), float(told.get("total", 0)), str(told.get("unit", "")),
        **dict(told.get("detail") or {}),
    )  # fmt: skip


async def _cancelled(client: PrefectClient, run_id: UUID) -> None:
    """Cancel the run, and wait until nothing of it runs any more."""
    from prefect.states import Cancelled, Cancelling

    with contextlib.suppress(Exception):  # a server that is gone cannot be told; the caller ends in any case
        async with asyncio.timeout(_CANCEL_SECONDS):
            await client.set_flow_run_state(run_id, Cancelling())
            run, _ = await _settled(client, await _ended(client, run_id))
            if run.state is not None and run.state.type == StateType.CRASHED:  # a process says so of itself
                message = "Cancelled by the run that waited for it."
                await client.set_flow_run_state(run_id, Cancelled(message=message), force=True)


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
