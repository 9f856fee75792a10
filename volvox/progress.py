"""What a long piece of work says of itself while it runs, and who listens.

Work calls `advance` or `note`; it never knows whether a terminal, a log or nothing listens. The stage that an event
belongs to travels in a context variable, so it survives `asyncio.to_thread`.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar

Kind = Literal["started", "advanced", "noted", "reused", "worked", "finished", "failed"]

P = ParamSpec("P")
T = TypeVar("T")

_stage: contextvars.ContextVar[str] = contextvars.ContextVar("stage", default="")
_listeners: list[Callable[[Event], None]] = []


@dataclass(frozen=True)
class Event:
    """One thing that happened in a stage.

    Attributes:
        stage: Which stage, e.g. `training`; empty outside of one.
        kind: What happened.
        done: How much is done, in `unit`; 0 if unknown.
        total: How much there is to do, in `unit`; 0 if unknown.
        unit: What is counted, in the plural: `epochs`, `images`.
        text: A sentence for people.
        detail: Numbers worth showing beside the bar, e.g. `{"images/s": 812.0}`.
        at: `time.monotonic()` when it happened.
    """

    stage: str
    kind: Kind
    done: float = 0
    total: float = 0
    unit: str = ""
    text: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)


def emit(event: Event) -> None:
    """Tell every listener; a listener that fails does not stop the work."""
    for listener in tuple(_listeners):
        with contextlib.suppress(Exception):
            listener(event)


def advance(done: float, total: float, unit: str, **detail: Any) -> None:
    """Say how far the current stage is."""
    emit(Event(_stage.get(), "advanced", done=done, total=total, unit=unit, detail=detail))


def note(text: str, **detail: Any) -> None:
    """Say something about the current stage that a person would want to know."""
    emit(Event(_stage.get(), "noted", text=text, detail=detail))


def reused(text: str = "") -> None:
    """Say that the current stage found its result made already."""
    emit(Event(_stage.get(), "reused", text=text))


def worked(seconds: float) -> None:
    """Say how long the current stage itself worked."""
    emit(Event(_stage.get(), "worked", detail={"seconds": seconds}))


def working(step: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Tell how long a step itself worked (`detail["seconds"]`), so that what surrounds it can be told apart.

    It stands between `@task` and the function: what Prefect adds stays outside.
    """

    @functools.wraps(step)
    async def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        began = time.monotonic()
        try:
            return await step(*args, **kwargs)
        finally:
            worked(time.monotonic() - began)

    return timed


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Everything said inside belongs to stage `name`; start, end and failure are told."""
    token = _stage.set(name)
    emit(Event(name, "started"))
    try:
        yield
    except BaseException as error:
        emit(Event(name, "failed", text=str(error)))
        raise
    else:
        emit(Event(name, "finished"))
    finally:
        _stage.reset(token)


@contextlib.contextmanager
def listening(listener: Callable[[Event], None]) -> Iterator[None]:
    """Hand every event to `listener` until the block ends."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
