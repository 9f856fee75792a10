"""Every runtime as the suite sees it: how it is made, what it is given, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.volvox.runtimes.tiny import TinyModels
from volvox.functions.definition import Function
from volvox.identity import process_started
from volvox.infrastructure.cluster import Cluster
from volvox.records import Image
from volvox.runtimes import Call, Outcome, Runtime, Status
from volvox.runtimes.docker import DockerRuntime
from volvox.runtimes.kubernetes import KubernetesRuntime, Place
from volvox.runtimes.local import LocalRuntime
from volvox.runtimes.oscar import OscarRuntime
from volvox.runtimes.oscar_cluster.client import OscarCluster
from volvox.runtimes.pods import manifests

# An account or cluster that several use has no two of one name; processes that a test starts have that of the test.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
NAME = f"suite-function-{os.environ.setdefault('VOLVOX_TESTS_SUITE', str(os.getpid()))}{_WORKER}"
SHARED = f"{NAME}-shared"


class Bench:
    """One runtime with an own folder; a class below says what is particular to one.

    Attributes:
        name: The runtime's.
        patience: How many seconds it may take until something that ends has ended.
        soon: How many seconds a call may take beside its own time, an instance's start included.
        pace: Seconds between two calls of a steady load.
        keeps: Whether instances stay when they have answered; else each is there for one invocation.
        together: Whether one instance answers calls that come together.
        grows: Whether another instance of a model is started when calls wait, whatever they use.
        live_log: Whether what a call prints is in its log while it runs.
        ends_when_told: Whether an instance that `scale` sends away is gone: Lambda ends them when it likes.
    """

    name = ""
    patience = soon = 10.0
    pace = 0.1
    keeps = together = grows = True
    live_log = True
    ends_when_told = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = TinyModels(folder / "models")
        self.runtime = self.made()
        self._calls = 0

    def made(self) -> Runtime:
        """The runtime; a second one goes on where the first one was, as after a kill of the dispatcher."""
        raise NotImplementedError

    async def left(self) -> list[str]:
        """What its engine still has of the suite's function."""
        raise NotImplementedError

    async def at_work(self) -> list[str]:
        """What still runs of calls that were answered."""
        return await self.left()

    async def close(self) -> None:
        """Leave nothing."""
        await self.runtime.remove(NAME)
        await self.runtime.close()

    # -- what the tests say ------------------------------------------------------------------------------------------

    def function(self, version: str = "1", **more: Any) -> Function:
        """A function of version `version` of the tiny model."""
        return Function(**{"name": NAME, "model": f"tiny/{version}", "runtime": self.name, **more})

    def script(self, text: str, **more: Any) -> Function:
        """A function of a script."""
        return Function(
            **{"name": NAME, "image": self.image, "script": text, "runtime": self.name, **self.as_script, **more}
        )

    def limit(self, seconds: float) -> str:
        """How a call that may take so many seconds is told to have taken longer."""
        return f"{seconds:g} s"

    image = "unused"
    as_script: dict[str, Any] = {}

    async def deploy(self, function: Function) -> None:
        await self.runtime.deploy(function, version=function.version)

    def call(self, text: str = "fine", name: str = "", **more: Any) -> Call:
        """A call with a file of this text."""
        self._calls += 1
        folder = self.folder / f"call-{self._calls}"
        (folder / "output").mkdir(parents=True)
        name = name or f"file-{self._calls}.txt"
        (folder / "input").write_text(text)
        told = {"key": f"in/{name}", "relative": name, "timeout_seconds": 30.0, **more}
        return Call(f"{self._calls:032x}", folder / "input", folder / "output", folder / "log", **told)

    async def invoke(self, *calls: Call) -> list[Outcome]:
        return await self.runtime.invoke(NAME, calls)

    async def ask(self, text: str = "fine", **more: Any) -> Outcome:
        """What becomes of one call."""
        return (await self.invoke(self.call(text, **more)))[0]

    async def status(self) -> Status:
        return await self.runtime.status(NAME)

    async def until(self, true: Callable[[Status], bool], seconds: float = 0.0) -> Status:
        """Wait until the status is so."""
        deadline = time.monotonic() + (seconds or self.patience)
        while True:
            status = await self.status()
            if true(status):
                return status
            assert time.monotonic() < deadline, f"still {status}"
            await asyncio.sleep(0.05)


def outputs(call: Call) -> dict[str, str]:
    """What was written, by its path."""
    assert call.output is not None
    found = sorted(path for path in call.output.rglob("*") if path.is_file())
    return {path.relative_to(call.output).as_posix(): path.read_text(errors="replace") for path in found}


class Local(Bench):
    """Processes of this machine."""

    name = "local"
    as_script = {"settings": {"as_process": True}}

    def made(self) -> Runtime:
        return LocalRuntime(self.folder / "runtime", self.models)

    async def left(self) -> list[str]:
        return [f"process {pid}" for pid in await asyncio.to_thread(processes_with, str(self.folder))]


class Docker(Bench):
    """Containers of the engine of VOLVOX_ENGINES."""

    name = "docker"
    patience = 30.0
    image = "python:3.11-slim"

    def made(self) -> Runtime:
        self.image = os.environ.get("ENGINE_BASE_IMAGE") or self.image
        return DockerRuntime(self.folder / "runtime", self.models, engine="docker")

    async def left(self) -> list[str]:
        runtime = self.runtime
        assert isinstance(runtime, DockerRuntime)
        return [f"container {one.id[:12]}" for one in await runtime.engine.all()]


class Kubernetes(Bench):
    """Pods of the one-node cluster of VOLVOX_ENGINES, whose node has the images of its Docker engine."""

    name = "kubernetes"
    patience = 60.0
    image = "python:3.11-slim"

    def made(self) -> Runtime:
        self.image = os.environ.get("ENGINE_BASE_IMAGE") or self.image
        return KubernetesRuntime(self.folder / "runtime", self.models)

    def function(self, version: str = "1", **more: Any) -> Function:
        return super().function(version, **{"settings": {"pull_policy": "Never"}, **more})

    async def left(self) -> list[str]:
        """What does not go by itself in a while: pods end politely, and nobody waits for that."""
        runtime = self.runtime
        assert isinstance(runtime, KubernetesRuntime)
        deadline = time.monotonic() + self.patience
        while True:
            found = await self._there(runtime)
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        """As `Bench.close`; pods that were told to end go at once: the kubelet takes seconds to say that they have."""
        hurrying = asyncio.create_task(self._hurry())
        try:
            await super().close()
        finally:
            hurrying.cancel()
            await asyncio.wait([hurrying])

    async def _hurry(self) -> None:
        assert isinstance(self.runtime, KubernetesRuntime)
        pods, cluster = Place("", "", "default").path("pods"), Cluster()
        query = manifests.selector(self.runtime.owner)
        try:
            while True:
                for pod in await cluster.items(pods, query):
                    if "deletionTimestamp" in pod["metadata"]:
                        await cluster.delete(f"{pods}/{pod['metadata']['name']}", grace_seconds=0)
                await asyncio.sleep(0.2)
        finally:
            await cluster.close()

    async def _there(self, runtime: KubernetesRuntime) -> list[str]:
        place = Place("", "", "default")
        cluster, query = Cluster(), manifests.selector(runtime.owner)
        try:
            return [
                f"{kind} {one['metadata']['name']}"
                for kind in ("deployments", "services", "jobs", "pods")
                for one in await cluster.items(place.path(kind), query)
            ]
        finally:
            await cluster.close()


class Oscar(Bench):
    """Services of a cluster of our own that follows OSCAR's routes, whose containers are processes of this machine."""

    name = "oscar"
    patience = 30.0
    image = "python:3.11-slim"
    as_script = {"settings": {"calls": "job"}}  # what is waited for on one connection shows no log meanwhile
    grows = False

    def __init__(self, folder: Path) -> None:
        from tests.volvox.runtimes.oscar.server import OscarServer

        self.server = OscarServer(folder / "cluster")
        self._closed: list[str] | None = None
        os.environ |= {
            "VOLVOX_OSCAR_ENDPOINT": self.server.endpoint,
            "VOLVOX_OSCAR_USER": "admin",
            "VOLVOX_OSCAR_PASSWORD": "a password",
        }
        super().__init__(folder)
        for version in ("1", "2", "broken"):
            pushed = f"registry/tiny@sha256:{version}"
            self.models.images[version] = Image(
                name=f"tiny:{version}", version="", context_object="", built=True, pushed=pushed
            )
            self.server.images.weights[pushed] = Path(self.models.resolve(f"tiny/{version}").weights)

    def made(self) -> Runtime:
        return OscarRuntime(self.folder / "runtime", self.models, opened=lambda which: OscarCluster(which, pause=0.02))

    async def left(self) -> list[str]:
        return await asyncio.to_thread(self.server.left) if self._closed is None else self._closed

    async def at_work(self) -> list[str]:
        return [one for one in await self.left() if not one.startswith("service ")]

    async def asked(self, method: str, path: str, **more: Any) -> httpx.Response:
        """What the cluster answers somebody else who is its administrator."""
        async with httpx.AsyncClient(trust_env=False, auth=("admin", "a password")) as http:
            return await http.request(method, self.server.endpoint + path, **more)

    async def server_removed(self, service: str) -> None:
        """Somebody else deletes a service."""
        assert (await self.asked("DELETE", f"/system/services/{service}")).status_code == 204

    async def close(self) -> None:
        self.server.faults.clear()
        self.server.users = {"admin": "a password"}
        os.environ["VOLVOX_OSCAR_PASSWORD"] = "a password"
        await super().close()
        self._closed = await asyncio.to_thread(self.server.left)
        await asyncio.to_thread(self.server.close)


def processes_with(text: str) -> list[int]:
    """Processes whose command or environment names `text`, this one left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid() or process_started(int(entry.name)) is None:
            continue
        try:
            told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in told:
            found.append(int(entry.name))
    return found
