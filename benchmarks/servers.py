"""Server processes of a benchmark: started on given cores, measured from outside, paused, and ended for certain.

Every process that a server starts is found by a variable in its environment, so neither sessions nor daemons hide it.
A guard - a process that waits for this one to end - kills what is left, however this one ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_VARIABLE = "BENCHMARK_SERVER"
_TICKS = os.sysconf("SC_CLK_TCK")
_GUARD = "import sys; from benchmarks.servers import kill; sys.stdin.read(); kill(sys.argv[1])"
START_SECONDS = 180.0
_SIGN_OF_LIFE_SECONDS = 0.05


class NotStarted(Exception):
    """A server does not answer; the message ends with what it printed."""


@dataclass
class Memory:
    """What one process holds, in bytes; `pss` shares what is shared."""

    rss: int
    pss: int


@dataclass
class Server:
    """One running server.

    Attributes:
        process: The process that was started; it may have started others.
        port: Where it listens.
        mark: What its processes carry in their environment.
        log: What they print.
    """

    process: subprocess.Popen[bytes]
    port: int
    mark: str
    log: Path

    def pids(self) -> list[int]:
        """All its processes, the first one first."""
        return sorted(marked(self.mark), key=lambda pid: (pid != self.process.pid, pid))

    def cpu_seconds(self) -> float:
        """Processor seconds that its living processes have used, user and system."""
        used = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                used += int(words[11]) + int(words[12])
        return used / _TICKS

    def memory(self) -> list[Memory]:
        """Of each of its processes, the first one first."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines[1:]}
                found.append(Memory(sizes["Rss"], sizes["Pss"]))
        return found

    def sleep(self) -> None:
        """Stop all its processes: parents first, so that none waits for a child's sign of life and then replaces it."""
        for pid in sorted(self.pids()):
            _send(pid, signal.SIGSTOP)
            time.sleep(_SIGN_OF_LIFE_SECONDS)

    def wake(self) -> None:
        """Let them go on: children first."""
        for pid in sorted(self.pids(), reverse=True):
            _send(pid, signal.SIGCONT)

    def end(self) -> None:
        """End it, and wait until it is gone."""
        self.wake()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(8)
        kill(self.mark)
        self.process.wait()


@dataclass
class Machine:
    """Starts servers, and ends those that still run when its block ends.

    Attributes:
        folder: For logs and uploads.
    """

    folder: Path
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    servers: list[Server] = field(default_factory=list)

    def start(
        self, name: str, command: Callable[[int], Sequence[str]], environment: dict[str, str], cores: set[int],
        answers: Callable[[int], bool],
    ) -> Server:  # fmt: skip
        """Start a server on `cores` and wait until it answers.

        Args:
            name: For its log.
            command: The command line for a port.
            environment: Variables beside those of this process; TMPDIR is a folder of this run.
            cores: Processors that it may use.
            answers: Whether the server at a port answers as it should.

        Raises:
            NotStarted: If it does not answer within `START_SECONDS`.
        """
        port, mark = free_port(), f"{self.run}-{len(self.servers)}"
        log = self.folder / f"{name}-{len(self.servers)}.log"
        temporary = self.folder / f"tmp-{len(self.servers)}"
        temporary.mkdir()
        variables = {**os.environ, "TMPDIR": str(temporary), **environment, _VARIABLE: mark}
        pinned = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command(port)]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                pinned, env=variables, cwd=temporary, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True,
            )  # fmt: skip
        server = Server(process, port, mark, log)
        self.servers.append(server)
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends and process.poll() is None:
            with contextlib.suppress(OSError):
                if answers(port):
                    return server
            time.sleep(0.1)
        self.end(server)
        raise NotStarted(f"{name} does not answer:\n{log.read_text(errors='replace')[-2000:]}")

    def end(self, server: Server) -> None:
        """End one server."""
        server.end()

    def end_all(self) -> None:
        """End all of them."""
        for server in self.servers:
            if server.process.returncode is None:
                server.end()


@contextlib.contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """A machine whose servers are gone when the block ends, or this process does."""
    made = Machine(folder)
    guard = subprocess.Popen(
        [sys.executable, "-c", _GUARD, made.run], stdin=subprocess.PIPE, start_new_session=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        yield made
    finally:
        made.end_all()
        assert guard.stdin
        guard.stdin.close()
        guard.wait()


def marked(mark: str) -> list[int]:
    """Processes of this user whose mark begins with `mark`."""
    wanted, found = f"{_VARIABLE}={mark}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                variables = (folder / "environ").read_bytes().split(b"\0")
                if any(_begins(variable, wanted) for variable in variables):
                    found.append(int(folder.name))
    return found


def _begins(variable: bytes, wanted: bytes) -> bool:
    """Whether it is the mark of this run or server: server 1 has no part in server 11."""
    return variable == wanted or variable.startswith(wanted + b"-")


def kill(mark: str) -> None:
    """Kill the processes of `mark` until there are none."""
    for _ in range(50):
        pids = marked(mark)
        for pid in pids:
            _send(pid, signal.SIGKILL)
        if not pids:
            return
        time.sleep(0.02)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def free_port() -> int:
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
