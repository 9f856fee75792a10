"""What makes a function a stage: a flow whose record comes back from wherever it ran."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, get_type_hints
from uuid import UUID

from prefect import Flow, flow
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.logging import get_run_logger

from blocks.store import ObjectStore
from volvox import progress, results
from volvox.errors import VolvoxError
from volvox.records import Record
from volvox.store import Store

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import CoroutineType

P = ParamSpec("P")
R = TypeVar("R", bound=Record)

PROGRESS = "volvox.stage.progress"
_TOLD_SECONDS = 1.0  # progress in between is left out: a server of SQLite has better things to do


def stage(
    name: str, run_name: str | Callable[[], str]
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Flow[P, CoroutineType[Any, Any, R]]]:
    """Make an async function that returns a record the flow of stage `name`.

    Inside a cycle's flow run it is called as it is. As a flow run of its own it tells its progress as events of that
    run, writes notes into the run's log, and leaves its record or its error in the store under the run's id: whoever
    started the run finds it there, on whatever machine either of them is.

    Args:
        name: The stage's name.
        run_name: Name of its runs, see `flow_run_name` of Prefect.
    """

    def made(work: Callable[P, Coroutine[Any, Any, R]]) -> Flow[P, CoroutineType[Any, Any, R]]:
        @functools.wraps(work)
        async def staged(*args: P.args, **kwargs: P.kwargs) -> R:
            context = FlowRunContext.get()
            if context is None or context.flow_run is None or context.flow is None or context.flow.name != name:
                return await work(*args, **kwargs)
            given: Any = kwargs.get("store")
            store = (given or await asyncio.to_thread(ObjectStore.local)).open()
            return await _kept(name, context.flow_run.id, lambda: work(*args, **kwargs), store)

        _resolve(staged, work)
        decorated: Any = flow(name=name, flow_run_name=run_name, persist_result=False)(staged)
        return decorated

    return made


def leaving_its_record(work: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, CoroutineType[Any, Any, R]]:
    """Make an async function whose record, or error, is found in the store under the id of the flow run it is in.

    For a flow of stages: unlike `stage` it leaves telling to them.
    """

    @functools.wraps(work)
    async def leaving(*args: P.args, **kwargs: P.kwargs) -> R:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return await work(*args, **kwargs)
        given: Any = kwargs.get("store")
        store = (given or await asyncio.to_thread(ObjectStore.local)).open()
        try:
            record = await work(*args, **kwargs)
        except Exception as error:
            await _leave(store, context.flow_run.id, results.failed(error), but=error)
            raise
        left = results.finished(record, worked_seconds=0.0, reused=bool(getattr(record, "reused", False)))
        await _leave(store, context.flow_run.id, left)
        return record

    _resolve(leaving, work)
    wrapped: Any = leaving
    return wrapped


def _resolve(wrapper: Any, work: Callable[..., Any]) -> None:
    """Give `wrapper` the types that `work` names, which Prefect would look for among the names of this file."""
    wrapper.__annotations__ = get_type_hints(work, include_extras=True)
    wrapper.__signature__ = inspect.signature(work, eval_str=True)


async def _kept(name: str, run_id: UUID, work: Callable[[], Coroutine[Any, Any, R]], store: Store) -> R:
    telling, began = _Telling(name, run_id), {"began": time.time()}  # by which its way here is measured
    try:
        with progress.listening(telling.hear), progress.stage(name):
            record = await work()
        left = results.finished(
            record, worked_seconds=telling.worked_seconds, reused=telling.reused, progress=telling.last
        )
    except Exception as error:
        await _leave(store, run_id, {**results.failed(error), **began}, but=error)
        raise
    await _leave(store, run_id, {**left, **began})
    return record


async def _leave(store: Store, run_id: UUID, left: dict[str, Any], but: Exception | None = None) -> None:
    """Keep what the run left; where it failed already, a store that cannot be written must not hide why."""
    try:
        await asyncio.to_thread(store.put_record, results.STAGE, str(run_id), left)
    except (VolvoxError, OSError) as error:
        if but is None:
            raise
        but.add_note(f"and the store could not be told: {error}")


class _Telling:
    """Hands a stage's progress on to the run's events and log."""

    def __init__(self, name: str, run_id: UUID) -> None:
        self.worked_seconds = 0.0
        self.reused = False
        self.last: dict[str, Any] = {}
        self._name = name
        self._resource = {"prefect.resource.id": f"prefect.flow-run.{run_id}", "volvox.stage": name}
        self._logger = get_run_logger()
        self._told_at = 0.0

    def hear(self, event: progress.Event) -> None:
        """Take in what happened."""
        if event.kind == "worked":
            self.worked_seconds += float(event.detail["seconds"])
        elif event.kind == "reused":
            self.reused = True
            self._logger.info("%s: found done already %s", self._name, event.text)
        elif event.kind == "noted":
            self._logger.info("%s: %s", self._name, event.text)
            self._emit({"kind": "noted", "text": event.text})
        elif event.kind == "advanced":
            self.last = {"done": event.done, "total": event.total, "unit": event.unit, "detail": event.detail}
            if event.at - self._told_at >= _TOLD_SECONDS:
                self._told_at = event.at
                self._emit({"kind": "advanced", **self.last})

    def _emit(self, payload: dict[str, Any]) -> None:
        emit_event(PROGRESS, resource=self._resource, payload=payload)
