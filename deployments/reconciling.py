"""Keep the Prefect server's runs and the engines' jobs in agreement, whichever of them changes.

Prefect's workers submit a run and look away: a cancelled run goes on, a killed container shows a number, a removed one
shows nothing. What has to be done is decided in `volvox.infrastructure.deciding`; here it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from volvox.errors import Unavailable
from volvox.infrastructure.deciding import Action, Cancelled, Crashed, End, Run, Waits, decide
from volvox.infrastructure.jobs import Engine, Job

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

_EVERY_SECONDS = {"ecs": 5.0}  # its API counts calls
_ELSE_SECONDS = 2.0
_POOLS_SECONDS = 30.0
_AT_ONCE = 200  # flow runs in one answer


class Reconciler:
    """Looks at an engine and at the server, again and again, and acts on what does not agree.

    One that does not answer is asked again later, and until then nothing is changed.
    """

    def __init__(
        self,
        client: PrefectClient,
        engine: Engine,
        pools: Iterable[str],
        *,
        submitting: Callable[[], Collection[UUID]] = tuple,
        workers: Collection[str] = (),
        tell: Callable[[str], None] = print,
    ) -> None:
        """Make one; `forever` starts it.

        Args:
            client: A client of the Prefect server.
            engine: Where the jobs are.
            pools: Names of the work pools whose jobs are there.
            submitting: Ids of the runs that this process is about to start.
            workers: Names of this process's workers; a run that another one took is never taken for lost.
            tell: Gets a line of text for what the worker's log should show.
        """
        self._client, self._engine, self._pools = client, engine, tuple(pools)
        self._submitting, self._workers, self._tell = submitting, frozenset(workers), tell
        self._wake = asyncio.Event()
        self._pool_ids: tuple[float, frozenset[str]] = (0.0, frozenset())
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._ended: set[str] = set()
        self._identified: dict[str, tuple[str, datetime]] = {}
        self._waiting: dict[str, str] = {}
        self._going: set[str] = set()
        self._problem = ""

    async def forever(self) -> None:
        """Look in the engine's own time, until cancelled."""
        import httpx

        every = _EVERY_SECONDS.get(self._engine.kind, _ELSE_SECONDS)
        try:
            while True:
                try:
                    await self.look()
                    self._say("")
                except (Unavailable, httpx.HTTPError) as error:
                    self._say(str(error) or type(error).__name__)
                except Exception as error:
                    self._say(f"{type(error).__name__}: {error}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), every)
                self._wake.clear()
        finally:
            await self._engine.close()

    def look_now(self) -> None:
        """Do not wait for the next time: something was cancelled."""
        self._wake.set()

    async def look(self) -> list[Action]:
        """Look once, and do what has to be done; what takes time goes on behind.

        Raises:
            Unavailable: If the engine does not answer.
        """
        pools = await self._our_pools()
        if not pools:
            return []
        # In this order: a run tells its end before its process ends, so what we read of it is not older than its job.
        jobs = await self._engine.jobs()
        self._ended &= {job.identifier for job in jobs}
        jobs = [job for job in jobs if job.live or job.identifier not in self._ended]
        runs = await self._runs(pools, jobs)
        # While we end a run's job, what its process says of that is not news.
        ending = {job.run_id for job in jobs if job.identifier in self._ending}
        runs, jobs = [run for run in runs if run.id not in ending], [job for job in jobs if job.run_id not in ending]
        actions = decide(runs, jobs, datetime.now(UTC), pools=pools, covers=self._engine.covers)
        for action in actions:
            await self._do(action)
        return actions

    async def settle(self) -> None:
        """Wait until everything that is being ended has ended."""
        while self._ending:
            await asyncio.wait(list(self._ending.values()))

    # -- what is true ----------------------------------------------------------------------------------------------

    async def _our_pools(self) -> frozenset[str]:
        """Ids of the watched pools: names are used again by other servers, ids are not."""
        asked, ids = self._pool_ids
        if not ids or time.monotonic() - asked > _POOLS_SECONDS:
            from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName

            wanted = WorkPoolFilter(name=WorkPoolFilterName(any_=list(self._pools)))
            found = await self._client.read_work_pools(work_pool_filter=wanted)
            ids = frozenset(str(pool.id) for pool in found)
            self._pool_ids = (time.monotonic(), ids)
        return ids

    async def _runs(self, pools: frozenset[str], jobs: list[Job]) -> list[Run]:
        from uuid import UUID

        from prefect.client.schemas.filters import (
            FlowRunFilter,
            FlowRunFilterId,
            FlowRunFilterState,
            FlowRunFilterStateType,
            WorkPoolFilter,
            WorkPoolFilterName,
        )  # fmt: skip
        from prefect.client.schemas.objects import StateType

        going = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
        found = await self._read(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=going)),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(self._pools))),
        )
        have = {str(run.id) for run in found}
        wanted = {job.run_id for job in jobs if job.pool_id in pools} | self._going  # those that ended since, too
        self._going, missing = have, sorted(wanted - have)
        for start in range(0, len(missing), _AT_ONCE):
            ids = FlowRunFilterId(any_=[UUID(one) for one in missing[start : start + _AT_ONCE]])
            found += await self._read(flow_run_filter=FlowRunFilter(id=ids))
        now, submitting = datetime.now(UTC), {str(run_id) for run_id in self._submitting()}
        runs = [self._run(run, now, submitting) for run in found if run.state is not None]
        seen = {run.id for run in runs}
        self._identified = {key: value for key, value in self._identified.items() if key in seen}
        self._waiting = {key: value for key, value in self._waiting.items() if key in seen}
        return runs

    async def _read(self, **filters: Any) -> list[FlowRun]:
        found: list[FlowRun] = []
        while True:
            page = await self._client.read_flow_runs(**filters, limit=_AT_ONCE, offset=len(found))
            found += page
            if len(page) < _AT_ONCE:
                return found

    def _run(self, run: FlowRun, now: datetime, submitting: set[str]) -> Run:
        assert run.state is not None
        run_id, identifier = str(run.id), run.infrastructure_pid or ""
        if self._identified.get(run_id, ("", now))[0] != identifier:
            self._identified[run_id] = (identifier, now)
        worker = run.labels.get("prefect.worker.name")
        policy = run.empirical_policy
        return Run(
            id=run_id,
            state=run.state.type.value,
            since=run.state.timestamp,
            message=run.state.message or "",
            pool_id=str(run.work_pool_id or ""),
            identifier=identifier,
            identifier_since=self._identified.get(run_id, ("", now))[1],
            submitting=run_id in submitting or (worker is not None and worker not in self._workers),
            again=(policy.retries or 0) >= max(1, run.run_count),
            started=run.start_time is not None,
        )

    # -- what is done ----------------------------------------------------------------------------------------------

    async def _do(self, action: Action) -> None:
        if isinstance(action, End):
            if action.job.identifier not in self._ending:
                task = asyncio.create_task(self._end(action))
                self._ending[action.job.identifier] = task
        elif isinstance(action, Crashed):
            await self._crash(action)
        elif isinstance(action, Cancelled):
            await self._cancel(action.run_id, "")
        elif isinstance(action, Waits) and self._waiting.get(action.run_id) != action.message:
            self._waiting[action.run_id] = action.message
            await self._log(action.run_id, f"Waits for a place: {action.message}", "info")

    async def _end(self, action: End) -> None:
        job, began = action.job, time.monotonic()
        try:
            await self._engine.end(job, action.grace_seconds)
            self._ended.add(job.identifier)
            if job.live:
                self._tell(f"ended {job.name} of flow run {job.run_id} in {time.monotonic() - began:.1f} s")
            if action.cancelled:
                await self._cancel(job.run_id, job.identifier)
        except Exception as error:
            self._tell(f"{job.name} could not be ended: {error}")
        finally:
            self._ending.pop(job.identifier, None)

    async def _cancel(self, run_id: str, identifier: str) -> None:
        """Call a run cancelled, unless it was started anew meanwhile.

        A process that is asked to end says that it crashed, over the state that the canceller set.
        """
        from uuid import UUID

        from prefect.exceptions import ObjectNotFound
        from prefect.states import Cancelled as State

        with contextlib.suppress(ObjectNotFound):
            run = await self._client.read_flow_run(UUID(run_id))
            same = bool(identifier) and run.infrastructure_pid == identifier
            anew = not same and bool(identifier) and bool(run.infrastructure_pid)
            of_it = ("CANCELLING", "CRASHED", "FAILED", *(("PENDING", "RUNNING") if same else ()))
            if run.state is None or anew or run.state.type.value not in of_it:
                return
            state = State(message="Cancelled; nothing of it runs any more.")
            await self._client.set_flow_run_state(run.id, state, force=True)

    async def _crash(self, action: Crashed) -> None:
        from uuid import UUID

        from prefect.exceptions import ObjectNotFound
        from prefect.states import AwaitingRetry
        from prefect.states import Crashed as State

        run_id = UUID(action.run_id)
        message = action.message[0].upper() + action.message[1:]
        with contextlib.suppress(ObjectNotFound):
            if action.amend:
                state = (await self._client.read_flow_run(run_id)).state
                if state is None or state.type.value not in ("CRASHED", "FAILED"):  # it was cancelled, or runs anew
                    return
                amended = state.model_copy(update={"message": message})
                await self._client.set_flow_run_state(run_id, amended, force=True)
            elif action.again:
                told = f"{message}; its flow allows that it is run again"
                state = AwaitingRetry(scheduled_time=datetime.now(UTC), message=told)
                await self._client.set_flow_run_state(run_id, state)
            else:
                # Not by force: if the run has told its end after all, that stands.
                await self._client.set_flow_run_state(run_id, State(message=message))
            self._tell(f"flow run {action.run_id}: {action.message}")
            if action.output:
                await self._log(action.run_id, f"The last lines of its process:\n{action.output}", "error")

    async def _log(self, run_id: str, text: str, level: str) -> None:
        from uuid import UUID

        from prefect.logging.loggers import flow_run_logger

        logger = flow_run_logger(flow_run_id=UUID(run_id)).getChild("engine")  # type: ignore[call-arg]
        getattr(logger, level)(text)

    def _say(self, problem: str) -> None:
        """Tell a problem once, and its end."""
        if problem != self._problem:
            told = f"{problem}; nothing is changed until it answers" if problem else "answers again"
            self._tell(f"{self._engine.kind}: {told}")
        self._problem = problem
