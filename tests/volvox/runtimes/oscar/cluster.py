"""What a cluster of `server.py` holds: services, jobs, objects, and what tests say of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import threading
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from tests.volvox.runtimes.benches import processes_with
from tests.volvox.runtimes.oscar.containers import Container, Images, Replica
from volvox.runtimes.oscar_cluster import program
from volvox.runtimes.oscar_cluster.program import Given

T = TypeVar("T")


@dataclass
class Fault:
    """What happens to requests: a status, `drop` (the connection ends before anything is done), `lose` (it ends when
    all is done), or seconds that the answer takes longer.
    """

    request: str
    how: int | str | float
    times: int = 1


@dataclass(eq=False)
class Job:
    """One job of a service."""

    container: Container | None
    status: str = "Pending"
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    task: asyncio.Task[None] | None = None


@dataclass(eq=False)
class Service:
    """A service with all that is there of it."""

    body: dict[str, Any]
    jobs: dict[str, Job] = field(default_factory=dict)
    replicas: list[Replica] = field(default_factory=list)
    runs: set[Container] = field(default_factory=set)
    stopped: bool = False
    reason: str = ""
    said: str = ""
    crashes: int = 0
    next: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Cluster:
    """The cluster, in a thread of its own.

    Attributes:
        users: Administrators and their passwords.
        tokens: Good tokens of OpenID Connect.
        faults: What goes wrong next; each counts down.
        asked: Every request, `GET /system/info`.
        writes: Those that make, change or delete services, or start and stop them.
        config: What `/system/config` says beside what it must.
        quota: What `/system/quotas/user` says; None: there is no such route.
        suspended: Whether jobs get no pod.
        pending_seconds: How long a job waits for its pod.
        page: How many jobs a page of their list has.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.images = Images(folder)
        self.users = {"admin": "a password"}
        self.tokens = {"a-token-of-a-user"}
        self.faults: list[Fault] = []
        self.asked: list[str] = []
        self.writes: list[str] = []
        self.config: dict[str, Any] = {"serverless_backend": "knative"}
        self.quota: dict[str, Any] | None = None
        self.suspended = False
        self.pending_seconds = 0.0
        self.page = 70
        self.services: dict[str, Service] = {}
        self.buckets: set[str] = set()
        self._key = secrets.token_hex(16)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self.do(self._open())}"

    # -- for tests ---------------------------------------------------------------------------------------------------

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Something done in its thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        """End all that runs in it, and itself."""
        self.do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def body(self, name: str) -> dict[str, Any]:
        """A service as it is kept."""
        return self.services[name].body

    def jobs(self, name: str = "") -> dict[str, Job]:
        """The jobs of a service, or of all."""
        return {job: one for key, each in self.services.items() if name in ("", key) for job, one in each.jobs.items()}

    def objects(self) -> dict[str, int]:
        """Every object and how many bytes it has."""
        root = self.folder / "store"
        return {one.relative_to(root).as_posix(): one.stat().st_size for one in root.rglob("*") if one.is_file()}

    def left(self) -> list[str]:
        """What is there."""
        ours = {*processes_with(str(self.folder))} & {*processes_with("OSCAR_MARK=")}
        replicas = {r.container.mark for one in self.services.values() for r in one.replicas}
        kept = {pid for mark in replicas for pid in processes_with(mark)}
        found = [f"service {name}" for name in self.services] + [f"job {name}" for name in self.jobs()]
        found += [f"process {pid}" for pid in ours - kept]
        nothing = len(program.nothing(Given("", "none", 1, "")))  # what stands there instead of a file
        return found + [f"object {key}" for key, size in self.objects().items() if size > nothing]

    def lose_replicas(self, name: str) -> None:
        """The cluster ends the instances of a service, as with their node."""

        async def lost() -> None:
            for replica in self.services[name].replicas:
                await replica.container.end()

        self.do(lost())

    async def _open(self) -> int:
        """Take requests; the port that it does at."""
        raise NotImplementedError

    async def _close(self) -> None:
        """End all that there is."""
        raise NotImplementedError

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _admit(self, request: web.Request) -> None:
        """As an administrator by Basic, or as a user by a token."""
        kind, _, told = request.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(told).decode().partition(":")
            if self.users.get(user) == password:
                return
        if kind == "Bearer" and told in self.tokens:
            return
        raise web.HTTPUnauthorized(text="unauthorized")

    def _called(self, request: web.Request) -> tuple[str, Service]:
        """The service of a call; a bearer of 64 letters is a service's own token, any other one a user's."""
        name = request.match_info["service"]
        kind, _, told = request.headers.get("Authorization", "").partition(" ")
        if name not in self.services:
            raise web.HTTPNotFound()
        service = self.services[name]
        good = told == service.body["token"] if len(told) == 64 else told in self.tokens
        if kind != "Bearer" or not good:
            raise web.HTTPUnauthorized(text="unauthorized")
        return name, service

    def _found(
        self, request: web.Request, *, missing: type[web.HTTPException] = web.HTTPNotFound
    ) -> tuple[str, Service]:
        self._admit(request)
        name = request.match_info["service"]
        if name not in self.services:
            raise missing()
        return name, self.services[name]

    # -- containers --------------------------------------------------------------------------------------------------

    def _container(self, name: str, service: Service, given: dict[str, str], limit_mb: int) -> Container:
        folder = self.folder / "containers" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        (folder / "script.sh").write_text(service.body["script"])
        (folder / "config.json").write_text(json.dumps(service.body))
        environment = {
            **self.images.environment(service.body["image"]),
            **(service.body.get("environment", {}).get("variables") or {}),
            "OSCAR_SERVICE_NAME": name, "OSCAR_SERVICE_TOKEN": service.body["token"],
            "OSCAR_SCRIPT": str(folder / "script.sh"), "OSCAR_CONFIG": str(folder / "config.json"),
            "OSCAR_STORE": f"{self.endpoint}/minio", "OSCAR_STORE_KEY": self._key, **given,
        }  # fmt: skip
        return Container(folder, environment, limit_mb)

    def _spawn(self, service: Service, work: Coroutine[Any, Any, None]) -> None:
        self._spawn_any(service, asyncio.create_task(work))

    def _spawn_any(self, service: Service, task: Any) -> None:
        service.tasks.add(task)
        task.add_done_callback(service.tasks.discard)


async def ended_job(job: Job) -> None:
    if job.task:
        job.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job.task
    if job.container:
        await job.container.end()


async def ended_in_time(container: Container) -> None:
    """Politely, as a pod is ended."""
    if container.process is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(container.process.wait(), 10)
    await container.end()


def shown(body: dict[str, Any]) -> dict[str, Any]:
    """As it is answered: secrets are blanked."""
    environment = body.get("environment") or {}
    hidden = dict.fromkeys(environment.get("secrets") or {}, "")
    return {**body, "environment": {**environment, **({"secrets": hidden} if hidden else {})}}


def buckets_of(body: dict[str, Any]) -> set[str]:
    paths = [one["path"].strip(" /") for key in ("input", "output") for one in body.get(key) or ()]
    return {path.partition("/")[0] if "/" in path else body["name"] for path in paths}


async def answer(text: str) -> web.Response:
    return web.Response(text=text)
