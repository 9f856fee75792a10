"""Functions that are a script or a command: one process or container for each call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runner import __main__ as runner
from volvox.runner import outputs
from volvox.runner.running import GRACE_SECONDS, Ended, without_space
from volvox.runner.work import Work
from volvox.runtimes import printed
from volvox.runtimes.interface import Call, Instance, Outcome
from volvox.runtimes.printed import Printed

_RUNNER = str(Path(runner.__file__).absolute())
_SECRET = re.compile(r"\{\{\s*prefect\.blocks\.secret\.([\w.-]+)\s*\}\}")

Secret = Callable[[str], str]
T = TypeVar("T")


@dataclass(eq=False)
class Running:
    """A call that is being answered.

    Attributes:
        name: What its process or container is called.
        work: What it is.
        log: What it prints.
        since: Seconds since the epoch.
        began: Whether it runs already, as opposed to being on its way.
    """

    name: str
    work: Work
    log: Path
    since: float
    began: bool = False


@dataclass(eq=False)
class ScriptVersion:
    """One version of a function that is a script.

    Attributes:
        function: Its definition.
        version: What the dispatcher calls it.
        folder: Its function's folder in the runtime's.
        running: The calls that are being answered.
        start_seconds: How long the last one took to start.
    """

    function: Function
    version: str
    folder: Path
    running: set[Running] = field(default_factory=set)
    start_seconds: float | None = None
    removed: bool = False

    def __post_init__(self) -> None:
        """As many calls at once as its definition says."""
        self.tasks: set[asyncio.Task[Outcome]] = set()
        scaling = self.function.scaling
        self._places = asyncio.Semaphore(scaling.max_scale * scaling.concurrency)

    def told(self) -> list[Instance]:
        """Its instances, as status shows them: the calls that are being answered."""
        return [
            Instance(one.name, self.version, "busy" if one.began else "starting", one.since) for one in self.running
        ]

    async def call(self, call: Call, start: Start, secret: Secret | None) -> Outcome:
        """Answer a call; ended with it if it is cancelled."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            async with self._places:
                return await self._run(call, start, secret)
        except asyncio.CancelledError:
            if not self.removed:
                raise
            task.uncancel()
            return Outcome(call.job, "cancelled", f"function {self.function.name!r} was removed")
        finally:
            self.tasks.discard(task)

    async def drained(self) -> None:
        """Wait until every call that came in is answered."""
        if self.tasks:
            await asyncio.wait([*self.tasks])

    async def end(self) -> None:
        """End every call that is being answered."""
        self.removed = True
        tasks = [*self.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, call: Call, start: Start, secret: Secret | None) -> Outcome:
        folder = self.folder / "calls" / f"{call.job[:40]}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        running = None
        try:
            work = self._work(call, folder, secret)
            running = Running(f"volvox-{folder.name}", work, Path(work.log), time.time())
            self.running.add(running)
            following = Printed(running.log, call.log) if call.log else None
            try:
                ended = await start(self.function, running)
            finally:
                if following is not None:
                    following.end()
            _, refused = await asyncio.to_thread(outputs.collect, Path(work.output))
            return Outcome(
                call.job, ended.kind or "", ended.reason, ended.exit_code, ended.seconds,  # pyright: ignore[reportArgumentType]
                printed=ended.printed, notes=tuple(refused[:20]), version=self.version,
            )  # fmt: skip
        except InvalidInput as error:
            return Outcome(call.job, "refused", str(error))
        finally:
            if running is not None:
                self.running.discard(running)
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def _work(self, call: Call, folder: Path, secret: Secret | None) -> Work:
        function = self.function
        output = call.output or folder / "output"
        output.mkdir(exist_ok=True)
        return Work(
            folder=str(folder),
            output=str(output),
            script=function.script,
            command=function.command,
            input=str(call.input or ""),
            key=call.key,
            relative=call.relative,
            event=call.event,
            event_time=call.event_time,
            job=call.job,
            function=function.name,
            arguments={**function.arguments, **call.arguments},
            environment=resolved(function.environment, secret),
            timeout_seconds=call.timeout_seconds,
            memory_mb=function.resources.memory_mb or 0,
            storage_mb=function.resources.storage_mb or 0,
            log=str(printed.new_file(self.folder / "logs")),
            result=str(folder / "result.json"),
        )


class Start:
    """Runs one call to its end: a process here, a container in `volvox.runtimes.docker`."""

    async def __call__(self, function: Function, running: Running) -> Ended:
        """What became of it; cancelled, nothing of it is left."""
        raise NotImplementedError


class Process(Start):
    """A process of this machine, which the job runner watches."""

    async def __call__(self, function: Function, running: Running) -> Ended:  # noqa: ARG002 - its image is not used
        """As `Start`."""
        work = running.work
        request = Path(work.folder, "request.json")
        request.write_text(work.as_json())
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, _RUNNER, str(request), str(os.getpid()), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        running.began = True
        try:
            await process.wait()
        except BaseException:
            await asyncio.shield(_ended(process))
            raise
        try:
            return Ended(**json.loads(Path(work.result).read_text()))
        except (OSError, ValueError):
            seconds = time.monotonic() - began
            if full := without_space(work):
                begun = Path(work.result + ".part").exists()
                return Ended("storage" if begun else "transient", f"the disk of {full} is full", seconds=seconds)
            return Ended("gone", "the job runner ended before the script did", seconds=seconds)


async def finished(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """What became of calls; cancelled, every one of them has ended when this returns."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)  # it ends the script with all that it started
    try:
        await asyncio.wait_for(process.wait(), 2 * GRACE_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def resolved(environment: Mapping[str, str], secret: Secret | None) -> dict[str, str]:
    """Variables with the secrets that they name in their places.

    Raises:
        InvalidInput: If they name one, and nobody can tell it.
    """

    def told(name: str, found: re.Match[str]) -> str:
        if secret is None:
            raise InvalidInput(f"variable {name} names the secret {found[1]!r}, which cannot be read here")
        return secret(found[1])

    return {name: _SECRET.sub(lambda found, name=name: told(name, found), text) for name, text in environment.items()}
