"""Calls of a script inside of its image: the job runner's work for each of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from volvox.runner.calls import Given
from volvox.runner.running import Ended, Stopped, run
from volvox.runner.work import Work

_OURS = frozenset({
    "AWS_LAMBDA_RUNTIME_API", "_HANDLER", "LAMBDA_TASK_ROOT", "VOLVOX_FUNCTION", "VOLVOX_EVENT", "VOLVOX_QUEUE",
    "TMPDIR", "SSL_CERT_FILE",
})  # fmt: skip


class Script:
    """Answers calls by running a script or command, one after the other."""

    def __init__(self, script: str, command: tuple[str, ...]) -> None:
        """`script` is its text; empty: `command` is run."""
        self._script, self._command = script, command

    def __call__(self, given: list[Given], event: dict[str, Any]) -> list[dict[str, Any]]:
        """As `volvox.runner.calls.Answer`.

        Raises:
            Stopped: If this process was told to end.
        """
        found = []
        for one in given:
            ended = self._run(one, event)
            if (
                ended.kind == "cancelled"
            ):  # by a signal to this process: the machine is taken away, or a task is too many
                raise Stopped
            sys.stdout.write(_text(one.log))  # so that it is in the engine's own log too
            sys.stdout.flush()
            found.append(
                {"kind": ended.kind, "reason": ended.reason, "exit_code": ended.exit_code, "seconds": ended.seconds,
                 "printed": ended.printed}
            )  # fmt: skip
        return found

    def _run(self, one: Given, event: dict[str, Any]) -> Ended:
        told = one.told
        try:
            return run(
                Work(
                    folder=str(one.folder),
                    output=str(one.output),
                    script=self._script,
                    command=self._command,
                    input=str(one.input or ""),
                    key=told.get("key", ""),
                    relative=told.get("relative", ""),
                    event=told.get("event", ""),
                    event_time=told.get("event_time", ""),
                    job=told["job"],
                    function=event.get("function", ""),
                    arguments={**event.get("arguments", {}), **told.get("arguments", {})},
                    environment={**_of_image(), **event.get("environment", {})},
                    timeout_seconds=one.seconds,
                    memory_mb=int(event.get("memory_mb") or 0),
                    storage_mb=int(event.get("storage_mb") or 0),
                    log=str(one.log),
                )
            )
        except OSError as error:
            full = error.errno in (28, 122)  # ENOSPC, EDQUOT
            return Ended("storage" if full else "transient", f"what it needs cannot be written: {error.strerror}")


def _of_image() -> dict[str, str]:
    """What the script's image and its engine give it: all but what is between the engine and us."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}


def _text(log: Path) -> str:
    try:
        return log.read_bytes().decode(errors="replace")
    except OSError:
        return ""
