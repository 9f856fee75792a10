"""A made-up cluster: the part of Kubernetes' API that the runtime uses, with controllers that do what the real ones do.

Its pods are servers of this process, each with an address of its own. Which requests write is kept, so that a test can
say that nothing was written.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from volvox.packaging.context import PORT

_PATH = re.compile(
    r"/(?:api|apis/[a-z]+)/v1/namespaces/(?P<space>[^/]+)/(?P<kind>[a-z]+)(?:/(?P<name>[^/]+))?(?P<log>/log)?"
)
_addresses = (f"127.77.{a}.{b}" for a in range(256) for b in range(1, 255))
_PARAMETERS = [
    {"name": "image", "in": "formData", "type": "file", "required": True},
    {"name": "top", "in": "query", "type": "integer"},
]


class MadeUp:
    """The cluster.

    Attributes:
        objects: Everything that is there: (kind, namespace, name) -> object.
        writes: Requests that wrote, `PATCH deployments NAME`.
        bodies: What they wrote.
        start_seconds: How long a pod takes until its server answers.
        refused: Images that no registry gives.
        crashing: Images whose program ends at once, with what it says.
        ended: Images whose pods of Jobs end at once, with what the cluster says of `status` and `container`.
        quota: What the cluster says when it makes no pods; empty: it does.
        down: Whether it does not answer.
        passed_on: How many requests its API passed on to pods.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.writes: list[str] = []
        self.bodies: list[str] = []
        self.start_seconds = 0.05
        self.refused: set[str] = set()
        self.crashing: dict[str, str] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.quota = ""
        self.down = False
        self.namespaces = {"default", "lab"}
        self.asked: list[str] = []
        self.passed_on = 0
        self._numbers = itertools.count(1)
        self._servers: dict[str, web.AppRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> MadeUp:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "users": [{"name": "it", "user": {"token": "secret"}}],
        }  # fmt: skip
        self.config = self.folder / "kubeconfig"
        self.config.write_text(json.dumps(config))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for server in self._servers.values():
            await server.cleanup()
        await self._runner.cleanup()

    def all(self, kind: str, space: str = "default") -> list[dict[str, Any]]:
        return [one for (k, s, _), one in self.objects.items() if (k, s) == (kind, space)]

    def pods(self) -> list[str]:
        """Names of pods that are not being ended."""
        return [one["metadata"]["name"] for one in self.all("pods") if "deletionTimestamp" not in one["metadata"]]

    def lose(self, pod: str) -> None:
        """A pod is taken away by the cluster, as with its node."""
        self._end("default", pod, 0.0)
        for one in self.all("deployments"):
            self._agree(one)

    # -- the API -------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.down:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if "/proxy/" in request.path:
            return await self._passed_on(request)
        found = _PATH.fullmatch(request.path)
        if request.path.rpartition("/")[0] == "/api/v1/namespaces":
            name = request.path.rpartition("/")[2]
            missing = _refusal(404, "NotFound", f'namespaces "{name}" not found')
            return web.json_response({}) if name in self.namespaces else missing
        if found is None:
            return web.json_response({"items": []})
        space, kind, name = found["space"], found["kind"], found["name"] or ""
        body = await request.json() if request.can_read_body else {}
        if request.method != "GET":
            self.writes.append(f"{request.method} {kind} {name or body['metadata']['name']}")
            self.bodies.append(json.dumps(body))
            if space not in self.namespaces:
                return _refusal(404, "NotFound", f'namespaces "{space}" not found')
        key = (kind, space, name)
        if request.method == "GET" and not name:
            return web.json_response({"items": self._listed(kind, space, request.query)})
        if request.method == "POST":
            return self._created(kind, space, body)
        if key not in self.objects:
            return _refusal(404, "NotFound", f'{kind} "{name}" not found')
        if found["log"]:
            return web.Response(text=self.objects[key].get("said", f"log of {name}\n"))
        return self._one(request.method, key, body)

    async def _passed_on(self, request: web.Request) -> web.Response:
        """To a pod, as the API server does: without the caller's own credentials, 503 if it does not answer."""
        assert request.headers["Authorization"] == "Bearer secret"
        before, _, after = request.path_qs.partition("/proxy/")
        name, _, port = before.rpartition("/")[2].partition(":")
        pod = self.objects.get(("pods", "default", name), {})
        address = pod.get("status", {}).get("podIP", "")
        self.passed_on += 1
        headers = {key: value for key, value in request.headers.items() if key != "Authorization"}
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                url = f"http://{address}:{port}/{after}"
                told = await http.request(request.method, url, content=await request.read(), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            return _refusal(503, "ServiceUnavailable", "error trying to reach service")
        return web.Response(
            status=told.status_code,
            body=told.content,
            headers={"Content-Type": told.headers.get("content-type", "text/plain")},
        )

    def _listed(self, kind: str, space: str, query: Any) -> list[dict[str, Any]]:
        wanted = dict(part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part)
        found = [one for one in self.all(kind, space) if wanted.items() <= one["metadata"].get("labels", {}).items()]
        about = dict(part.split("=", 1) for part in query.get("fieldSelector", "").split(",") if part)
        if kind == "events":
            found = [one for one in found if one["metadata"]["name"].startswith(about["involvedObject.name"])]
        return copy.deepcopy(found)

    def _created(self, kind: str, space: str, body: dict[str, Any]) -> web.Response:
        key = (kind, space, body["metadata"]["name"])
        if key in self.objects:
            return _refusal(409, "AlreadyExists", f"{key[2]} already exists")
        self.objects[key] = self._kept(body)
        if kind == "deployments":
            self._agree(self.objects[key])
        if kind == "jobs":
            self._begin_job(self.objects[key])
        return web.json_response(self.objects[key], status=201)

    def _one(self, method: str, key: tuple[str, str, str], body: dict[str, Any]) -> web.Response:
        kind, space, name = key
        if method == "DELETE":
            if kind == "pods":
                self._end(space, name, 0.05)
            else:
                gone = self.objects.pop(key)
                its = self._of(gone) if kind == "deployments" else self._of_job(name, space) if kind == "jobs" else ()
                for pod in its:
                    self._end(space, pod["metadata"]["name"], 0.05)
            for one in self.all("deployments", space):
                self._agree(one)
            return web.json_response({"status": "Success"})
        if method == "PUT":
            if body["metadata"]["resourceVersion"] != self.objects[key]["metadata"]["resourceVersion"]:
                return _refusal(409, "Conflict", "the object has been modified")
            self.objects[key] = self._kept(body)
        elif method == "PATCH":
            self.objects[key] = self._kept(_merged(self.objects[key], body))
        if kind == "deployments":
            self._agree(self.objects[key])
        return web.json_response(self.objects[key])

    def _kept(self, body: dict[str, Any]) -> dict[str, Any]:
        """As the API server keeps it: with defaults that nobody stated."""
        kept = copy.deepcopy(body)
        kept["metadata"] |= {"resourceVersion": str(next(self._numbers)), "uid": "u"}
        kept["metadata"].setdefault("creationTimestamp", _now())
        if kept["kind"] == "Service":
            kept["spec"] |= {"clusterIP": "10.0.0.7", "sessionAffinity": "None"}
        else:
            kept["spec"]["template"]["spec"] |= {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
        return kept

    # -- controllers ---------------------------------------------------------------------------------------------

    def _of(self, deployment: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = deployment["spec"]["selector"]["matchLabels"].items()
        pods = self.all("pods", deployment["metadata"]["namespace"])
        return [
            pod for pod in pods
            if wanted <= pod["metadata"]["labels"].items() and "deletionTimestamp" not in pod["metadata"]
        ]  # fmt: skip

    def _of_job(self, name: str, space: str) -> list[dict[str, Any]]:
        return [pod for pod in self.all("pods", space) if pod["metadata"]["labels"].get("job-name") == name]

    def _begin_job(self, job: dict[str, Any]) -> None:
        """Its pod, which no program of this process is in: what becomes of it is told by its image."""
        name, space = job["metadata"]["name"], job["metadata"]["namespace"]
        if self.quota:
            told = {"message": self.quota, "lastTimestamp": _now(), "metadata": {"name": f"{name}-event"}}
            self.objects["events", space, f"{name}-event"] = told
            return
        template = copy.deepcopy(job["spec"]["template"])
        image = template["spec"]["containers"][0]["image"]
        labels = {**template["metadata"]["labels"], "job-name": name}
        meta = {"name": f"{name}-x", "namespace": space, "uid": name, "creationTimestamp": _now(), "labels": labels}
        status: dict[str, Any] = {"phase": "Pending"}
        if image in self.refused:
            status["containerStatuses"] = [_container(image, waiting={"reason": "ErrImagePull", "message": "no such"})]
        if image in self.ended:
            phase = {"phase": "Failed", **self.ended[image].get("status", {})}
            status = {**phase, "containerStatuses": [_container(image, terminated=self.ended[image]["container"])]}
        self.objects["pods", space, meta["name"]] = {"metadata": meta, "spec": template["spec"], "status": status}

    def _agree(self, deployment: dict[str, Any]) -> None:
        """Make pods that are missing; end those that are too many, the newest first, as the cluster would choose."""
        there, wanted = self._of(deployment), deployment["spec"]["replicas"]
        for pod in there[wanted:]:
            self._end(deployment["metadata"]["namespace"], pod["metadata"]["name"], 0.05)
        if self.quota and wanted > len(there):
            told = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": self.quota}
            deployment["status"] = {"conditions": [told]}
            return
        for _ in range(wanted - len(there)):
            self._begin(deployment)

    def _begin(self, deployment: dict[str, Any]) -> None:
        name, space = f"{deployment['metadata']['name']}-{next(self._numbers)}", deployment["metadata"]["namespace"]
        template = copy.deepcopy(deployment["spec"]["template"])
        meta = {**template["metadata"], "name": name, "namespace": space, "uid": name, "creationTimestamp": _now()}
        pod = {"metadata": meta, "spec": template["spec"], "status": {"phase": "Pending"}}
        self.objects["pods", space, name] = pod
        task = asyncio.create_task(self._run(pod))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, pod: dict[str, Any]) -> None:
        image = pod["spec"]["containers"][0]["image"]
        container: dict[str, Any] = {"name": "model", "image": image, "restartCount": 0}
        if image in self.refused:
            container["state"] = {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}
            pod["status"] |= {"containerStatuses": [container]}
            return
        if image in self.crashing:
            pod["said"] = self.crashing[image]
            container["state"] = {"terminated": {"exitCode": 1, "reason": "Error"}}
            pod["status"] |= {"phase": "Running", "podIP": next(_addresses), "containerStatuses": [container]}
            return
        address = next(_addresses)
        container["state"] = {"running": {"startedAt": _now()}}
        pod["status"] |= {"phase": "Running", "podIP": address, "containerStatuses": [container]}
        await asyncio.sleep(self.start_seconds)
        server = self._servers[pod["metadata"]["name"]] = web.AppRunner(self._model(image, pod["metadata"]["name"]))
        await server.setup()
        await web.TCPSite(server, address, PORT).start()

    def _end(self, space: str, name: str, seconds: float) -> None:
        pod = self.objects.get(("pods", space, name))
        if pod is None:
            return
        pod["metadata"]["deletionTimestamp"] = _now()

        async def gone() -> None:
            await asyncio.sleep(seconds)
            self.objects.pop(("pods", space, name), None)
            if server := self._servers.pop(name, None):
                await server.cleanup()  # what it is at is answered first

        task = asyncio.get_running_loop().create_task(gone())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _model(self, image: str, pod: str) -> web.Application:
        """A model's server: answers which image and pod it is, after as many seconds as the file says."""

        async def ready(_: web.Request) -> web.Response:
            return web.Response()

        async def swagger(_: web.Request) -> web.Response:
            return web.json_response({"paths": {"/v2/models/tiny/predict/": {"post": {"parameters": _PARAMETERS}}}})

        async def predict(request: web.Request) -> web.Response:
            form = await request.post()
            said = form["image"].file.read().decode()  # type: ignore[union-attr]
            self.asked.append(pod)
            with contextlib.suppress(ValueError):
                await asyncio.sleep(float(said))
            if said == "bad sample":
                return web.Response(status=500, text="no such layer")
            return web.json_response({"status": "OK", "predictions": {"image": image, "pod": pod}})

        async def printed(_: web.Request) -> web.Response:
            return web.Response(text=f"printed by {pod}\n")

        app = web.Application()
        app.router.add_get("/health/ready", ready)
        app.router.add_get("/swagger.json", swagger)
        app.router.add_get("/v2/debug/", printed)
        app.router.add_post("/v2/models/tiny/predict/", predict)
        return app


def _container(image: str, **state: Any) -> dict[str, Any]:
    return {"name": "script", "image": image, "restartCount": 0, "state": state}


def _merged(there: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    found = dict(there)
    for key, value in changes.items():
        found[key] = _merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


def _refusal(status: int, reason: str, message: str) -> web.Response:
    told = {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": status}
    return web.json_response(told, status=status)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
