"""Run a stage, here or where its work pool is, and know how long it took."""

from __future__ import annotations

import inspect
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import Flow

from flows.placing import Places
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
                if placed.here:
                    return await stage.fn(*args, **parameters)
                from flows.elsewhere import Submission, run_elsewhere

                pool = placed.placement.pool
                return await run_elsewhere(
                    Submission(
                        stage, pool, dict(given.arguments), self._store, placed.job_variables,
                        priority=self._priority, gpus=placed.gpus,
                    )
                )  # fmt: skip
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

    def _hear(self, event: progress.Event) -> None:
        if event.kind == "worked":
            self._worked[event.stage] = self._worked.get(event.stage, 0.0) + float(event.detail["seconds"])
        elif event.kind == "reused":
            self._reused.add(event.stage)
