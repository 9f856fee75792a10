"""The processes of this node: started together, heard, ended together."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import BinaryIO

from volvox.distributed import failures
from volvox.distributed.failures import Failure

_TAIL = 20_000
_SETTLE_SECONDS = 1.0
_GRACE_SECONDS = 2.0


@dataclass
class _Rank:
    number: int
    process: asyncio.subprocess.Process
    errors: bytes = b""
    raised: float = 0.0  # when the last traceback began, by the monotonic clock
    ended: float = 0.0


class Ranks:
    """Processes that live and die together.

    Args:
        node: Number of this node.
        command: What each of them runs.
        environments: The variables of each.
        first: Rank of the first of them.
        named: Whether each line that they print is preceded by its rank.
    """

    def __init__(
        self, node: int, command: list[str], environments: list[dict[str, str]], *, first: int, named: bool
    ) -> None:
        self.node, self.command, self.environments, self.first_rank, self.named = (
            node, command, environments, first, named,
        )  # fmt: skip
        self._ranks: list[_Rank] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: list[asyncio.Task[None]] = []
        self._asked: set[int] = set()

    async def start(self) -> None:
        """Start all of them; each is killed by the kernel should this process be killed."""
        tied = functools.partial(_end_with_parent, ctypes.CDLL(None), os.getpid())
        for number, environment in enumerate(self.environments, self.first_rank):
            # Pipes of our own: asyncio would wait for theirs too, which a child that a process left behind keeps open.
            (out, to_out), (err, to_err) = os.pipe(), os.pipe()
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=to_out, stderr=to_err,
                    start_new_session=True, preexec_fn=tied,
                )  # fmt: skip
            finally:
                os.close(to_out)
                os.close(to_err)
            rank = _Rank(number, process)
            self._ranks.append(rank)
            for source, target, errors in ((out, sys.stdout.buffer, False), (err, sys.stderr.buffer, True)):
                self._tasks.append(asyncio.create_task(self._hear(rank, source, target, errors)))
            self._waiting.append(asyncio.create_task(self._wait(rank)))

    async def finished(self) -> list[Failure]:
        """Wait until all have ended well, or one has not: then those that failed by themselves, and none is left."""
        pending = set(self._waiting)
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(rank.process.returncode for rank in self._ranks):
                if pending:  # the one that failed first may not be the one that ended first
                    await asyncio.wait(pending, timeout=_SETTLE_SECONDS)
                break
        return await self.end()

    def pass_on(self, number: int) -> None:
        """Send a signal to all of them and to their children."""
        for rank in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(rank.process.pid, number)

    async def end(self, number: int = signal.SIGTERM) -> list[Failure]:
        """Ask them to end, kill those that do not, and their children; none is left then.

        Returns:
            Those that had failed by themselves.
        """
        alive = [waiting for waiting in self._waiting if not waiting.done()]
        self._asked |= {rank.number for rank in self._ranks if rank.process.returncode is None}
        if alive:
            self.pass_on(number)
            await asyncio.wait(alive, timeout=_GRACE_SECONDS)
        self.pass_on(signal.SIGKILL)
        if self._waiting:
            await asyncio.wait(self._waiting)
        if self._tasks:  # what they have printed last; a stray child of a child may hold the pipe open
            await asyncio.wait(self._tasks, timeout=0.5)
        for task in self._tasks:
            task.cancel()
        return [
            self._failure(rank) for rank in self._ranks if rank.process.returncode and rank.number not in self._asked
        ]

    async def _wait(self, rank: _Rank) -> None:
        await rank.process.wait()
        rank.ended = time.monotonic()

    def _failure(self, rank: _Rank) -> Failure:
        code = rank.process.returncode or 0
        at = rank.raised if code > 0 and rank.raised else rank.ended
        return failures.of_process(self.node, rank.number, code, rank.errors.decode(errors="replace"), at)

    async def _hear(self, rank: _Rank, descriptor: int, target: BinaryIO, errors: bool) -> None:
        loop, source = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(source), os.fdopen(descriptor, "rb", 0)
        )
        try:
            await self._hear_all(rank, source, target, errors)
        finally:
            transport.close()

    async def _hear_all(self, rank: _Rank, source: asyncio.StreamReader, target: BinaryIO, errors: bool) -> None:
        prefix, rest = f"[rank {rank.number}] ".encode() if self.named else b"", b""
        while piece := await source.read(1 << 16):
            lines = (rest + piece).splitlines(keepends=True)
            rest = b"" if lines[-1].endswith((b"\n", b"\r")) or len(lines[-1]) > _TAIL else lines.pop()
            for line in lines:
                if errors:
                    rank.errors = (rank.errors + line)[-_TAIL:]
                    if failures.is_header(line):
                        rank.raised = time.monotonic()
            _write(target, b"".join(prefix + line for line in lines))
        if rest:
            rank.errors += rest if errors else b""
            _write(target, prefix + rest + b"\n")


def _end_with_parent(libc: ctypes.CDLL, parent: int) -> None:
    pr_set_pdeathsig = 1
    libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)


def _write(target: BinaryIO, text: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more; the work goes on
        target.write(text)
        target.flush()
