"""An OSCAR cluster: its routes, codes and bodies, with services whose scripts really run, as processes of this machine.

Services, jobs and objects are kept in memory and in a folder. It does what a real one does beside that: a service gets
another token whenever it is changed, a job's name is told to nobody, an exposed service is changed by new instances that
take the place of the old ones, and a service that is deleted takes its buckets with it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import secrets
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import aiohttp
from aiohttp import web

from tests.volvox.runtimes.benches import processes_with
from tests.volvox.runtimes.oscar.containers import SUPERVISOR, Container, Images, Replica
from volvox.functions import quantities

T = TypeVar("T")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,37}[a-z0-9])?")
_KEPT = ("name", "image", "script")


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


class OscarServer:
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
        self.tokens = {"a token of a user"}
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
        return found + [f"object {key}" for key, size in self.objects().items() if size]

    def lose_replicas(self, name: str) -> None:
        """The cluster ends the instances of a service, as with their node."""

        async def lost() -> None:
            for replica in self.services[name].replicas:
                await replica.container.end()

        self.do(lost())

    # -- life --------------------------------------------------------------------------------------------------------

    async def _open(self) -> int:
        app = web.Application(client_max_size=1 << 30, middlewares=[self._faulty])
        routes = app.router
        routes.add_get("/health", lambda _: _answer("Ok"))
        for path, found in (("info", self._info), ("config", self._config), ("quotas/user", self._quota)):
            routes.add_get(f"/system/{path}", found)
            routes.add_get(f"/system/{path}/", found)
        routes.add_get("/system/services", self._list)
        routes.add_post("/system/services", self._create)
        routes.add_put("/system/services", self._update)
        routes.add_get("/system/services/{service}", self._one)
        routes.add_delete("/system/services/{service}", self._delete)
        routes.add_get("/system/services/{service}/deployment", self._deployment)
        routes.add_get("/system/services/{service}/deployment/logs", self._deployment_logs)
        routes.add_post("/system/services/{service}/{how:stop|start|restart}", self._switched)
        routes.add_route("*", "/system/services/{service}/exposed{rest:.*}", self._exposed)
        routes.add_get("/system/logs/{service}", self._logs)
        routes.add_delete("/system/logs/{service}", self._delete_logs)
        routes.add_get("/system/logs/{service}/{job}", self._log)
        routes.add_delete("/system/logs/{service}/{job}", self._delete_log)
        routes.add_post("/system/buckets/{bucket}/presign", self._presign)
        routes.add_post("/job/{service}", self._job)
        routes.add_post("/run/{service}", self._run)
        routes.add_route("*", "/minio/{bucket}/{key:.*}", self._object)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)
        return self._runner.addresses[0][1]

    async def _close(self) -> None:
        for name in [*self.services]:
            await self._removed(name)
        await self._http.close()
        await self._runner.cleanup()

    @web.middleware
    async def _faulty(self, request: web.Request, handler: Any) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.asked.append(line)
        fault = next((one for one in self.faults if one.times > 0 and re.search(one.request, line)), None)
        if fault is None:
            return await handler(request)
        fault.times -= 1
        if isinstance(fault.how, float):
            await asyncio.sleep(fault.how)
            return await handler(request)
        if isinstance(fault.how, int):
            return web.Response(status=fault.how, text="it is broken")
        if fault.how == "lose":
            await handler(request)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

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

    # -- what it says of itself --------------------------------------------------------------------------------------

    async def _info(self, request: web.Request) -> web.Response:
        self._admit(request)
        backend = {"name": "Knative", "version": "v1.17.0"}
        told = {"version": "v3.6.1", "git_commit": "c", "architecture": "amd64", "kubernetes_version": "v1.31.2"}
        return web.json_response({**told, "serverless_backend": backend})

    async def _config(self, request: web.Request) -> web.Response:
        self._admit(request)
        config = {"name": "oscar", "namespace": "oscar", "services_namespace": "oscar-svc", "gpu_available": False}
        minio = {
            "endpoint": self.endpoint,
            "verify": True,
            "access_key": "minio",
            "secret_key": "k",
            "region": "us-east-1",
        }
        allowed = self.config.get("allowed_image_repositories", [])
        told = {"config": {**config, **self.config}, "minio_provider": minio, "allowed_image_repositories": allowed}
        return web.json_response(told)

    async def _quota(self, request: web.Request) -> web.Response:
        self._admit(request)
        if self.quota is None:
            raise web.HTTPNotFound()
        return web.json_response(self.quota)

    # -- services ----------------------------------------------------------------------------------------------------

    async def _list(self, request: web.Request) -> web.Response:
        self._admit(request)
        return web.json_response([_shown(one.body) for one in self.services.values()])

    async def _one(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self._found(request)[1].body))

    async def _create(self, request: web.Request) -> web.Response:
        self._admit(request)
        body = await request.json()
        self.writes.append(f"POST {body.get('name')}")
        self._judge(body)
        if body["name"] in self.services:
            raise web.HTTPBadRequest(text="A service with the provided name already exists")
        service = self.services[body["name"]] = Service(self._kept(body))
        self.buckets |= _buckets(service.body)
        if body.get("expose"):
            self._agree(body["name"], service)
        return web.Response(status=201)

    async def _update(self, request: web.Request) -> web.Response:
        self._admit(request)
        body = await request.json()
        self.writes.append(f"PUT {body.get('name')}")
        self._judge(body)
        if body["name"] not in self.services:
            raise web.HTTPNotFound()
        service = self.services[body["name"]]
        service.body = self._kept(body)
        self.buckets |= _buckets(service.body)
        if body.get("expose") and not service.stopped:
            self._agree(body["name"], service)
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        name, _ = self._found(request)
        self.writes.append(f"DELETE {name}")
        await self._removed(name)
        return web.Response(status=204)

    async def _removed(self, name: str) -> None:
        service = self.services.pop(name)
        for task in [*service.tasks]:
            task.cancel()
        for job in service.jobs.values():
            if job.task:
                job.task.cancel()
        containers = [
            *service.runs,
            *(one.container for one in service.jobs.values()),
            *(r.container for r in service.replicas),
        ]
        for container in filter(None, containers):
            await container.end()
        for bucket in _buckets(service.body):
            self.buckets.discard(bucket)
            await asyncio.to_thread(shutil.rmtree, self.folder / "store" / bucket, ignore_errors=True)

    def _judge(self, body: dict[str, Any]) -> None:
        if not all(isinstance(body.get(key), str) and body[key] for key in _KEPT):
            raise web.HTTPBadRequest(text="The service specification is not valid")
        if not _NAME.fullmatch(body["name"]):
            raise web.HTTPBadRequest(text="The service name is not valid")
        if body.get("vo") and body["vo"] not in self.config.get("oidc_groups", []):
            raise web.HTTPBadRequest(text=f"The VO {body['vo']} is not supported")
        for key in ("memory", "cpu"):
            try:
                quantities.amount(str(body.get(key) or "1"))
            except ValueError:
                raise web.HTTPBadRequest(text=f"{key} is no quantity") from None

    def _kept(self, body: dict[str, Any]) -> dict[str, Any]:
        """With defaults that nobody stated, another token, and without what is never kept."""
        never = ("endpoint", "auth_user", "auth_password", "ssl_verify", "cluster_id", "token")
        told = {key: value for key, value in body.items() if key not in never}
        name = told["name"]
        labels = {
            **(told.get("labels") or {}),
            "oscar_service": name,
            "applicationId": name,
            "owner_name": "cluster_admin",
        }
        default = {"memory": "256Mi", "cpu": "0.2", "log_level": "INFO", "visibility": "private", "environment": {}}
        return {
            **default, **told, "script": told["script"].replace("\r\n", "\n"), "labels": labels,
            "token": secrets.token_hex(32), "owner": "cluster_admin", "namespace": "oscar-svc",
            "bucket_list": sorted(_buckets(told)),
            "storage_providers": {"minio": {"default": {"endpoint": self.endpoint, "access_key": "hidden"}}},
        }  # fmt: skip

    # -- exposed services --------------------------------------------------------------------------------------------

    def _agree(self, name: str, service: Service) -> None:
        """Begin as many instances as there are to be; when they are ready, those before end."""
        service.stopped, service.crashes, service.reason = False, 0, ""
        for task in [*service.tasks]:
            task.cancel()
        before, service.replicas = service.replicas, []
        for _ in range(int(service.body["expose"].get("min_scale", 1))):
            self._spawn(service, self._kept_alive(name, service))
        if before:
            self._spawn(service, self._replaced(service, before))

    async def _replaced(self, service: Service, before: list[Replica]) -> None:
        service.replicas = [*before]
        wanted = int(service.body["expose"].get("min_scale", 1))
        try:
            while sum(one.ready for one in service.replicas if one not in before) < wanted:
                await asyncio.sleep(0.05)
        finally:
            service.replicas = [one for one in service.replicas if one not in before]
            for one in before:
                one.container.ask_to_end()
            ending = asyncio.gather(*(_ended_in_time(one.container) for one in before))
            await asyncio.shield(ending)

    async def _kept_alive(self, name: str, service: Service) -> None:
        while True:
            replica = await self._begun(name, service)
            service.replicas.append(replica)
            began, was_ready = time.monotonic(), False
            watching = asyncio.ensure_future(replica.watch())
            try:
                while not watching.done():
                    await asyncio.wait([watching], timeout=0.1)
                    was_ready = was_ready or replica.ready
            finally:
                watching.cancel()
            service.replicas.remove(replica)
            service.said = replica.container.log.read_text(errors="replace")[-20_000:]
            assert replica.container.process is not None
            how = (
                "OOMKilled" if replica.container.killed else f"Error, exit code {replica.container.process.returncode}"
            )
            service.reason = f"a container ended: {how}"
            await replica.container.end()
            service.crashes = 0 if was_ready else service.crashes + 1
            await asyncio.sleep(0.3 if time.monotonic() - began > 1 else 1)

    async def _begun(self, name: str, service: Service) -> Replica:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        stated = service.body.get("memory")
        limit = quantities.memory_mb(stated) if stated and stated != "256Mi" else 0
        container = self._container(name, service, {"OSCAR_PORT": str(port)}, limit)
        container.whole = True
        await container.begin("/bin/sh", str(container.folder / "script.sh"))
        return Replica(container, port)

    async def _deployment(self, request: web.Request) -> web.Response:
        name, service = self._found(request, missing=web.HTTPForbidden)
        if not service.body.get("expose"):
            raise web.HTTPNotFound()
        ready, wanted = sum(one.ready for one in service.replicas), int(service.body["expose"].get("min_scale", 1))
        state = "ready" if ready >= wanted else "degraded" if ready else "failed" if service.crashes >= 2 else "pending"
        if service.stopped:
            state = "stopped"
        told = {"service_name": name, "state": state, "reason": "" if state == "ready" else service.reason, "active_instances": ready}
        return web.json_response({**told, "affected_instances": 0, "resource_kind": "Deployment"})

    async def _deployment_logs(self, request: web.Request) -> web.Response:
        name, service = self._found(request, missing=web.HTTPForbidden)
        text = "".join(one.container.log.read_text(errors="replace") for one in service.replicas) or service.said
        entries = [{"message": line} for line in text.splitlines()[-500:]]
        return web.json_response({"service_name": name, "available": bool(entries), "message": "", "entries": entries})

    async def _switched(self, request: web.Request) -> web.Response:
        name, service = self._found(request)
        self.writes.append(f"{request.match_info['how']} {name}")
        if not service.body.get("expose"):
            raise web.HTTPBadRequest(text="the service is not exposed")
        if request.match_info["how"] != "start":
            service.stopped = True
            for task in [*service.tasks]:
                task.cancel()
            replicas, service.replicas = service.replicas, []
            for one in replicas:
                one.container.ask_to_end()
            await asyncio.gather(*(_ended_in_time(one.container) for one in replicas))
        if request.match_info["how"] != "stop":
            self._agree(name, service)
        return web.Response()

    async def _exposed(self, request: web.Request) -> web.StreamResponse:
        """To an instance that is ready, as an ingress does."""
        name = request.match_info["service"]
        service = self.services.get(name)
        if service is None or not service.body.get("expose"):
            raise web.HTTPNotFound()
        if service.body["expose"].get("set_auth"):
            right = base64.b64encode(f"{name}:{service.body['token']}".encode()).decode()
            if request.headers.get("Authorization") != f"Basic {right}":
                raise web.HTTPUnauthorized(text="unauthorized")
        ready = [one for one in service.replicas if one.ready]
        if not ready:
            raise web.HTTPServiceUnavailable(text="no endpoints")
        service.next += 1
        port = ready[service.next % len(ready)].port
        rest = request.path_qs.partition("/exposed")[2] or "/"
        headers = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "authorization")}
        try:
            async with self._http.request(
                request.method, f"http://127.0.0.1:{port}{rest}", headers=headers, data=await request.read()
            ) as answer:
                body = await answer.read()
        except aiohttp.ClientError:
            return web.Response(status=502, text="<html>502 Bad Gateway</html>")
        kind = answer.headers.get("Content-Type", "text/plain")
        return web.Response(status=answer.status, body=body, headers={"Content-Type": kind})

    # -- jobs and calls ----------------------------------------------------------------------------------------------

    async def _job(self, request: web.Request) -> web.Response:
        name, service = self._called(request)
        event = await request.text()
        short = name[:16] if len(name) >= 25 else name
        job = Job(None, "Suspended" if self.suspended else "Pending")
        service.jobs[f"{short}-{uuid.uuid4()}"] = job
        job.task = asyncio.create_task(self._worked(name, service, job, event))
        return web.Response(status=201)

    async def _worked(self, name: str, service: Service, job: Job, event: str) -> None:
        while self.suspended:
            await asyncio.sleep(0.05)
        job.status = "Pending"
        await asyncio.sleep(self.pending_seconds)
        limit = quantities.memory_mb(service.body["memory"])
        job.container = self._container(
            name, service, {"EVENT": event, "JOB_UUID": uuid.uuid4().hex, "RESOURCE_ID": "n"}, limit
        )
        await job.container.begin("/bin/sh", "-c", f"echo $EVENT | /usr/bin/env python3 {SUPERVISOR}")
        job.status = "Running"
        assert job.container.process is not None
        code = await job.container.process.wait()
        await job.container.end()
        job.status = "Failed" if code else "Succeeded"

    async def _run(self, request: web.Request) -> web.Response:
        name, service = self._called(request)
        container = self._container(name, service, {}, quantities.memory_mb(service.body["memory"]))
        service.runs.add(container)
        content = await request.read()

        async def answered() -> tuple[int, bytes]:  # it goes on when its caller does not
            import sys

            await container.begin(sys.executable, str(SUPERVISOR), given=asyncio.subprocess.PIPE, answer=True)
            assert container.process is not None
            said, _ = await container.process.communicate(content)
            await container.end()
            service.runs.discard(container)
            return container.process.returncode or 0, said

        task = asyncio.ensure_future(answered())
        self._spawn_any(service, task)
        code, said = await asyncio.shield(task)
        return web.Response(status=500, text="the function failed") if code else web.Response(body=said)

    async def _logs(self, request: web.Request) -> web.Response:
        _, service = self._found(request)
        at = int(request.query.get("page") or 0)
        names = [*service.jobs]
        page = names[at : at + self.page]
        jobs = {
            name: {"status": service.jobs[name].status, "creation_time": service.jobs[name].created, "start_time": None,
                   "finish_time": None}
            for name in page
        }  # fmt: skip
        rest = max(0, len(names) - at - self.page)
        return web.json_response(
            {"jobs": jobs, "next_page": str(at + self.page) if rest else "", "remaining_jobs": rest}
        )

    async def _log(self, request: web.Request) -> web.Response:
        _, service = self._found(request)
        job = service.jobs.get(request.match_info["job"])
        if job is None or job.container is None:
            raise web.HTTPNotFound()
        return web.Response(body=job.container.log.read_bytes(), content_type="text/plain")

    async def _delete_log(self, request: web.Request) -> web.Response:
        _, service = self._found(request)
        job = service.jobs.pop(request.match_info["job"], None)
        if job is None:
            raise web.HTTPNotFound()
        await _ended_job(job)
        return web.Response(status=204)

    async def _delete_logs(self, request: web.Request) -> web.Response:
        _, service = self._found(request)
        every = request.query.get("all") == "true"
        for name, job in [*service.jobs.items()]:
            if every or job.status == "Succeeded":
                await _ended_job(service.jobs.pop(name))
            del job
        return web.Response(status=204)

    # -- the store ---------------------------------------------------------------------------------------------------

    async def _presign(self, request: web.Request) -> web.Response:
        self._admit(request)
        bucket, body = request.match_info["bucket"], await request.json()
        if bucket not in self.buckets:
            raise web.HTTPNotFound(text="bucket not found")
        if body.get("operation") not in ("upload", "download") or not body.get("object_key"):
            raise web.HTTPBadRequest(text="invalid")
        method = "PUT" if body["operation"] == "upload" else "GET"
        until = int(time.time()) + int(body.get("expires_in") or body.get("expires") or 900)
        path = f"{bucket}/{quote(body['object_key'])}"
        url = f"{self.endpoint}/minio/{path}?expires={until}&signature={self._signed(method, unquote(path), until)}"
        told = {"object_key": body["object_key"], "operation": body["operation"], "method": method, "url": url}
        return web.json_response({**told, "expires_at": until, "headers": {"Host": ["minio"]}})

    def _signed(self, method: str, path: str, until: int) -> str:
        return hmac.new(self._key.encode(), f"{method} {path} {until}".encode(), hashlib.sha256).hexdigest()

    async def _object(self, request: web.Request) -> web.StreamResponse:
        """By an address that carries its permission, or by the supervisor of a container."""
        bucket, key = request.match_info["bucket"], request.match_info["key"]
        if "Authorization" in request.headers:
            raise web.HTTPBadRequest(text="credentials do not belong here")
        until = int(request.query.get("expires", "0"))
        right = self._signed(request.method, f"{bucket}/{key}", until)
        signed = hmac.compare_digest(request.query.get("signature", ""), right) and until > time.time()
        if not signed and request.headers.get("X-Store-Key") != self._key:
            raise web.HTTPForbidden()
        path = self.folder / "store" / bucket / key
        if request.method == "PUT" and bucket in self.buckets:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
            with partial.open("wb") as stream:
                async for piece in request.content.iter_any():
                    stream.write(piece)
            partial.replace(path)
            return web.Response()
        if request.method != "GET" or not path.is_file():
            raise web.HTTPNotFound()
        return web.FileResponse(path)

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


async def _ended_job(job: Job) -> None:
    if job.task:
        job.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job.task
    if job.container:
        await job.container.end()


async def _ended_in_time(container: Container) -> None:
    """Politely, as a pod is ended."""
    if container.process is not None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(container.process.wait(), 10)
    await container.end()


def _shown(body: dict[str, Any]) -> dict[str, Any]:
    """As it is answered: secrets are blanked."""
    environment = body.get("environment") or {}
    hidden = {name: "" for name in environment.get("secrets") or {}}
    return {**body, "environment": {**environment, **({"secrets": hidden} if hidden else {})}}


def _buckets(body: dict[str, Any]) -> set[str]:
    paths = [one["path"].strip(" /") for key in ("input", "output") for one in body.get(key) or ()]
    return {path.partition("/")[0] if "/" in path else body["name"] for path in paths}


async def _answer(text: str) -> web.Response:
    return web.Response(text=text)
