"""How the process of a worker comes to be: started anew here; `volvox.runtimes.zygotes` forks one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from volvox.modules import interpreter


class Process(Protocol):
    """A child process, or one that answers like one."""

    @property
    def pid(self) -> int:
        """Its number, which is that of its group too."""
        ...

    @property
    def returncode(self) -> int | None:
        """How it ended: an exit code, or a signal's number, negative; None while it runs."""
        ...

    def send_signal(self, signal: int) -> None:
        """Send it a signal; ProcessLookupError if it has ended."""
        ...

    async def wait(self) -> int:
        """Wait for its end."""
        ...


@dataclass(frozen=True)
class Spawned:
    """What a worker's process is to be.

    Attributes:
        python: The interpreter; empty: this one.
        arguments: Of `volvox.worker.loop`, without its descriptors and its parent.
        environment: Variables beside those of this process.
        log: File that gets what it prints.
        socket: Descriptor of its end of the connection.
        page: Descriptor of the memory that it shares with the server.
        parent: This process.
    """

    python: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    socket: int
    page: int
    parent: int


Spawn = Callable[[Spawned], Awaitable[Process]]


async def start(asked: Spawned) -> Process:
    """A process of its own, in a session of its own."""
    with asked.log.open("ab") as stream:
        return await asyncio.create_subprocess_exec(
            *interpreter.command(asked.python, "loop"), *asked.arguments,
            "--socket", str(asked.socket), "--control", str(asked.page), "--parent", str(asked.parent),
            stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream, pass_fds=[asked.socket, asked.page],
            env={**interpreter.environment(asked.python), "PYTHONUNBUFFERED": "1", **asked.environment},
            start_new_session=True,
        )  # fmt: skip
