"""Jobs, calls, logs and the store of the cluster."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
import time
import uuid
from urllib.parse import quote, unquote

from aiohttp import web

from tests.volvox.runtimes.oscar.cluster import Cluster, Job, Service, ended_job
from tests.volvox.runtimes.oscar.containers import SUPERVISOR
from volvox.functions import quantities


class Working(Cluster):
    """Routes of jobs and objects, and what does them."""

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
        await ended_job(job)
        return web.Response(status=204)

    async def _delete_logs(self, request: web.Request) -> web.Response:
        _, service = self._found(request)
        every = request.query.get("all") == "true"
        for name, job in [*service.jobs.items()]:
            if every or job.status == "Succeeded":
                await ended_job(service.jobs.pop(name))
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
