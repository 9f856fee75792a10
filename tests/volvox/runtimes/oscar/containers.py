"""What runs in the cluster of `server.py`: processes of this machine in the place of containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.volvox.runtimes.benches import processes_with
from volvox.identity import process_started

SUPERVISOR = Path(__file__).with_name("supervisor.py")
_SHIM = """#!{python}
import os, sys
arguments = sys.argv[1:]
for name, value in (("--listen-port", os.environ.get("OSCAR_PORT", "0")), ("--listen-ip", "127.0.0.1")):
    if name in arguments:
        arguments[arguments.index(name) + 1] = value
os.execv({python!r}, [{python!r}, "-m", "volvox", *arguments])
"""
_PREDICT = "#!{python}\nfrom volvox.deepaas.predict import main\nmain()\n"
_LOOK_SECONDS = 0.1


class Images:
    """What the programs of images are here.

    Attributes:
        weights: Serving image -> the weights that are in it.
        module: The module that is in all of them.
        before: Image -> a folder with programs that take the place of this machine's.
    """

    def __init__(self, folder: Path) -> None:
        self.weights: dict[str, Path] = {}
        self.module = "tiny-function"
        self.before: dict[str, str] = {}
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        for name, text in (("volvox", _SHIM), ("deepaas-predict", _PREDICT)):
            (self._bin / name).write_text(text.format(python=sys.executable))
            (self._bin / name).chmod(0o755)

    def environment(self, image: str) -> dict[str, str]:
        """What programs of the image find."""
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL") if name in os.environ}
        kept["HOME"] = "/tmp"
        if image in self.before:
            kept["PATH"] = f"{self.before[image]}:{kept['PATH']}"
        if image in self.weights:
            kept["PATH"] = f"{self._bin}:{kept['PATH']}"
            kept |= {"VOLVOX_WEIGHTS": str(self.weights[image]), "DEEPAAS_V2_MODEL": self.module}
        return kept


@dataclass(eq=False)
class Container:
    """Processes that have one mark in their environment.

    Attributes:
        folder: Where its script, configuration and log are.
        limit_mb: Memory that it may use; one process of it is killed beyond that, or `whole`, all of it.
        whole: As the kernel does with a cgroup that is to end as one.
    """

    folder: Path
    environment: dict[str, str]
    limit_mb: int = 0
    whole: bool = False
    mark: str = field(default_factory=lambda: f"oscar-container-{uuid.uuid4().hex}")
    process: asyncio.subprocess.Process | None = None
    killed: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    async def begin(self, *command: str, given: int = asyncio.subprocess.DEVNULL, answer: bool = False) -> None:
        """Start it; what it prints goes to its log, or is kept for `answered`."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=given, stdout=asyncio.subprocess.PIPE if answer else log, stderr=log,
                env={**self.environment, "OSCAR_MARK": self.mark}, start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        if self.limit_mb:
            task = asyncio.create_task(self._watch())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def processes(self) -> list[int]:
        return processes_with(f"OSCAR_MARK={self.mark}")

    async def end(self) -> None:
        """Nothing of it is left."""
        for task in [*self._tasks]:
            task.cancel()
        while left := await asyncio.to_thread(self.processes):
            _kill(left)
            await asyncio.sleep(0.02)
        if self.process is not None:
            await self.process.wait()

    def ask_to_end(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            used = {pid: _memory_mb(pid) for pid in await asyncio.to_thread(self.processes)}
            if sum(used.values()) > self.limit_mb:
                self.killed = True
                _kill([*used] if self.whole else [max(used, key=lambda pid: used[pid])])


@dataclass(eq=False)
class Replica:
    """One exposed instance."""

    container: Container
    port: int
    ready: bool = False

    async def watch(self) -> None:
        """Until it ends."""
        process = self.container.process
        assert process is not None
        async with httpx.AsyncClient(trust_env=False) as http:
            while process.returncode is None:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await http.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=2)
                    self.ready = answer.status_code == 200
                try:
                    await asyncio.wait_for(asyncio.shield(process.wait()), 0.1 if not self.ready else 0.5)
                except TimeoutError:
                    continue
        self.ready = False


def _kill(pids: list[int]) -> None:
    for pid in pids:
        if process_started(pid) is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _memory_mb(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / (1 << 20)
    except (OSError, ValueError, IndexError):
        return 0.0
