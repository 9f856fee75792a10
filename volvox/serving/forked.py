"""A model in a process forked from this one, asked without an event loop: what an image does that answers events.

This process holds neither the module nor its libraries, so it is there to tell when they end the other one: for lack of
memory, by a crash, or since nobody waits any more. It is forked rather than started, since a start costs as much again
as the interpreter itself takes.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from volvox.worker.control import INTERRUPT, Control
from volvox.worker.wire import Frames, frame

if TYPE_CHECKING:  # a cold start waits for all that is imported before the fork
    from collections.abc import Sequence

_GRACE_SECONDS = 2.0
_PIECE = 1 << 18
_LOOK_SECONDS = 0.1  # between two looks at the memory in use


class NotStarted(Exception):
    """The module cannot be imported or warmed."""


class Lost(Exception):
    """What became of a request that was not answered.

    Attributes:
        kind: `timeout`, `memory` or `gone`, as outcomes of calls have it.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class ForkedModel:
    """One module in one process, begun again when it has ended.

    Attributes:
        description: What the module says of itself; empty until it is ready.
    """

    def __init__(self, module: str, log: str, *, batch: int = 1) -> None:
        """Name the module; nothing is started yet.

        Args:
            module: A text that `volvox.worker.finding` reads; VOLVOX_WEIGHTS names its weights.
            log: File for what it prints.
            batch: How many requests it may answer at once, where the module can.
        """
        self.description: dict[str, Any] = {}
        self._module, self._log, self._batch = module, log, batch
        self._pid = 0
        self._connection: socket.socket | None = None
        self._control: Control | None = None
        self._frames, self._sent, self._kills = Frames(), 0, 0

    def begin(self) -> None:
        """Start the process, if there is none."""
        if self._pid:
            return
        control, page = Control.create()
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            ours.close()
            self._become(theirs.detach(), page, parent)
        theirs.close()
        os.close(page)
        from volvox.runner.running import oom_kills  # while the other one is at its start

        self._kills = oom_kills()
        self._pid, self._connection, self._control = pid, ours, control
        self._frames, self._sent, self.description = Frames(), 0, {}

    def ready(self, seconds: float) -> bool:
        """Whether it is warm, at the latest after so many seconds.

        Raises:
            NotStarted: If it will never be.
        """
        self.begin()
        deadline = time.monotonic() + seconds
        while not self.description:
            said = self._received(deadline)
            if said is None:
                return False
            for header, _ in said:
                if "failed" in header:
                    self.end()
                    raise NotStarted(f"module {self._module!r} did not start: {header['failed']}")
                self.description = header["ready"]
            if not said:
                kind, reason = self._ended()
                raise NotStarted(f"module {self._module!r} did not start: {reason}" + (f" ({kind})" if kind else ""))
        return True

    def ask(
        self, requests: Sequence[dict[str, Any]], seconds: Sequence[float], *, memory_mb: int = 0
    ) -> list[tuple[dict[str, Any], Any]]:
        """What it answers to requests, header and body each; the body of one that was lost is why.

        Args:
            requests: Of `volvox.worker.answering`.
            seconds: How long each may take, from now.
            memory_mb: What it may use, where the container has more; 0: whatever there is.
        """
        from volvox.runner.running import memory_mb_of_all

        assert self._connection is not None
        assert self._control is not None
        now = time.monotonic()
        numbers = range(self._sent + 1, self._sent + 1 + len(requests))
        deadlines = {number: now + seconds[at] for at, number in enumerate(numbers)}
        self._sent += len(requests)
        found: dict[int, tuple[dict[str, Any], Any]] = {}
        parts: dict[int, list[bytes]] = {}
        late: dict[int, float] = {}  # what was interrupted, and until when it may still give in
        frames = [frame({**one, "id": number}) for one, number in zip(requests, numbers, strict=True)]
        with contextlib.suppress(OSError):  # it has ended: that is seen below
            self._connection.sendall(b"".join(frames))
        while waiting := [number for number in numbers if number not in found]:
            until = min(late.get(number, deadlines[number]) for number in waiting)
            said = self._received(min(until, time.monotonic() + _LOOK_SECONDS) if memory_mb else until)
            for header, body in said or ():
                number = header.pop("id")
                if header.pop("more", False):
                    parts.setdefault(number, []).append(body)
                    continue
                whole = b"".join([*parts.pop(number, ()), body])
                if header.get("error", {}).get("kind") == "interrupted" and number in late:
                    found[number] = header, Lost("timeout", "")
                else:
                    found[number] = header, whole
            if said is None and memory_mb and (used := memory_mb_of_all()) > memory_mb:
                begun = [number for number in waiting if number <= self._control.taken]
                self.end()
                reason = f"it used {used:.0f} MB of memory, more than the {memory_mb} MB it may"
                self._lose(begun, found, late, "memory", reason)
                self._lose(waiting, found, late, "gone", "its process ended before it was begun")
            elif said is None:
                self._interrupt([number for number in waiting if deadlines[number] <= time.monotonic()], late)
                if any(until <= time.monotonic() for number, until in late.items() if number not in found):
                    self.end()
                    self._lose(waiting, found, late, "gone", "another call took too long, and its process was ended")
            elif not said:
                taken = self._control.taken
                kind, reason = self._ended()
                begun = [number for number in waiting if number <= taken]
                self._lose(begun, found, late, kind, reason)
                self._lose(waiting, found, late, "gone", "its process ended before it was begun")
        return [found[number] for number in numbers]

    def end(self) -> None:
        """End the process."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._ended()

    # -- inside --------------------------------------------------------------------------------------------------

    def _interrupt(self, numbers: list[int], late: dict[int, float]) -> None:
        assert self._control is not None
        new = [number for number in numbers if number not in late]
        if new:
            self._control.leave(max(self._control.taken, 0))
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, INTERRUPT)
            late.update(dict.fromkeys(new, time.monotonic() + _GRACE_SECONDS))

    def _received(self, deadline: float) -> list[tuple[dict[str, Any], bytes]] | None:
        """Frames that came; none at all: it has ended. None: nothing came until then."""
        assert self._connection is not None
        while True:
            left = deadline - time.monotonic()
            if not select.select([self._connection], [], [], max(0.0, left))[0]:
                return None
            try:
                piece = self._connection.recv(_PIECE)
            except OSError:
                piece = b""
            if not piece:
                return []
            if found := self._frames.feed(piece):
                return found

    def _ended(self) -> tuple[str, str]:
        """Wait for its end: what kind of end that was, and in words."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        if self._connection is not None:
            self._connection.close()
        if self._control is not None:
            self._control.close()
        code = os.waitstatus_to_exitcode(status)
        from volvox.runner.running import oom_kills

        if oom_kills() > self._kills or code == -signal.SIGKILL:
            return "memory", "the kernel ended it for lack of memory"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return "gone", f"the process of module {self._module!r} ended with {how}"

    @staticmethod
    def _lose(numbers: Sequence[int], found: dict[int, Any], late: dict[int, float], kind: str, reason: str) -> None:
        for number in numbers:
            if number not in found:
                found[number] = ({}, Lost("timeout", "") if number in late else Lost(kind, reason))

    def _become(self, connection: int, page: int, parent: int) -> None:
        """In the forked process: hold the module and answer, until the other side closes; does not return."""
        code = 1
        try:
            os.set_inheritable(connection, True)
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
            from volvox.worker import loop

            code = loop.serve(self._module, connection, page, batch=self._batch, parent=parent)
        finally:
            sys.stdout.flush()
            os._exit(code)
