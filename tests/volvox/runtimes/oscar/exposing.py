"""Exposed services of the cluster: instances that are kept alive, and an ingress before them."""

from __future__ import annotations

import asyncio
import base64
import socket
import time

import aiohttp
from aiohttp import web

from tests.volvox.runtimes.oscar.cluster import Cluster, Service, ended_in_time
from tests.volvox.runtimes.oscar.containers import Replica
from volvox.functions import quantities


class Exposing(Cluster):
    """Routes and controllers of exposed services."""

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
            ending = asyncio.gather(*(ended_in_time(one.container) for one in before))
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
        told = {
            "service_name": name,
            "state": state,
            "reason": "" if state == "ready" else service.reason,
            "active_instances": ready,
        }
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
            await asyncio.gather(*(ended_in_time(one.container) for one in replicas))
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
