"""A real server in a process of its own, on a home of its own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.volvox.serving.modules import write_modules, write_weights
from volvox.identity import process_started

TOKEN = "a-secret-of-this-test"


class RunningServer:
    """Starts `python -m volvox.serving`, deploys module `tiny` to it, asks it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.site = write_modules(folder / "site")
        stack = self.home / "stack"
        stack.mkdir(parents=True)
        (stack / "token").write_text(TOKEN)
        (stack / "token").chmod(0o600)
        self.image = folder / "held-out.png"
        self.image.write_bytes(b"12345")
        self.environment = {**os.environ, "VOLVOX_HOME": str(self.home), "PYTHONPATH": str(self.site)}
        self.process: subprocess.Popen[str] | None = None
        self.command = [sys.executable, "-m", "volvox.serving", "--home", str(self.home), "--port", "0"]

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env=self.environment, stdout=subprocess.PIPE, stderr=(self.folder / "errors").open("a"), text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, (self.folder / "errors").read_text()
        self.url = found.group()
        self.client = httpx.Client(base_url=self.url, timeout=30)
        self.admin = httpx.Client(base_url=self.url, timeout=60, headers={"Authorization": f"Bearer {TOKEN}"})
        assert self.client.get("/health/live").status_code == 200

    def until_ready(self) -> dict[str, Any]:
        """Wait until no model is on its way any more; what the server says of them."""
        end = time.monotonic() + 30
        while (answer := self.client.get("/health/ready")).json()["starting"]:
            assert time.monotonic() < end, answer.text
            time.sleep(0.05)
        return answer.json()

    def deploy(self, version: str, *, name: str = "tiny", module: str = "tiny", **weights: str) -> httpx.Response:
        folder = self.folder / "weights" / f"{name}-{version}"
        if not folder.exists():
            write_weights(folder, version, **weights)
        return self.admin.put(
            f"/admin/models/{name}",
            json={
                "version": version,
                "model_version": digest(name, version),
                "module": module,
                "weights": str(folder),
                "smoke": [str(self.image)],
                "samples": [str(self.image)],
                "labels": ["large", "small"],
            },
        )

    def ask(self, name: str = "tiny", **data: Any) -> httpx.Response:
        files = {"image": ("a flower.png", b"123456", "image/png")}
        return self.client.post(f"/v2/models/{name}/predict/", files=files, data=data)

    def uploads(self) -> list[Path]:
        return list((self.home / "serving" / ".uploads").iterdir())

    def versions(self, name: str = "tiny") -> list[str]:
        folder = self.home / "serving" / name
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def children(self) -> list[int]:
        assert self.process
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        code = self.process.wait(40)
        self.process.stdout.close()
        return code


def digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether process `pid` is gone within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def serving(home: Path) -> Iterator[str]:
    """A server of `home`, with the modules that this process finds, recorded as the stack records it; its address."""
    from volvox.settings import Home
    from volvox.stack import state

    state.token(Home(home))
    process = subprocess.Popen(
        [sys.executable, "-m", "volvox.serving", "--home", str(home), "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        url = re.search(r"http://\S+", process.stdout.readline()).group()
        started = process_started(process.pid)
        state.write(Home(home), state.State(name="web", pid=process.pid, started=started, url=url))
        yield url
    finally:
        process.terminate()
        process.wait(40)
        process.stdout.close()
