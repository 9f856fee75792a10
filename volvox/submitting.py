"""Start runs on the Prefect server of this installation, and follow them.

The one file of this package that may import Prefect, and the one thing that users of Python need:

    import volvox

    made = volvox.run("cycle", source="~/plankton", name="lake", arguments={"epochs": 40})
    print(made.evaluation.metrics["accuracy"], made.service.predict_url)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import typing
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from volvox import records, results
from volvox.blocking import result_of
from volvox.errors import InvalidInput, NotFound, PoolDown, StageFailed, Unavailable
from volvox.parameters import as_json
from volvox.pools.definition import PRIORITIES, Priority
from volvox.records import Record
from volvox.returned import RETURNED_BY
from volvox.settings import Home
from volvox.stack import waking

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

    from volvox.store import Store

_STORE_GROUP = "volvox.store"
_FIRST_LOOK_SECONDS = 0.1
_LOOK_SECONDS = 2.0  # at most between two looks at a run that takes its time
_LOST_SECONDS = 15.0  # a server that is being started again is waited for
_LEFT_SECONDS = 5.0  # a shared volume may show a record later than the server tells of the end

R = TypeVar("R", bound=Record)
Wait = Literal[True]
Seconds = float | None


@dataclass(frozen=True)
class Submitted(Generic[R]):
    """A run that was handed to a work pool.

    Attributes:
        id: Prefect's id of the flow run.
        name: Its name there.
        url: Its page in Prefect.
        flow: The flow's name.
        on: The deployment, named after the pool.
    """

    id: str
    name: str
    url: str
    flow: str
    on: str
    _store: Store = field(repr=False, compare=False)

    def result(self, timeout_seconds: Seconds = None) -> R:
        """Wait for its end and return its record.

        Args:
            timeout_seconds: How long to wait; default: as long as it takes. The run itself goes on.

        Raises:
            TimeoutError: If it has not ended by then.
            StageCancelled: If somebody cancelled it.
            StageCrashed: If its process, container, pod or task is gone.
            Unavailable: If the Prefect server does not answer.
            VolvoxError: As the flow itself raises.
        """
        return result_of(self.aresult(timeout_seconds))

    async def aresult(self, timeout_seconds: Seconds = None) -> R:
        """The same as `result`, for a coroutine."""
        run = await _ended(self, timeout_seconds)
        assert run.state is not None
        kept = await _left_by(self._store, self.id) if run.state.type.value in ("COMPLETED", "FAILED") else None
        where, message = f"{self.flow} on {self.on!r}", run.state.message or ""
        ended = results.ended(run.state.type.value, message, kept, RETURNED_BY[self.flow], where=where, url=self.url)
        return typing.cast(R, ended)


# fmt: off
@overload
def run(
    flow: Literal["cycle"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ..., **parameters: Any
) -> records.Cycle: ...
@overload
def run(
    flow: Literal["data"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ..., **parameters: Any
) -> records.Dataset: ...
@overload
def run(
    flow: Literal["training"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ..., **parameters: Any
) -> records.TrainedModel: ...
@overload
def run(
    flow: Literal["evaluation"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ...,
    **parameters: Any
) -> records.Evaluation: ...
@overload
def run(
    flow: Literal["registration"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ...,
    **parameters: Any
) -> records.ModelVersion: ...
@overload
def run(
    flow: Literal["packaging"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ...,
    **parameters: Any
) -> records.Image: ...
@overload
def run(
    flow: Literal["publication"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ...,
    **parameters: Any
) -> records.CatalogueEntry: ...
@overload
def run(
    flow: Literal["serving"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ..., **parameters: Any
) -> records.Service: ...
@overload
def run(
    flow: Literal["inference"], /, *, on: str = ..., wait: Wait = ..., timeout_seconds: Seconds = ...,
    **parameters: Any
) -> records.Job: ...
@overload
def run(
    flow: Literal["cycle"], /, *, on: str = ..., wait: Literal[False], timeout_seconds: Seconds = ..., **parameters: Any
) -> Submitted[records.Cycle]: ...
@overload
def run(
    flow: str, /, *, on: str = ..., wait: Literal[False], timeout_seconds: Seconds = ..., **parameters: Any
) -> Submitted[Any]: ...
@overload
def run(
    flow: str, /, *, on: str = ..., wait: bool = ..., timeout_seconds: Seconds = ..., **parameters: Any
) -> Any: ...
# fmt: on
def run(
    flow: str, /, *, on: str = "local", wait: bool = True, timeout_seconds: Seconds = None,
    priority: Priority = "default", **parameters: Any,
) -> Any:  # fmt: skip
    """Run a flow by its deployment on the Prefect server of this VOLVOX_HOME, as a button in its UI would.

    The server checks the parameters before there is a run. PREFECT_API_URL and VOLVOX_STORE, where they are set, name
    another server and another store.

    Args:
        flow: `cycle`, or a stage: `data`, `training`, `evaluation`, ...
        on: The deployment, which is named after its work pool.
        wait: Whether to wait for the end; else a handle is returned at once.
        timeout_seconds: How long to wait; default: as long as it takes. The run itself goes on.
        priority: `high`, `default` or `low`: its turn among the runs that wait for a pool; of `cycle` its stages' too.
        parameters: Parameters of the flow; records and blocks as they are, paths as `str` or `Path`.

    Returns:
        The flow's record (`cycle`: a `volvox.records.Cycle`), or with `wait=False` a `Submitted` with `id`, `url` and
        `result()`.

    Raises:
        InvalidInput: If there is no such priority, or the server refuses a parameter; it says which and why.
        NotFound: If there is no such flow, or no such deployment of it.
        PoolDown: If nobody would start the run. Not asked with `wait=False`.
        TimeoutError: If the run has not ended in time.
        Unavailable: If the Prefect server does not answer.
        VolvoxError: As the flow itself raises.
    """
    return result_of(
        arun(flow, on=on, wait=wait, timeout_seconds=timeout_seconds, priority=priority, **parameters)
    )  # fmt: skip


async def arun(
    flow: str, /, *, on: str = "local", wait: bool = True, timeout_seconds: Seconds = None,
    priority: Priority = "default", **parameters: Any,
) -> Any:  # fmt: skip
    """The same as `run`, for a coroutine. Cancelled, it stops waiting; the run goes on."""
    if priority not in PRIORITIES:
        raise InvalidInput(f"there is no priority {priority!r}; there are {', '.join(PRIORITIES)}")
    if flow == "cycle":
        parameters["priority"] = priority
    told, given = as_json(parameters), parameters.get("store")
    async with server() as client:
        deployment = await _deployment(client, flow, on)
        store = given.open() if given is not None else await asyncio.to_thread(_local_store)
        if wait:
            await _somebody_works(client, deployment)
        run = await _created(client, deployment, f"{flow} on {on!r}", told, priority=priority)
        from prefect.utilities.urls import url_for

        url = url_for("flow-run", obj_id=run.id) or ""
    submitted: Submitted[Any] = Submitted(str(run.id), run.name, url, flow, on, store)
    return await submitted.aresult(timeout_seconds) if wait else submitted


async def adopt(
    flow: str, /, *, on: str, key: str, parameters: Mapping[str, Any], job_variables: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (), working: bool = False,
) -> Submitted[Any]:  # fmt: skip
    """The run of a flow that was made with the idempotency key `key`, or a new one; who waits for it asks `aresult`.

    Args:
        flow: The flow.
        on: The deployment.
        key: What the run is found by.
        parameters: Of the flow.
        job_variables: What the pool's job template is told of a new run.
        tags: Of a new run.
        working: Make sure that somebody would start it.

    Raises:
        InvalidInput: If the server refuses a parameter.
        NotFound: If there is no such flow, or no such deployment of it.
        PoolDown: If `working`, and nobody would.
        Unavailable: If the Prefect server does not answer.
    """
    async with server() as client:
        deployment = await _deployment(client, flow, on)
        if working:
            await _somebody_works(client, deployment)
        store = await asyncio.to_thread(_local_store)
        run = await _created(
            client, deployment, f"{flow} on {on!r}", as_json(dict(parameters)), key=key, tags=tags,
            job_variables=job_variables,
        )  # fmt: skip
        from prefect.utilities.urls import url_for

        url = url_for("flow-run", obj_id=run.id) or ""
    return Submitted(str(run.id), run.name, url, flow, on, store)


# -- inside ------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[PrefectClient]:
    """A client of this home's Prefect server, with its settings for as long as the block lasts."""
    from volvox.stack import stack

    home = Home.current()
    await stack.wait_ready_async(home, "prefect")
    told = stack.environment(home)
    os.environ.setdefault("DO_NOT_TRACK", told["DO_NOT_TRACK"])  # Prefect reads it when it is imported
    try:
        import httpx
        from prefect import settings
        from prefect.client.orchestration import get_client
        from prefect.exceptions import PrefectHTTPStatusError
    except ImportError as error:
        raise InvalidInput(f"this needs Prefect: pip install 'volvox[cycle]' ({error})") from error
    chosen = {
        getattr(settings, name): value
        for name, value in told.items()
        if name == "PREFECT_API_URL" or name.startswith("PREFECT_CLIENT_")
    }
    with settings.temporary_settings(chosen):
        try:
            async with get_client() as client:
                yield client
        except httpx.TransportError as error:
            raise Unavailable(
                f"the Prefect server at {told['PREFECT_API_URL']} does not answer ({type(error).__name__}); "
                "`volvox up` starts one"
            ) from error
        except PrefectHTTPStatusError as error:
            kind = Unavailable if error.response.status_code >= 500 else InvalidInput
            raise kind(f"the Prefect server refuses: {_refusal(error)}") from error


async def _deployment(client: PrefectClient, flow: str, on: str) -> DeploymentResponse:
    from prefect.exceptions import ObjectNotFound

    if flow not in RETURNED_BY:
        raise NotFound(f"there is no flow {flow!r}; there are {', '.join(RETURNED_BY)}")
    try:
        return await client.read_deployment_by_name(f"{flow}/{on}")
    except ObjectNotFound:
        from prefect.client.schemas.filters import FlowFilter, FlowFilterName

        of_flow = FlowFilter(name=FlowFilterName(any_=[flow]))
        found = sorted(one.name for one in await client.read_deployments(flow_filter=of_flow))
        hint = f"it has {', '.join(map(repr, found))}" if found else "it has none; `volvox apply` makes them"
        raise NotFound(f"flow {flow!r} has no deployment on {on!r}; {hint} (`volvox pools` shows the pools)") from None


async def _somebody_works(client: PrefectClient, deployment: DeploymentResponse) -> None:
    """Refuse to wait for a run that nobody would start."""
    from prefect.client.schemas.objects import WorkPoolStatus

    from volvox.stack import state

    name = deployment.work_pool_name
    if name is None:
        return
    pool = await client.read_work_pool(name)
    if pool.is_paused or pool.status == WorkPoolStatus.PAUSED:
        raise PoolDown(f"the work pool {name!r} is paused, so the run would wait; resume it in Prefect")
    own = state.read(Home.current(), "worker")
    if pool.status == WorkPoolStatus.READY or (own is not None and own.alive):  # it may be starting
        return
    raise PoolDown(f"no worker runs what the pool {name!r} is given; `volvox up` starts the one of this machine")


async def _created(
    client: PrefectClient,
    deployment: DeploymentResponse,
    where: str,
    parameters: dict[str, Any],
    *,
    priority: str = "default",
    key: str = "",
    job_variables: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
) -> FlowRun:
    from prefect.deployments import arun_deployment
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        run = await arun_deployment(
            deployment.id, client=client, parameters=parameters, timeout=0, as_subflow=False,
            work_queue_name=None if priority == "default" else priority, idempotency_key=key or None,
            job_variables=dict(job_variables) if job_variables else None, tags=[*tags] or None,
        )  # fmt: skip
    except PrefectHTTPStatusError as error:
        if error.response.status_code in (400, 409, 422):
            raise InvalidInput(f"{where} was not started: {_refusal(error)}") from error
        raise
    waking.wake(Home.current(), deployment.work_pool_name or "")
    return run


def _refusal(error: Any) -> str:
    """What the server says, without the frame around it."""
    try:
        told = error.response.json()
    except ValueError:
        return error.response.text or str(error)
    detail = told.get("detail") or told.get("exception_detail") if isinstance(told, dict) else None
    if not detail:
        return str(told)
    return detail.removeprefix("Error creating flow run: ") if isinstance(detail, str) else json.dumps(detail)


async def _ended(submitted: Submitted[Any], timeout_seconds: Seconds) -> FlowRun:
    """Look until the run has ended; a server that is gone for a moment is waited for."""
    import httpx
    from prefect.exceptions import ObjectNotFound

    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    heard, pause = time.monotonic(), _FIRST_LOOK_SECONDS
    async with server() as client:
        while True:
            try:
                run = await client.read_flow_run(uuid.UUID(submitted.id))
                heard = time.monotonic()
                if run.state is not None and run.state.is_final():
                    return run
            except ObjectNotFound as error:
                raise StageFailed(f"{submitted.flow}: the run {submitted.id} was deleted in Prefect") from error
            except httpx.TransportError:
                if time.monotonic() - heard > _LOST_SECONDS:
                    raise
            left = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"{submitted.flow} on {submitted.on!r} has not ended after {timeout_seconds:g} s; "
                    f"it goes on: {submitted.url}"
                )
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.5, _LOOK_SECONDS)


async def _left_by(store: Store, run_id: str) -> dict[str, Any] | None:
    deadline = time.monotonic() + _LEFT_SECONDS
    while (kept := await asyncio.to_thread(store.record, results.STAGE, run_id)) is None:
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(0.1)
    return kept


def _local_store() -> Store:
    """The store that runs leave their records in; the room that knows its credentials brings it by entry point."""
    from importlib.metadata import distribution

    (point,) = distribution("volvox").entry_points.select(group=_STORE_GROUP, name="local")
    return point.load().local().open()
