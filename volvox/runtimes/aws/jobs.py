"""Calls answered by a container that ends when it has: a job of Batch, a task of ECS.

    event -> scratch folder -> job or task, which is told where it lies -> reply beside it -> outcomes

What was begun is noted in the runtime's folder, so a call that is made again by a dispatcher after the one that was
killed joins its job instead of beginning another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from volvox.disks import replace_text
from volvox.errors import ModuleFailed, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.runner.once import EVENT, REPLY
from volvox.runtimes import printed
from volvox.runtimes.aws import payloads
from volvox.runtimes.aws.account import Account
from volvox.runtimes.aws.limits import INLINE_BYTES
from volvox.runtimes.aws.scratch import Scratch
from volvox.runtimes.interface import Call, InstanceState, Kind, Outcome
from volvox.runtimes.scripts import Secret, resolved

_LOOK_SECONDS = (0.5, 10.0)  # between two looks at the job, first and longest
_REPLY_SECONDS = (0.1, 5.0)  # and for its reply, which is there before its engine says that it has ended
_PATIENCE = 0.05  # of the time that it is waited for already, and no less


@dataclass(frozen=True, slots=True)
class Seen:
    """A job or task as its engine tells it.

    Attributes:
        state: The engine's own word for where it is.
        ended: Whether it has.
        failed: Whether it did not end well.
        reason: What the engine says of that, or of why it waits; empty: nothing.
        exit_code: Of its container, where that is told.
        begun: Whether its container runs, or did.
    """

    state: str
    ended: bool = False
    failed: bool = False
    reason: str = ""
    exit_code: int | None = None
    begun: bool = False


class Engine(Protocol):
    """What starts containers."""

    def submit(self, name: str, variables: dict[str, str]) -> str:
        """Start one, or have it wait for its turn; its id."""
        ...

    def look(self, identifier: str) -> Seen | None:
        """What it is at; None: nobody knows it."""
        ...

    def end(self, identifier: str, reason: str) -> None:
        """End it; nothing if it has ended."""
        ...

    def log(self, identifier: str) -> str:
        """What it printed, as far as the engine has it."""
        ...


@dataclass(eq=False)
class Running:
    """A job or task that is being waited for.

    Attributes:
        identifier: The engine's.
        seen: What it was at last.
        since: Seconds since the epoch at which it came into that state.
    """

    identifier: str
    seen: Seen
    since: float

    @property
    def state(self) -> InstanceState:
        """As `status` tells it."""
        return "busy" if self.seen.begun else "starting"


@dataclass
class Jobs:
    """Has calls of one function answered by containers.

    Attributes:
        function: Whose.
        account: Where.
        engine: What starts them.
        scratch: Where events and replies lie.
        folder: The function's own in the runtime's.
        secret: What reads a secret that a script's environment names.
        off: Calls something in a thread.
        memory_mb: What a call may use; 0: what its container has.
        running: What is being waited for.
        let_go: Whether the dispatcher ends: a call that is cancelled then leaves its job to the next one.
    """

    function: Function
    account: Account
    engine: Engine
    scratch: Scratch
    folder: Path
    secret: Secret | None
    off: Callable[[Callable[[], Any]], Any]
    memory_mb: int = 0
    running: set[Running] = field(default_factory=set)
    let_go: bool = False

    async def answer(self, calls: Sequence[Call]) -> list[Outcome]:
        """Have calls answered by one container; cancelled, it is ended.

        Raises:
            Unavailable: If AWS does not answer.
            InvalidInput: If it refuses.
        """
        began = time.monotonic()
        outcomes, _ = await self._asked(calls)
        waited = max(0.0, time.monotonic() - began - max((one.seconds for one in outcomes), default=0.0))
        return [replace(one, started_seconds=round(waited, 3)) for one in outcomes]

    async def prove(self, version: str, calls: Sequence[Call]) -> tuple[list[Outcome], list[dict[str, Any]]]:
        """Have a version of a model answer calls, and tell the arguments of its predictions.

        Cancelled, its container is ended; one that was begun for the same version is joined.

        Raises:
            ModuleFailed: If it does not start.
            Unavailable: If AWS does not answer.
            InvalidInput: If it refuses.
        """
        outcomes, reply = await self._asked(calls, proves=version)
        if "arguments" not in reply:
            said = next((one.reason for one in outcomes if one.kind), reply.get("failed") or "it left no reply")
            raise ModuleFailed(f"its container does not start: {said}")
        return outcomes, reply["arguments"]

    # -- inside --------------------------------------------------------------------------------------------------

    async def _asked(self, calls: Sequence[Call], *, proves: str = "") -> tuple[list[Outcome], dict[str, Any]]:
        """What became of calls, and the reply that says so; empty: the container left none."""
        names = ["proof", proves] if proves else []
        note = self.folder / "jobs" / f"{digest_of([*names, *(call.job for call in calls)])[:40]}.json"
        told = await self.off(lambda: self._joined(note)) or await self.off(
            lambda: self._begun(note, calls, describe=bool(proves))
        )
        running = Running(told["id"], Seen("SUBMITTED"), time.time())
        self.running.add(running)
        try:
            seen, reply = await self._ended(running, calls, f"{told['folder']}/{REPLY}")
        except asyncio.CancelledError:
            if self.let_go:
                raise
            ending = self.off(lambda: self._cancelled(told, note))
            with contextlib.suppress(VolvoxError):
                await asyncio.shield(ending)
            raise
        finally:
            self.running.discard(running)
        found = await self.off(lambda: self._outcomes(calls, told, seen, reply))
        await self.off(lambda: self._tidy(told, note))
        return found

    def _begun(self, note: Path, calls: Sequence[Call], *, describe: bool = False) -> dict[str, str]:
        job = calls[0].job if calls else "0" * 32
        folder = self.scratch.new(job)
        room = INLINE_BYTES
        entries: list[dict[str, Any]] = []
        for number, call in enumerate(calls):
            entry = payloads.call_of(self.function, call, self.scratch, f"{folder}/{number}", room)
            if "content" in (entry.get("file") or {}) and call.input is not None:
                room -= call.input.stat().st_size
            entries.append(entry)
        environment = resolved(self.function.environment, self.secret)
        event = payloads.event_of(self.function, entries, environment, self.memory_mb)
        if describe:
            event["volvox"]["describe"] = True
        self.scratch.write(f"{folder}/event.json", event)
        variables = {EVENT: f"s3://{self.scratch.bucket}/{folder}/event.json"}
        name = f"{self.function.name[:80]}-{job[:16]}".replace(".", "-")
        told = {"id": self.engine.submit(name, variables), "folder": folder}
        replace_text(note, json.dumps(told))
        return told

    def _joined(self, note: Path) -> dict[str, str] | None:
        """What an earlier dispatcher began for these calls, if it is there still."""
        try:
            told = json.loads(note.read_text())
        except (OSError, ValueError):
            return None
        return told if self.engine.look(told["id"]) is not None else None

    async def _ended(self, running: Running, calls: Sequence[Call], key: str) -> tuple[Seen, Any]:
        """Wait for its reply, or for its end: what it was at, and the reply, or None."""
        began = looked = time.monotonic()
        pause, said = _LOOK_SECONDS[0], ""
        seen = await self._look(running)
        while not seen.ended:
            line = f"{seen.state}{f': {seen.reason}' if seen.reason else ''}"
            if line != said and not seen.begun:
                said = line
                self._tell(calls, line)
            with contextlib.suppress(VolvoxError):  # it is read once more when the job has ended
                if (reply := await self.off(lambda: self.scratch.read(key))) is not None:
                    return seen, reply
            now = time.monotonic()
            first, longest = _REPLY_SECONDS
            await asyncio.sleep(min(longest, max(first, (now - began) * _PATIENCE), max(0.0, looked + pause - now)))
            if time.monotonic() >= looked + pause:
                looked, before = time.monotonic(), seen.state
                seen = await self._look(running)
                pause = _LOOK_SECONDS[0] if seen.state != before else min(pause * 1.2, _LOOK_SECONDS[1])
        return seen, await self.off(lambda: self.scratch.read(key))

    async def _look(self, running: Running) -> Seen:
        """What it is at now; what it was at before, while nobody can tell."""
        try:
            seen = await self.off(lambda: self.engine.look(running.identifier))
        except Unavailable:
            return running.seen  # asked again: it goes on meanwhile
        if seen is None:
            seen = Seen("GONE", ended=True, failed=True, reason="nobody knows it any more")
        if seen.state != running.seen.state:
            running.since = time.time()
        running.seen = seen
        return seen

    def _outcomes(
        self, calls: Sequence[Call], told: dict[str, str], seen: Seen, reply: Any
    ) -> tuple[list[Outcome], dict[str, Any]]:
        if reply is not None:
            by_job = {one["job"]: one for one in reply["volvox"]["outcomes"]}
            for log in {one["log"] for one in by_job.values() if one.get("log")}:
                with contextlib.suppress(OSError):
                    printed.new_file(self.folder / "logs").write_text(log)
            return [payloads.outcome_of(call, by_job[call.job], self.scratch) for call in calls], reply["volvox"]
        with contextlib.suppress(VolvoxError):
            self._tell(calls, self.engine.log(told["id"]))
        kind, reason = how_it_ended(seen)
        return [Outcome(call.job, kind, reason, exit_code=seen.exit_code) for call in calls], {"failed": reason}

    def _cancelled(self, told: dict[str, str], note: Path) -> None:
        self.engine.end(told["id"], "nobody waits for it any more")
        self._tidy(told, note)

    def _tidy(self, told: dict[str, str], note: Path) -> None:
        note.unlink(missing_ok=True)
        self.scratch.clear(told["folder"])

    @staticmethod
    def _tell(calls: Sequence[Call], text: str) -> None:
        for call in calls:
            if call.log is not None and text:
                with contextlib.suppress(OSError), call.log.open("a") as stream:
                    stream.write(text if text.endswith("\n") else f"{text}\n")


def how_it_ended(seen: Seen) -> tuple[Kind, str]:
    """Kind and reason of a container that left no reply, by what its engine says."""
    said = seen.reason
    lowered = said.lower()
    if "outofmemory" in lowered or seen.exit_code == 137:
        return "memory", f"it was ended for lack of memory{f' ({said})' if said else ''}"
    if "timeout" in lowered or "attemptdurationseconds" in lowered or "exceeded" in lowered:
        return "timeout", f"it was ended since it took too long ({said})"
    if "cannotpull" in lowered:
        return "failed", f"its image could not be fetched: {said}"
    if "host ec2" in lowered or "spot" in lowered or "taskfailedtostart" in lowered.replace(" ", ""):
        return "gone", f"its machine was taken away ({said})"
    if seen.state == "GONE":
        return "gone", said
    code = "" if seen.exit_code is None else f" with exit code {seen.exit_code}"
    return "failed", f"its container ended{code} and left no reply{f'; AWS says: {said}' if said else ''}"
