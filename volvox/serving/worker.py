"""The server's end of one worker process: start it, ask it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox.errors import ModuleFailed, Unavailable
from volvox.worker.answering import HEAD, frame

_TAIL = 4000
_LOG_BYTES = 1 << 20  # a longer one is put aside when the next worker starts
_GRACE_SECONDS = 2.0


class WorkerDied(Unavailable):
    """The process ended while it was asked; another one takes its place."""


@dataclass(frozen=True)
class Answer:
    """What a worker said: its header, and the body as it goes to the client."""

    header: dict[str, Any]
    body: bytes


class Worker:
    """A process that holds one model module, imported and warmed."""

    def __init__(
        self,
        module: str,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        description: dict[str, Any],
    ) -> None:
        """Use `Worker.start`."""
        self.module = module
        self.description = description
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls, module: str, *, environment: Mapping[str, str], log: Path, seconds: float) -> Worker:
        """Start a process for `module` and wait until it is warm.

        Args:
            module: Entry-point name of the module.
            environment: Variables beside those of this process.
            log: File that gets what the module prints.
            seconds: How long to wait.

        Raises:
            ModuleFailed: If the module cannot be imported or warmed in time; with its trace, and nothing left running.
        """
        with contextlib.suppress(OSError):
            if log.stat().st_size > _LOG_BYTES:
                log.replace(log.with_suffix(".1"))
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as stream:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "volvox.worker.answering",
                "--module", module, "--socket", str(theirs.fileno()), "--parent", str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream, pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment}, start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=ours)
        worker = cls(module, process, reader, writer, {})
        try:
            async with asyncio.timeout(seconds):
                said = (await worker._receive()).header
        except BaseException as error:
            await worker.end()
            if isinstance(error, TimeoutError):
                message = f"module {module!r} was not ready after {seconds:g} s"
            elif isinstance(error, WorkerDied):
                message = f"module {module!r} did not start: {error}"
            else:
                raise
            raise ModuleFailed(message, trace=_tail(log)) from error
        if "failed" in said:
            await worker.end()
            raise ModuleFailed(f"module {module!r} did not start: {said['failed']}", trace=said.get("trace", ""))
        worker.description = said["ready"]
        return worker

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def ask(self, request: Mapping[str, Any]) -> Answer:
        """Send one request and wait for its answer. A caller that stops waiting must end the worker.

        Raises:
            WorkerDied: If the process ends instead of answering.
        """
        try:
            self._writer.write(frame(dict(request)))
            await self._writer.drain()
        except ConnectionError:
            raise await self._died() from None
        return await self._receive()

    async def exited(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def end(self) -> None:
        """End the process and whatever it started; it is gone when this returns."""
        self._writer.close()
        for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            if self._process.returncode is not None:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), patience)

    async def _receive(self) -> Answer:
        try:
            header, body = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            text = await self._reader.readexactly(header)
            return Answer(json.loads(text), await self._reader.readexactly(body))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._died() from None

    async def _died(self) -> WorkerDied:
        code = None
        with contextlib.suppress(TimeoutError):
            code = await asyncio.wait_for(asyncio.shield(self._process.wait()), _GRACE_SECONDS)
        if code is None:
            how = "closed its connection"
        elif code == -signal.SIGKILL:
            how = "was killed, most likely for lack of memory"
        else:
            how = f"ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
        return WorkerDied(f"the process of module {self.module!r} {how}")


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        return stream.read().decode(errors="replace")
    return ""
