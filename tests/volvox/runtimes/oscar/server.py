"""An OSCAR cluster: its routes, codes and bodies, with services whose scripts really run, as processes of this machine.

Services, jobs and objects are kept in memory and in a folder. It does what a real one does beside that: a service gets
another token whenever it is changed, a job's name is told to nobody, an exposed service is changed by new instances
that take the place of the old ones, and a service that is deleted takes its buckets with it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from typing import Any

import aiohttp
from aiohttp import web

from tests.volvox.runtimes.oscar.cluster import Service, answer, buckets_of, shown
from tests.volvox.runtimes.oscar.exposing import Exposing
from tests.volvox.runtimes.oscar.working import Working
from volvox.functions import quantities

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,37}[a-z0-9])?")
_KEPT = ("name", "image", "script")


class OscarServer(Exposing, Working):
    """The cluster, in a thread of its own; see `Cluster`."""

    # -- life --------------------------------------------------------------------------------------------------------

    async def _open(self) -> int:
        app = web.Application(client_max_size=1 << 30, middlewares=[self._faulty])
        routes = app.router
        routes.add_get("/health", lambda _: answer("Ok"))
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
        return web.json_response([shown(one.body) for one in self.services.values()])

    async def _one(self, request: web.Request) -> web.Response:
        return web.json_response(shown(self._found(request)[1].body))

    async def _create(self, request: web.Request) -> web.Response:
        self._admit(request)
        body = await request.json()
        self.writes.append(f"POST {body.get('name')}")
        self._judge(body)
        if body["name"] in self.services:
            raise web.HTTPBadRequest(text="A service with the provided name already exists")
        service = self.services[body["name"]] = Service(self._kept(body))
        self.buckets |= buckets_of(service.body)
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
        self.buckets |= buckets_of(service.body)
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
        for bucket in buckets_of(service.body):
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
            "bucket_list": sorted(buckets_of(told)),
            "storage_providers": {"minio": {"default": {"endpoint": self.endpoint, "access_key": "hidden"}}},
        }  # fmt: skip
