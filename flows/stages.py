"""Run a stage, here or where its work pool is, and know how long it took."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import Flow

from volvox import progress
from volvox.records import StageTime

if TYPE_CHECKING:
    from types import CoroutineType

P = ParamSpec("P")
R = TypeVar("R")


class Stages(AbstractContextManager["Stages"]):
    """Runs the stages of one cycle and keeps their times, in order."""

    def __init__(self) -> None:
        self.times: list[StageTime] = []
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
        """Run `stage` inside the flow run that is going on and return its record.

        A nested flow run costs more than a second, so the stage's own function is called: its tasks show in the graph
        of the run that is going on.
        """
        name, began = stage.name, time.monotonic()
        self._worked.pop(name, None)
        self._reused.discard(name)
        try:
            with progress.stage(name):
                return await stage.fn(*args, **parameters)
        finally:
            seconds = time.monotonic() - began
            self.times.append(
                StageTime(
                    stage=name,
                    seconds=seconds,
                    work_seconds=self._worked.get(name, seconds),
                    reused=name in self._reused,
                )
            )

    def _hear(self, event: progress.Event) -> None:
        if event.kind == "worked":
            self._worked[event.stage] = self._worked.get(event.stage, 0.0) + float(event.detail["seconds"])
        elif event.kind == "reused":
            self._reused.add(event.stage)
