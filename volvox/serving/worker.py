"""The server's end of one worker process: start it, send it requests, take its answers, end it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from volvox.errors import ModuleFailed
from volvox.serving.asking import Ask
from volvox.serving.spawning import Process, Spawn, Spawned
from volvox.serving.spawning import start as start_process
from volvox.worker.control import INTERRUPT, Control
from volvox.worker.wire import Frames, frame

_TAIL = 4000
_LOG_BYTES = 1 << 20  # a longer one is put aside when the next worker starts
_GRACE_SECONDS = 2.0


class Worker(asyncio.Protocol):
    """A process that holds one model module, imported and warmed.

    Attributes:
        description: What the module says of itself.
        batches: Whether it answers several requests at once.
        open: The requests that it was sent and has not answered, by number, in order.
        leaving: Whether it gets no more requests, and is to end when it has answered those.
    """

    def __init__(self, module: str, process: Process, control: Control) -> None:
        """Use `Worker.start`."""
        self.module = module
        self.description: dict[str, Any] = {}
        self.batches = False
        self.open: dict[int, Ask] = {}
        self.leaving = False
        self.on_answer: Callable[[Worker, Ask], None] = _ignore
        self._process, self._control = process, control
        self._transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._said: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._sent = 0

    @classmethod
    async def start(
        cls,
        module: str,
        *,
        environment: Mapping[str, str],
        log: Path,
        seconds: float,
        batch: int = 1,
        python: str = "",
        warm: bool = True,
        spawn: Spawn = start_process,
    ) -> Worker:
        """Start a process for `module` and wait until it is warm.

        Args:
            module: The module, a text that `volvox.worker.finding` reads.
            environment: Variables beside those of this process.
            log: File that gets what the module prints.
            seconds: How long to wait.
            batch: How many requests it may answer at once, where the module can.
            python: The interpreter that the module needs (default: this one).
            warm: Whether the module is warmed.
            spawn: How its process comes to be.

        Raises:
            ModuleFailed: If the module cannot be imported or warmed in time; with its trace, and nothing left running.
        """
        with contextlib.suppress(OSError):
            if log.stat().st_size > _LOG_BYTES:
                log.replace(log.with_suffix(".1"))
        control, page = Control.create()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                arguments = ["--module", module, "--batch", str(batch), *([] if warm else ["--nowarm"])]
                asked = Spawned(python, arguments, environment, log, theirs.fileno(), page, os.getpid())
                process = await spawn(asked)
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(page)
        loop = asyncio.get_running_loop()
        _, worker = await loop.create_connection(lambda: cls(module, process, control), sock=ours)
        try:
            async with asyncio.timeout(seconds):
                said = await worker._said
        except BaseException as error:
            await worker.end()
            if not isinstance(error, TimeoutError):
                raise
            raise ModuleFailed(f"module {module!r} was not ready after {seconds:g} s", trace=_tail(log)) from error
        if "ready" not in said:
            await worker.end()
            why = said["failed"] if "failed" in said else await worker.how_it_ended()
            raise ModuleFailed(f"module {module!r} did not start: {why}", trace=said.get("trace") or _tail(log))
        worker.description, worker.batches = said["ready"], said["batches"]
        return worker

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    # -- requests ------------------------------------------------------------------------------------------------

    def send(self, asks: list[Ask]) -> None:
        """Send requests; `on_answer` is called for each that is answered, after the request itself was told."""
        frames = []
        for ask in asks:
            self._sent += 1
            ask.number, ask.worker = self._sent, self
            self.open[self._sent] = ask
            header = {**ask.request, "id": self._sent}
            if ask.alone:
                header["alone"] = True
            frames.append(frame(header, ask.payload))
        if self._transport is not None:
            self._transport.write(b"".join(frames))

    def begun(self, ask: Ask) -> bool:
        """Whether the process has begun with `ask`."""
        return ask.number <= self._control.taken

    def begun_asks(self) -> list[Ask]:
        """The requests it is at, or was at when it died."""
        taken = self._control.taken
        return [ask for number, ask in self.open.items() if number <= taken]

    def interrupt(self) -> int:
        """Ask it to leave what it is at; the number of the last request that means."""
        taken = self._control.taken
        self._control.leave(taken)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(INTERRUPT)
        return taken

    def is_at(self, number: int) -> bool:
        """Whether it is still at the requests up to `number`."""
        return any(open_number <= number for open_number in self.open)

    def pause(self) -> None:
        """Take no more answers: a client reads a streamed one more slowly than the module gives it."""
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def resume(self) -> None:
        """Take answers again."""
        if self._transport is not None:
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()

    # -- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        """Answers, or the first word."""
        for header, body in self._frames.feed(data):
            number = header.pop("id", None)
            if number is None:
                if not self._said.done():
                    self._said.set_result(header)
                continue
            if header.pop("more", False):
                if ask := self.open.get(number):
                    ask.part(header, body)
                continue
            ask = self.open.pop(number, None)
            if ask is not None:
                ask.answered(header, body)
                self.on_answer(self, ask)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the process says more
        """The process has closed it, most likely by ending."""
        if not self._said.done():
            self._said.set_result({})

    # -- the process ---------------------------------------------------------------------------------------------

    async def exited(self) -> None:
        """Wait until the process has ended."""
        await self._process.wait()

    async def end(self) -> None:
        """End the process and whatever it started; it is gone when this returns."""
        if self._transport is not None:
            self._transport.close()
        for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            if self._process.returncode is not None:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), patience)

    async def how_it_ended(self) -> str:
        """Why the process is gone, in words."""
        code = None
        with contextlib.suppress(TimeoutError):
            code = await asyncio.wait_for(asyncio.shield(self._process.wait()), _GRACE_SECONDS)
        if code is None:
            how = "closed its connection"
        elif code == -signal.SIGKILL:
            how = "was killed, most likely for lack of memory"
        else:
            how = f"ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
        return f"the process of module {self.module!r} {how}"


def _ignore(*_: object) -> None: ...


def _tail(log: Path) -> str:
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL))
        return stream.read().decode(errors="replace")
    return ""
