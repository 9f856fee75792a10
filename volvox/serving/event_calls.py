"""How a model answers events: what is imported while it loads."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput
from volvox.runner import direct, lambda_api, once, queued
from volvox.runner.calls import Calls, Given
from volvox.runner.signing import KeyRing
from volvox.runtimes import answers
from volvox.runtimes.interface import Call
from volvox.serving.forked import ForkedModel, Lost, NotStarted

_START_SECONDS = 8.0  # Lambda breaks off what takes 10 s before the first event, and begins again at the first one
_LATER_SECONDS = 900.0
_LOG_BYTES = 8 << 20


def answer(forked: ForkedModel, log: str) -> int:
    """Answer events with a model, until there are no more; an exit code.

    Args:
        forked: The process that holds it, at its start.
        log: The file that it prints to.
    """
    model, ring = Model(forked, Path(log)), KeyRing()
    calls = Calls(model, ring)

    def handled(event: dict[str, Any], seconds: float) -> dict[str, Any]:
        if direct.is_direct(event):
            return direct.handle(calls, ring, event, seconds)
        return _handled(model, calls, event, seconds)

    def alone(event: dict[str, Any]) -> dict[str, Any]:
        return _handled(model, calls, event, None)

    if os.environ.get(lambda_api.HOST):
        return lambda_api.serve(model.start, handled)
    if os.environ.get(once.EVENT):  # also of a task of a service's definition, which proves a new version
        return once.answer(model.start, alone)
    return queued.serve(model.start, alone)


def _handled(model: Model, calls: Calls, event: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    told = event.get("volvox")
    if isinstance(told, dict) and (hold := told.get("warm")) is not None:
        model.started(seconds or _LATER_SECONDS)
        time.sleep(float(hold))  # so that one that is asked for beside it is another one
        return calls.handle({"volvox": {"calls": []}}, seconds)
    if isinstance(told, dict) and told.get("describe"):
        model.started(seconds or _LATER_SECONDS)
        reply = calls.handle({"volvox": {"calls": [], **told}}, seconds)
        reply["volvox"]["arguments"] = model.described
        return reply
    return calls.handle(event, seconds)


class Model:
    """Answers calls by a module in a process beside this one."""

    def __init__(self, forked: ForkedModel, log: Path) -> None:
        """Ask this one, which prints to the file `log`."""
        self._forked, self._log = forked, log

    @property
    def described(self) -> list[dict[str, Any]]:
        """The arguments of its predictions."""
        return self._forked.description.get("predict", [])

    def start(self) -> None:
        """Have it ready, or on its way if that takes long.

        Raises:
            NotStarted: If it cannot be.
        """
        self._log.touch()
        self.started(_START_SECONDS, late=True)

    def started(self, seconds: float, *, late: bool = False) -> None:
        """Wait until it is ready.

        Raises:
            NotStarted: If it cannot be, or is not after so many seconds, unless it may be `late`.
        """
        try:
            if not self._forked.ready(seconds) and not late:
                raise NotStarted(f"the model was not ready after {seconds:.0f} s")
        except NotStarted:
            sys.stdout.write(self._log.read_text(errors="replace")[-8192:])
            raise

    def __call__(self, given: list[Given], event: dict[str, Any]) -> list[dict[str, Any]]:
        """As `volvox.runner.calls.Answer`."""
        began = time.monotonic()
        try:
            self.started(min(_LATER_SECONDS, max(one.seconds for one in given)))
        except NotStarted as error:
            return [{"kind": "failed", "reason": str(error)} for _ in given]
        at = self._log.stat().st_size
        arguments, accept = event.get("arguments", {}), event.get("accept", "")
        asked: list[tuple[Given, Call, dict[str, Any]]] = []
        found: dict[int, dict[str, Any]] = {}
        for one in given:
            call = _call(one)
            try:
                asked.append((one, call, answers.request(call, self.described, arguments, accept)))
            except InvalidInput as error:
                found[id(one)] = {"kind": "refused", "reason": str(error)}
        if asked:
            told = self._forked.ask(
                [request for _, _, request in asked], [one.seconds for one, _, _ in asked],
                memory_mb=int(event.get("memory_mb") or 0),
            )  # fmt: skip
            for (one, call, _), (header, body) in zip(asked, told, strict=True):
                kind, reason = _outcome(call, header, body, one.seconds)
                found[id(one)] = {"kind": kind, "reason": reason, "seconds": round(time.monotonic() - began, 4)}
        self._printed(at, given)
        return [found[id(one)] for one in given]

    def _printed(self, at: int, given: Sequence[Given]) -> None:
        """Pass on what it printed: to the engine's log, and to those who asked."""
        with self._log.open("rb") as stream:
            stream.seek(at)
            said = stream.read()
        if said:
            sys.stdout.write(said.decode(errors="replace"))
            for one in given:
                one.log.write_bytes(said)
        if at + len(said) > _LOG_BYTES:
            os.truncate(self._log, 0)


def _call(one: Given) -> Call:
    told = one.told
    return Call(
        told["job"], one.input, one.output, key=told.get("key", ""), relative=told.get("relative", ""),
        arguments=told.get("arguments", {}), timeout_seconds=one.seconds,
    )  # fmt: skip


def _outcome(call: Call, header: dict[str, Any], body: Any, seconds: float) -> tuple[str, str]:
    if isinstance(body, Lost):
        return body.kind, str(body) or f"it took longer than {seconds:g} s"
    if error := header.get("error"):
        return answers.failure(error)
    return answers.keep(call, header["content_type"], body)
