"""Run a stage, here or where its work pool is, and know how long it took."""

from __future__ import annotations

import inspect
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import Flow

from flows.placing import Placed, Places
from volvox import progress
from volvox.pools.definition import HERE, Priority
from volvox.records import StageTime

if TYPE_CHECKING:
    from types import CoroutineType

    from volvox.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class Stages(AbstractContextManager["Stages"]):
    """Runs the stages of one cycle and keeps their times, in order."""

    def __init__(self, places: Places, store: Store, priority: Priority = "default") -> None:
        """Run stages where `places` says; what runs elsewhere leaves its record in `store`, and waits by `priority`."""
        self.times: list[StageTime] = []
        self._places, self._store = places, store
        self._priority: Priority = priority
        self._worked: dict[str, float] = {}
        self._reused: set[str] = set()
        self._runs: list[str] = []  # of Prefect, which the stage that is going on took on its pool
        self._listening: AbstractContextManager[None] | None = None

    def __enter__(self) -> Stages:
        self._listening = progress.listening(self._hear)
        self._listening.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._listening is not None:
            self._listening.__exit__(None, None, None)

    async def run(self, stage: Flow[P, CoroutineType[Any, Any, R]], *args: P.args, **parameters: P.kwargs) -> R:
        """Run `stage` where it is placed and return its record.

        Here that is inside the flow run that is going on: a nested flow run costs more than a second, so the stage's
        own function is called, and its tasks show in the graph of the run that is going on. On a work pool it is a
        flow run of its own.
        """
        name, began, pool = stage.name, time.monotonic(), HERE
        self._worked.pop(name, None)
        self._reused.discard(name)
        try:
            with progress.stage(name):
                given = inspect.signature(stage.fn).bind(*args, **parameters)
                given.apply_defaults()
                placed = await self._places.of(name, given.arguments)
                pool = placed.placement.pool
                if name == "training":
                    return await self._trained(stage, given, placed)
                return await self._run(stage, given, placed)
        finally:
            seconds = time.monotonic() - began
            self.times.append(
                StageTime(
                    stage=name,
                    seconds=seconds,
                    work_seconds=self._worked.get(name, seconds),
                    reused=name in self._reused,
                    place="" if pool == HERE else pool,
                )
            )

    async def _run(self, stage: Flow[..., Any], given: inspect.BoundArguments, placed: Placed) -> Any:
        if placed.here:
            return await stage.fn(*given.args, **given.kwargs)
        from flows.elsewhere import Submission, run_elsewhere

        return await run_elsewhere(
            Submission(
                stage, placed.placement.pool, dict(given.arguments), self._store, placed.job_variables,
                priority=self._priority, gpus=placed.gpus,
            )
        )  # fmt: skip

    async def _trained(self, stage: Flow[..., Any], given: inspect.BoundArguments, placed: Placed) -> Any:
        """The same for a training, whose record gets what was predicted beside what it took and cost."""
        from flows.forecasting import expect, settle

        self._runs.clear()
        expected = await expect(self._store, self._places, placed.placement.pool, given.arguments)
        began = time.monotonic()
        made = await self._run(stage, given, placed)
        if expected is None or stage.name in self._reused:
            return made
        took = time.monotonic() - began
        return await settle(self._store, self._places, expected, made, runs=self._runs, seconds=took)

    def _hear(self, event: progress.Event) -> None:
        if event.kind == "worked":
            self._worked[event.stage] = self._worked.get(event.stage, 0.0) + float(event.detail["seconds"])
        elif event.kind == "reused":
            self._reused.add(event.stage)
        elif event.kind == "noted" and "flow_run" in event.detail:
            self._runs.append(str(event.detail["flow_run"]))
