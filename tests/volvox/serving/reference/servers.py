"""DEEPaaS 2.6.0 and our server, each in a process of its own, with the same module and options."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.environments import environment

REQUIREMENTS = (
    "deepaas==2.6.0", "marshmallow==3.26.2", "webargs==5.5.3", "aiohttp==3.14.5", "aiohttp-apispec==2.2.3",
    "apispec==3.3.2", "stevedore==3.5.2", "oslo.config==8.8.1", "oslo.log==4.8.0", "setuptools<81",
)  # fmt: skip
Kind = tuple[str, str, tuple[str, ...]]  # which server, module, options


def deepaas_python() -> Path:
    """The interpreter that has DEEPaaS; skips where it cannot be installed."""
    return environment("deepaas", *REQUIREMENTS)


@dataclass
class Servers:
    """Servers that are started when they are first asked for, and ended together."""

    site: Path
    folder: Path
    deepaas: Path
    running: dict[Kind, tuple[subprocess.Popen[bytes], str]] = field(default_factory=dict)

    def url(self, server: str, module: str, flags: tuple[str, ...]) -> str:
        """The address of the running `server` ("reference" or "ours") of `module`."""
        kind = (server, module, flags)
        if kind not in self.running:
            self.running[kind] = self.start(server, module, flags)
        return self.running[kind][1]

    @contextlib.contextmanager
    def alone(self, server: str, module: str, flags: tuple[str, ...]) -> Iterator[str]:
        """The address of one that nobody else asks; it is ended at once."""
        process, url = self.start(server, module, flags)
        try:
            yield url
        finally:
            _end(process)

    def start(self, server: str, module: str, flags: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], str]:
        """Start one and wait until it answers.

        Raises:
            RuntimeError: With what it wrote, if it ends instead.
        """
        port = _free_port()
        process, log = self.begin(server, module, ("--listen-port", str(port), *flags))
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 60
        while True:
            if process.poll() is not None or time.monotonic() > end:
                _end(process)
                raise RuntimeError(f"{server} of {module} {' '.join(flags)} does not start: {log.read_text()[-2000:]}")
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/v2/models/", timeout=5)  # whatever it answers
                if server == "ours" and httpx.get(f"{url}/health/ready", timeout=5).status_code == 503:
                    time.sleep(0.05)
                    continue
                return process, url
            time.sleep(0.05)

    def begin(self, server: str, module: str, options: tuple[str, ...]) -> tuple[subprocess.Popen[bytes], Path]:
        """Start one; its process and the file with what it writes."""
        bin_ = self.deepaas.parent
        command = {
            "reference": [bin_ / "python", bin_ / "deepaas-run", "--model-name", module],
            "ours": [Path(sys.executable).parent / "volvox", "serve", "--module", module],
        }[server]
        log = self.folder / f"{server}-{module}-{len(list(self.folder.iterdir()))}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *options], stdout=stream, stderr=stream, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(self.site), "TMPDIR": str(self.folder)},
            )  # fmt: skip
        return process, log

    def end(self) -> None:
        """End them all."""
        _end(*(process for process, _ in self.running.values()))


def _end(*processes: subprocess.Popen[bytes]) -> None:
    """End them together: the reference takes its time, since connections to it are still open."""
    for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        ends = time.monotonic() + (patience or 0.0)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(None if patience is None else max(0.0, ends - time.monotonic()))


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
