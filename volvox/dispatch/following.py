"""The dispatcher follows the registry: what is applied is deployed, what a model's champion becomes takes over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

from volvox.disks import replace_text
from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.doing import Applied
from volvox.dispatch.lane import as_told
from volvox.dispatch.leftovers import left_on
from volvox.dispatch.state import state_file
from volvox.errors import VolvoxError
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.settings import Home

_LOOK_SECONDS = 0.25
_MODEL_SECONDS = 2.0  # between two looks at which version is a model's champion
_AGAIN_SECONDS = 30.0  # before a version that did not start is tried again
_TELL_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass
class _Trouble:
    """A version that could not be deployed."""

    version: str
    reason: str
    since: float = field(default_factory=time.monotonic)


class Following:
    """Keeps what is deployed equal to what is applied."""

    def __init__(self, home: Home, dispatcher: Dispatcher, model_version: Callable[[str], str]) -> None:
        """`model_version` finds the digest of the version that a model's name means now; it may take long."""
        self._home, self._dispatcher, self._model_version = home, dispatcher, model_version
        self._troubles: dict[str, _Trouble] = {}
        self._at_it: dict[str, asyncio.Task[None]] = {}
        self._left: dict[str, set[str]] = {}  # where functions were when this dispatcher began
        self._not_before: dict[str, float] = {}  # when to try again to remove them there
        self._told = ""

    async def run(self) -> None:
        """Follow until cancelled."""
        seen, looked = "", 0.0
        self._left = await asyncio.to_thread(left_on, self._home, self._dispatcher.runtimes)
        telling = asyncio.create_task(self._tell())
        try:
            while True:
                now = await asyncio.to_thread(registry.stamp, self._home)
                if now != seen or time.monotonic() - looked >= _MODEL_SECONDS:
                    seen, looked = now, time.monotonic()
                    try:
                        await self.follow()
                    except Exception:  # a fault of ours, or no file more may be opened: looked at again soon
                        log.exception("what is applied could not be followed")
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            telling.cancel()
            for task in self._at_it.values():
                task.cancel()
            await asyncio.gather(telling, *self._at_it.values(), return_exceptions=True)

    async def follow(self) -> None:
        """Begin what differs; one slow start holds up no other function."""
        applied = {name: one.filled for name, one in (await asyncio.to_thread(registry.functions, self._home)).items()}
        self._dispatcher.expect(applied.values())
        self._follow_left(applied)
        for name in [*self._dispatcher.lanes, *self._troubles]:
            if name not in applied and name not in self._at_it:
                self._begin(name, self._remove(name))
        for name, function in applied.items():
            if name not in self._at_it:
                self._begin(name, self._deploy(function))

    def _follow_left(self, applied: Container[str]) -> None:
        """Begin to remove what functions left that were removed or moved while nobody dispatched."""
        now = time.monotonic()
        for name, runtimes in [*self._left.items()]:
            lane = self._dispatcher.lanes.get(name)
            there = name in applied or (self._home.root / "functions" / name / "active.json").exists()
            if name in self._at_it or (there and lane is None):
                continue  # not before it answers elsewhere
            if gone := runtimes - ({lane.runtime.name} if lane else set()):
                if now >= self._not_before.get(name, now):
                    self._begin(name, self._clear(name, gone))
            else:
                del self._left[name]

    def _begin(self, name: str, work: Any) -> None:
        task = self._at_it[name] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._at_it.pop(name, None))

    async def _remove(self, name: str) -> None:
        self._troubles.pop(name, None)
        await self._dispatcher.remove(name)

    async def _clear(self, name: str, runtimes: set[str]) -> None:
        try:
            await self._dispatcher.clear(name, runtimes)
            self._left[name] -= runtimes
            log.info("what function %r left on %s is removed", name, ", ".join(sorted(runtimes)))
        except Exception as error:
            again = time.monotonic() + _AGAIN_SECONDS
            if name not in self._not_before:
                log.error(
                    "what function %r left on %s is not removed yet: %s", name, ", ".join(sorted(runtimes)), error
                )
            self._not_before[name] = again

    async def _deploy(self, function: Function) -> None:
        name, wanted = function.name, ""
        try:
            if not function.model:
                wanted = function.version
            else:
                wanted = digest_of([function.version, await asyncio.to_thread(self._model_version, function.model)])
            before = self._troubles.get(name)
            if before and before.version == wanted and time.monotonic() - before.since < _AGAIN_SECONDS:
                return
            await self._dispatcher.deploy(Applied(function, wanted))
            if self._troubles.pop(name, None):
                log.warning("function %r answers now", name)
        except VolvoxError as error:
            if name not in self._troubles or self._troubles[name].reason != str(error):
                log.error("function %r: %s", name, error)
            self._troubles[name] = _Trouble(wanted, str(error))
        except Exception as error:  # a fault of ours, which is told and tried again as any other
            log.exception("function %r cannot be deployed", name)
            self._troubles[name] = _Trouble(wanted, f"{type(error).__name__}: {error}")

    async def _tell(self) -> None:
        """Write what is deployed where commands and pages find it."""
        while True:
            lanes = [await as_told(lane) for lane in self._dispatcher.lanes.values()]
            troubles = {name: trouble.reason for name, trouble in self._troubles.items()}
            text = json.dumps({"holder": self._dispatcher.holder, "functions": lanes, "troubles": troubles})
            if text != self._told:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(replace_text, state_file(self._home), text)
                    self._told = text
            await asyncio.sleep(_TELL_SECONDS)


def keep_warm(home: Home, name: str, seconds: float) -> None:
    """Have an instance of the function warm for so long, from now."""
    path = home.root / "dispatch" / "warm.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    told = {key: until for key, until in _warm(home).items() if until > time.time()}
    replace_text(path, json.dumps({**told, name: time.time() + seconds}))


def is_warm(home: Home, applied: Applied, now: float | None = None) -> bool:
    """Whether somebody, or the function's own schedule, wants it warm now."""
    from volvox.dispatch.schedule import in_a_window

    now = time.time() if now is None else now
    return _warm(home).get(applied.function.name, 0.0) > now or in_a_window(applied.function.scaling.warm, now)


def _warm(home: Home) -> dict[str, float]:
    try:
        return json.loads((home.root / "dispatch" / "warm.json").read_bytes())
    except (OSError, ValueError):
        return {}
