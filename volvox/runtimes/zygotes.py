"""Processes that have the libraries of a module imported, of which its workers are forked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volvox.errors import Unavailable
from volvox.identity import digest_of
from volvox.modules import interpreter
from volvox.serving import spawning
from volvox.serving.spawning import Process, Spawned

_START_SECONDS = 120.0
_FORK_SECONDS = 5.0
_MESSAGE = 1 << 16
_MOST = 4
_TRIES = 4

log = logging.getLogger(__name__)


class Forked:
    """A process that a zygote forked, whose end the zygote tells."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()

    def send_signal(self, signal: int) -> None:
        """Send it a signal; ProcessLookupError if it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, signal)

    async def wait(self) -> int:
        """Wait for its end."""
        await self._ended.wait()
        return self.returncode or 0

    def ended(self, code: int) -> None:
        """It has ended."""
        self.returncode = code
        self._ended.set()


class Zygote:
    """One such process.

    Attributes:
        why_not: Why it cannot be used; empty while it can, or is on its way.
        children: The processes that were forked from it and run.
    """

    def __init__(self, python: str, libraries: Path, output: Path) -> None:
        """One in the Python at `python` (empty: this one) with what `libraries` names, a JSON list; see `start`."""
        self.why_not = ""
        self.children: dict[int, Forked] = {}
        self._python, self._libraries, self._output = python, libraries, output
        self._process: asyncio.subprocess.Process | None = None
        self._connection: socket.socket | None = None
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked: deque[asyncio.Future[Forked]] = deque()
        self._folders: dict[str, int] = {}
        self.starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        """Start it; libraries that must not be there when a process is forked are left out."""
        told: dict[str, Any] = {}
        for _ in range(_TRIES):
            told = await self._launched()
            if "ready" in told:
                self._folders = told["folders"]
                return
            await self._ended()
            names = json.loads(self._libraries.read_text())
            kept = [name for name in names if name.partition(".")[0] not in told.get("blame", ())]
            if not kept or len(kept) == len(names):
                break
            self._libraries.write_text(json.dumps(kept))
            log.info("%s, which start threads, are imported after a fork, not before", ", ".join(told["blame"]))
        self.why_not = told.get("unsafe") or "it ended while its libraries were imported"
        log.warning("no process with the libraries of %s is kept: %s", self._libraries, self.why_not)

    async def _launched(self) -> dict[str, Any]:
        """Start the process; what it says when its libraries are imported."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._connection, self._ready = ours, asyncio.get_running_loop().create_future()
        try:
            with theirs, self._output.open("ab") as stream:
                self._process = await asyncio.create_subprocess_exec(
                    *interpreter.command(self._python, "zygote"),
                    "--socket", str(theirs.fileno()), "--libraries", str(self._libraries), "--parent", str(os.getpid()),
                    stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream, pass_fds=[theirs.fileno()],
                    env={**interpreter.environment(self._python), "PYTHONUNBUFFERED": "1"}, start_new_session=True,
                )  # fmt: skip
            asyncio.get_running_loop().add_reader(ours, self._receive)
            return await asyncio.wait_for(self._ready, _START_SECONDS)
        except (OSError, TimeoutError) as error:
            return {"unsafe": f"it did not start ({str(error) or 'it took too long'})"}

    async def spawn(self, asked: Spawned) -> Process:
        """Fork a worker; waits until the libraries are imported.

        Raises:
            Unavailable: If it cannot be forked.
        """
        await asyncio.shield(self.starting)
        if self.stale():
            self.why_not = "what is installed has changed"
        if self.why_not or self._connection is None:
            raise Unavailable(self.why_not or "it has ended")
        told: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
        message = json.dumps({"loop": list(asked.arguments), "environment": dict(asked.environment)}).encode()
        try:
            with asked.log.open("ab") as stream:
                socket.send_fds(self._connection, [message], [asked.socket, asked.page, stream.fileno()])
            self._asked.append(told)
            return await asyncio.wait_for(asyncio.shield(told), _FORK_SECONDS)
        except asyncio.CancelledError:
            told.add_done_callback(_end_unwanted)
            raise
        except (OSError, TimeoutError) as error:
            self.why_not = f"it does not answer ({str(error) or type(error).__name__})"
            raise Unavailable(self.why_not) from error

    def stale(self) -> bool:
        """Whether a distribution was installed or removed since it imported its libraries."""
        try:
            return any(os.stat(folder).st_mtime_ns != changed for folder, changed in self._folders.items())  # noqa: PTH116
        except OSError:
            return True

    async def end(self) -> None:
        """End it and every process that was forked from it."""
        self.why_not = self.why_not or "it has ended"
        if not self.starting.done() and self.starting is not asyncio.current_task():
            self.starting.cancel()
            await asyncio.wait([self.starting])
        await self._ended()

    async def _ended(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # the kernel ends those that were forked with it
            await self._process.wait()
        self._lost()

    def _receive(self) -> None:
        assert self._connection is not None
        try:
            message = self._connection.recv(_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost()
            return
        told = json.loads(message)
        if "forked" in told:
            child = self.children[told["forked"]] = Forked(told["forked"])
            if self._asked and not (asked := self._asked.popleft()).done():
                asked.set_result(child)
        elif "ended" in told:
            if child := self.children.pop(told["ended"], None):
                child.ended(told["code"])
        elif not self._ready.done():
            self._ready.set_result(told)

    def _lost(self) -> None:
        """The process has ended, and those that were forked with it."""
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._connection)
            self._connection.close()
            self._connection = None
        if not self._ready.done():
            self._ready.set_result({})
        elif self.starting.done():
            self.why_not = self.why_not or "it has ended"
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(Unavailable(self.why_not or "it has ended"))
                asked.exception()
        self._asked.clear()
        for child in self.children.values():
            child.ended(-signal.SIGKILL)
        self.children.clear()


class Zygotes:
    """Those of one dispatcher: one for each interpreter and set of libraries, the last used few."""

    def __init__(self, folder: Path, most: int = _MOST) -> None:
        """What they are asked to import and what they print is kept in `folder`."""
        self._folder, self._most = folder, most
        self._all: dict[str, Zygote] = {}  # the one that was used last comes last
        self._ending: set[asyncio.Task[None]] = set()

    def prepare(self, python: str, libraries: Sequence[str]) -> str:
        """See that there is one, in the background; what it is called."""
        key = digest_of([python, list(libraries)])[:16]
        found = self._all.pop(key, None)
        if found is None or (found.why_not and found.starting.done() and _may_help(found)):
            self._let_go(found)
            self._folder.mkdir(parents=True, exist_ok=True)
            names = self._folder / f"{key}.json"
            if not names.exists():  # else it is known already what must be left out
                names.write_text(json.dumps(list(libraries)))
            found = Zygote(python, names, self._folder / f"{key}.log")
        self._all[key] = found
        for other in [*self._all][: -self._most]:
            if not self._all[other].children:
                self._let_go(self._all.pop(other))
        return key

    def get(self, key: str) -> Zygote | None:
        """The one that is called so, if it can be used."""
        found = self._all.get(key)
        return found if found is not None and not found.why_not else None

    async def close(self) -> None:
        """End all of them, and what was forked from them."""
        zygotes, self._all = [*self._all.values()], {}
        await asyncio.gather(*(zygote.end() for zygote in zygotes))
        for task in self._ending:
            task.cancel()

    def _let_go(self, zygote: Zygote | None) -> None:
        """End it when the last process that was forked from it has ended."""
        if zygote is None:
            return

        async def end() -> None:
            try:
                for child in [*zygote.children.values()]:
                    await child.wait()
            finally:
                await zygote.end()

        task = asyncio.create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _end_unwanted(told: asyncio.Future[Forked]) -> None:
    """Nobody waits for this process any more."""
    if not told.cancelled() and not told.exception():
        with contextlib.suppress(ProcessLookupError):
            told.result().send_signal(signal.SIGKILL)


def _may_help(zygote: Zygote) -> bool:
    """Whether another one may do better: not if its libraries start threads."""
    return not zygote.why_not.startswith("importing")


async def start(zygote: Zygote | None, asked: Spawned) -> Process:
    """Fork a worker where that is possible, else start one."""
    if zygote is not None:
        try:
            return await zygote.spawn(asked)
        except Unavailable as error:
            log.warning("a worker is started anew, not forked: %s", error)
    return await spawning.start(asked)
