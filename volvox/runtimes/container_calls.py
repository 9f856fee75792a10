"""One container for each call of a script: the job runner's work, done from outside, so that any image will do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path

from volvox.errors import Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.runner.running import ANSWER_BYTES, GRACE_SECONDS, Ended, how_it_ended, last_line, size_mb, without_space
from volvox.runner.work import Paths, Work, command_of, prepare, variables
from volvox.runtimes.engine import Engine
from volvox.runtimes.engines import Container, Mount
from volvox.runtimes.scripts import Running, Start

INSIDE = Paths("/volvox/input", "/volvox/output", "/volvox/script", "/volvox/event.json", "/tmp")  # noqa: S108 - inside
_PIECE = 1 << 16
_SIZE_SECONDS = 1.0
_REFUSED = 125  # what `docker run` ends with where the engine did not run anything


class ContainerCall(Start):
    """Runs a call in a container of the function's image."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, function: Function, running: Running) -> Ended:
        """As `Start`; the container is removed, however it ends."""
        work, name = running.work, re.sub(r"[^A-Za-z0-9_.-]", "-", running.name)
        await asyncio.to_thread(_prepare, work)
        container = _container(function, work, name, self._engine)
        began = time.monotonic()
        ended = Ended()
        try:
            ended = await self._attended(container, running)
            if ended.kind in ("", "failed") and self._engine.keeps:
                ended = await self._looked_at(name, ended, work)
        except Unavailable as error:
            ended = Ended("transient", str(error))
        finally:
            if self._engine.keeps:
                await asyncio.shield(self._removed(name))
        ended.seconds = round(time.monotonic() - began, 3)
        if ended.kind == "failed" and (full := without_space(work)):
            ended.kind, ended.reason = "storage", f"{ended.reason}; the disk of {full} is full"
        return ended

    async def _attended(self, container: Container, running: Running) -> Ended:
        """Run it with its standard output to the log and kept; what its exit code says."""
        line, environment = self._engine.command(container)
        work = running.work
        with Path(work.folder, "event.json").open("rb") as event, Path(work.log).open("ab", buffering=0) as log:
            process = await asyncio.create_subprocess_exec(
                *line, stdin=event, stdout=asyncio.subprocess.PIPE, stderr=log, env=environment, start_new_session=True
            )
            running.began = True
            printed = bytearray()
            reading = asyncio.create_task(_read(process, printed, log.fileno()))
            kind, reason = "", ""
            try:
                kind, reason = await _until_its_end(process, work)
            finally:
                if process.returncode is None:
                    await asyncio.shield(self._stopped(container.name, process))
                await asyncio.wait([reading], timeout=GRACE_SECONDS)
                reading.cancel()
        code = process.returncode or 0
        code = 128 - code if code < 0 else code
        if not kind and code:
            kind, reason = "failed", how_it_ended(code, bytes(printed), last_line(work.log))
        return Ended(kind, reason, code, printed=printed.decode(errors="replace"))

    async def _looked_at(self, name: str, ended: Ended, work: Work) -> Ended:
        """What the engine knows beside the exit code."""
        there = await self._engine.look(name)
        if there is None or there.error:
            said = there.error if there else _said(Path(work.log))
            if ended.exit_code in (126, 127):  # the program of the script is not in the image
                ended.kind, ended.reason = "failed", f"the script cannot be started in its image: {said[-300:]}"
            elif ended.exit_code == _REFUSED or there is None:
                ended.kind, ended.reason, ended.exit_code = (
                    "transient",
                    f"the engine did not run it: {said[-300:]}",
                    None,
                )
        elif there.out_of_memory and ended.exit_code:
            limit = f", of which it may use {work.memory_mb} MB" if work.memory_mb else ""
            ended.kind, ended.reason = "memory", f"the kernel ended it for lack of memory{limit}"
        elif ended.exit_code == 128 + signal.SIGKILL:
            ended.kind, ended.reason = "gone", "its container was killed"
        return ended

    async def _stopped(self, name: str, process: asyncio.subprocess.Process) -> None:
        """End the container and what waits for it."""
        if self._engine.keeps:
            with contextlib.suppress(VolvoxError):
                await self._engine.stop(name, GRACE_SECONDS)
                await self._engine.remove(name)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(process.wait()), GRACE_SECONDS)
                return

    async def _removed(self, name: str) -> None:
        with contextlib.suppress(VolvoxError):  # an engine that is down: what is left is swept when it is there again
            await self._engine.remove(name)


def _prepare(work: Work) -> None:
    prepare(work)
    output = Path(work.output)
    output.chmod(0o777)  # the image's user is another one; the folders above are closed to all but us


def _container(function: Function, work: Work, name: str, engine: Engine) -> Container:
    folder, needs = Path(work.folder), function.resources
    mounts = [
        Mount(str(folder / "input"), INSIDE.input_folder),
        Mount(work.output, INSIDE.output_folder, writable=True),
        Mount(str(folder / "event.json"), INSIDE.event),
    ]
    if work.script:
        mounts.append(Mount(str(folder / "script"), INSIDE.script))
    return Container(
        name=name,
        image=function.image,
        command=tuple(command_of(work, INSIDE)),
        environment=variables(work, INSIDE),
        mounts=tuple(mounts),
        labels=engine.labels(function.name, function.version, "call"),
        user=_user(function, engine),
        memory_mb=needs.memory_mb or 0,
        cpu=needs.cpu or 0.0,
        gpus=needs.gpus,
    )


def _user(function: Function, engine: Engine) -> str:
    """Whom the script runs as: what the definition says, else us, whose files its outputs are then.

    Where we are root, or the engine maps its root to us (Podman), it is the image's own user, as with SCAR and OSCAR.
    """
    if stated := function.settings.get("user"):
        return str(stated)
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() and engine.kind == "docker" else ""


def _said(log: Path) -> str:
    """What the engine's command line said that ran nothing."""
    lines = log.read_text(errors="replace").splitlines()[-5:]
    return " ".join(line.strip() for line in lines if line.strip() and "--help" not in line)


async def _until_its_end(process: asyncio.subprocess.Process, work: Work) -> tuple[str, str]:
    """Wait for it; why it must end before, if it must."""
    clock = asyncio.get_running_loop().time
    deadline, ending = clock() + work.timeout_seconds, asyncio.ensure_future(process.wait())
    try:
        while True:
            patience = min(max(0.0, deadline - clock()), _SIZE_SECONDS if work.storage_mb else deadline)
            if (await asyncio.wait([ending], timeout=patience))[0]:
                return "", ""
            if clock() >= deadline:
                return "timeout", f"it took longer than {work.timeout_seconds:g} s"
            used = await asyncio.to_thread(size_mb, work.output)
            if work.storage_mb and used > work.storage_mb:
                return "storage", f"it wrote {used:.0f} MB, more than the {work.storage_mb} MB it may"
    finally:
        ending.cancel()


async def _read(process: asyncio.subprocess.Process, printed: bytearray, log: int) -> None:
    assert process.stdout is not None
    while piece := await process.stdout.read(_PIECE):
        printed += piece[: max(0, ANSWER_BYTES - len(printed))]
        with contextlib.suppress(OSError):  # a full disk ends the log, not the script
            os.write(log, piece)
