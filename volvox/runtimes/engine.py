"""A container engine of this machine, by its command line: run, look at and remove what carries our labels."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox.errors import Unavailable, VolvoxError
from volvox.identity import process_started, this_process
from volvox.runtimes import engines
from volvox.runtimes.engines import Container

OWNER, FUNCTION, VERSION, ROLE = "volvox.functions", "volvox.function", "volvox.version", "volvox.role"
DISPATCHER = "volvox.dispatcher"
_SECONDS = 60.0
_DOWN = ("Cannot connect to the Docker daemon", "connection refused", "unable to connect to Podman")
_GONE = ("No such container", "no such container", "no such object", "No such object", "no container with")


@dataclass(frozen=True)
class Found:
    """A container that the engine has.

    Attributes:
        id: The engine's id of it.
        labels: What it carries.
        running: Whether it runs.
        exit_code: How it ended.
        out_of_memory: Whether the kernel ended something in it for lack of memory.
        error: Why it could not be started, or empty.
        port: The port of this machine that leads to its published one, or 0.
        pid: Of its first process, on this machine; 0 if that is elsewhere.
    """

    id: str
    labels: dict[str, str]
    running: bool
    exit_code: int
    out_of_memory: bool
    error: str
    port: int
    pid: int


class Engine:
    """The engine that is here."""

    def __init__(self, owner: str, wanted: str = "") -> None:
        """Containers carry the label `owner`; `wanted` names an engine, else the first that is installed is used."""
        self.owner = owner
        self._wanted = wanted
        self._found: tuple[engines.Kind, str] | None = None

    @property
    def kind(self) -> engines.Kind:
        """Which engine it is; raises Unavailable if there is none."""
        return self._engine[0]

    @property
    def keeps(self) -> bool:
        """Whether it has containers that can be looked at and go on by themselves."""
        return self.kind in ("docker", "podman")

    @property
    def _engine(self) -> tuple[engines.Kind, str]:
        if self._found is None:
            self._found = engines.found(self._wanted)
        return self._found

    def labels(self, function: str, version: str, role: str) -> dict[str, str]:
        """What a container of ours carries."""
        pid, started = this_process()
        return {
            OWNER: self.owner,
            FUNCTION: function,
            VERSION: version,
            ROLE: role,
            DISPATCHER: f"{pid}:{started}",
        }

    def command(self, container: Container) -> tuple[list[str], dict[str, str]]:
        """The command line that runs a container, and the variables of its process."""
        kind, program = self._engine
        line, variables = engines.run(kind, program, container)
        return line, {**os.environ, **variables}

    async def start(self, container: Container) -> str:
        """Run a container in the background; its id.

        Raises:
            Unavailable: If the engine does not answer, or the image cannot be fetched.
        """
        line, environment = self.command(container)
        return (await self._run(line, environment, seconds=600.0)).strip()

    async def all(self, **labels: str) -> list[Found]:
        """Ours that carry these labels, `function=...`, `role=...`."""
        names = {"function": FUNCTION, "role": ROLE, "version": VERSION}
        wanted = [f"{OWNER}={self.owner}", *(f"{names[name]}={value}" for name, value in labels.items())]
        filters = [text for one in wanted for text in ("--filter", f"label={one}")]
        ids = (await self._cli("ps", "--all", "--quiet", "--no-trunc", *filters)).split()
        return await self._inspected(*ids)

    async def look(self, name: str) -> Found | None:
        """The container of this name or id, or None."""
        return next(iter(await self._inspected(name)), None)

    async def has(self, image: str) -> bool:
        """Whether the image is here."""
        try:
            await self._cli("image", "inspect", "--format", "{{.Id}}", image)
        except Unavailable:
            raise
        except VolvoxError:
            return False
        return True

    async def stop(self, name: str, seconds: float) -> None:
        """Ask a container to end, and end it by force after `seconds`."""
        await self._cli("stop", "--time", str(round(seconds)), name, missing_is_fine=True)

    async def remove(self, *names: str) -> None:
        """End containers by force and remove them with their volumes."""
        if names:
            await self._cli("rm", "--force", "--volumes", *names, missing_is_fine=True)

    async def logs(self, name: str, lines: int = 0) -> str:
        """What a container printed; its last lines only, if so many are asked for."""
        tail = ["--tail", str(lines)] if lines else []
        return await self._cli("logs", *tail, name, both=True, missing_is_fine=True)

    async def sweep(self) -> None:
        """Remove what dispatchers that are gone have left: containers of single calls."""
        if self.keeps:
            await self.remove(*(one.id for one in await self.all(role="call") if orphaned(one)))

    # -- inside --------------------------------------------------------------------------------------------------

    async def _inspected(self, *names: str) -> list[Found]:
        if not names:
            return []
        said = await self._cli("inspect", "--type", "container", *names, missing_is_fine=True)
        return [_found(told) for told in json.loads(said or "[]")]

    async def _cli(self, *arguments: str, both: bool = False, missing_is_fine: bool = False) -> str:
        return await self._run(
            [self._engine[1], *arguments], dict(os.environ), both=both, missing_is_fine=missing_is_fine
        )

    async def _run(
        self,
        line: list[str],
        environment: Mapping[str, str],
        *,
        seconds: float = _SECONDS,
        both: bool = False,
        missing_is_fine: bool = False,
    ) -> str:
        """What a command printed.

        Raises:
            Unavailable: If the engine does not answer.
            VolvoxError: If it refuses.
        """
        process = await asyncio.create_subprocess_exec(
            *line, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env=dict(environment),
            stderr=asyncio.subprocess.STDOUT if both else asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), seconds)
        except BaseException as error:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"{Path(line[0]).name} {line[1]} did not end within {seconds:g} s") from error
            raise
        said = (err or b"").decode(errors="replace").strip()
        if process.returncode and not (missing_is_fine and any(text in said for text in _GONE)):
            kind = Unavailable if any(text in said for text in _DOWN) or line[1] == "run" else VolvoxError
            raise kind(f"{Path(line[0]).name} {line[1]} failed: {said[-500:] or f'exit code {process.returncode}'}")
        return out.decode(errors="replace")


def orphaned(found: Found) -> bool:
    """Whether the dispatcher that made it is gone from this machine."""
    pid, _, started = found.labels.get(DISPATCHER, "").partition(":")
    return not pid.isdecimal() or str(process_started(int(pid))) != started


def _found(told: dict[str, Any]) -> Found:
    state = told["State"]
    bound = [
        int(one["HostPort"])
        for ports in ((told.get("NetworkSettings") or {}).get("Ports") or {}).values()
        for one in ports or ()
        if one.get("HostPort")
    ]
    return Found(
        id=told["Id"],
        labels=dict((told.get("Config") or {}).get("Labels") or {}),
        running=bool(state.get("Running")),
        exit_code=int(state.get("ExitCode") or 0),
        out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        port=bound[0] if bound else 0,
        pid=int(state.get("Pid") or 0),
    )
