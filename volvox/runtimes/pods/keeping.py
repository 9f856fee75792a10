"""The pods of one version of a model: a Deployment that is told how many are wanted, from none to `max_scale`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import httpx

from volvox.errors import ModuleFailed, VolvoxError
from volvox.infrastructure.cluster import Cluster
from volvox.packaging.context import PORT
from volvox.runtimes import asking
from volvox.runtimes.pods import looking
from volvox.runtimes.pods.drift import differs, repaired
from volvox.runtimes.pods.manifests import FUNCTION, MODEL_CONTAINER, OWNER, ROLE, VERSION
from volvox.runtimes.pods.settings import PodSettings
from volvox.runtimes.servers import Server

_LOOK_SECONDS = 0.05
_ASK_SECONDS = 2.0
_AGAIN_SECONDS = (0.5, 2.0)
_GRACE_SECONDS = 2  # a pod that is ended here has nothing to do
_SAID_BYTES = 1 << 20
_TRIES = 5  # to write to an object that others write to as well

log = logging.getLogger(__name__)


class Replicas:
    """Starts, finds and ends the pods of one Deployment.

    Which pod goes when there are to be fewer is decided here and not by the cluster: it is deleted before the number is
    lowered, so that a pod that is at work never goes in its stead.
    """

    def __init__(
        self, cluster: Cluster, manifest: dict[str, Any], settings: PodSettings, http: httpx.AsyncClient
    ) -> None:
        """Nothing is made yet; `manifest` is the Deployment."""
        self._cluster, self._manifest, self._settings, self._http = cluster, manifest, settings, http
        self._space, self._name = settings.namespace, manifest["metadata"]["name"]
        self._all = f"/apis/apps/v1/namespaces/{self._space}/deployments"
        self._path = f"{self._all}/{self._name}"
        carried = manifest["metadata"]["labels"]
        self._selector = ",".join(f"{key}={carried[key]}" for key in (OWNER, FUNCTION, ROLE, VERSION))
        self._wanted = 0
        self._claimed: set[str] = set()
        self._leaving: set[str] = set()
        self._turn = asyncio.Lock()
        self._there = False

    async def start(self) -> Server:
        """Have one more; wait until its health check passes.

        Raises:
            ModuleFailed: If it does not become ready.
            Unavailable: If the cluster does not answer.
        """
        claimed: list[str] = []
        self._wanted += 1
        try:
            await self._agree("start a pod")
            return await self._ready_one(claimed)
        except BaseException:
            await asyncio.shield(self._given_up(claimed))
            raise

    async def stop(self, name: str) -> None:
        """End one, and have one fewer; raises Unavailable if the cluster does not answer for some seconds."""
        self._wanted -= 1
        self._claimed.discard(name)
        self._leaving.add(name)
        for pause in (*_AGAIN_SECONDS, None):
            try:
                await self._agree("end a pod")
                return
            except VolvoxError:  # the next change of the number ends it too
                if pause is None:
                    raise
                await asyncio.sleep(pause)

    async def take_up(self) -> list[Server]:
        """Those of the time before that are ready; the Deployment is mended, and others are ended."""
        async with self._errors("find pods"):
            there = await self._cluster.find(self._path)
            if there is None:
                return []
            await self._mended(there)
            pods = [pod for pod in await self._pods() if not looking.leaving(pod)]
        answering = await asyncio.gather(*(self._answers(pod) for pod in pods))
        found = [await self._server(pod) for pod, ready in zip(pods, answering, strict=True) if ready]
        self._wanted, self._claimed = len(found), {server.id for server in found}
        self._leaving = {pod["metadata"]["name"] for pod in pods} - self._claimed
        if there["spec"].get("replicas") != self._wanted:
            await self._agree("find pods")
        return found

    async def check(self) -> str:
        """What of the Deployment is not as it should be; empty if all of it is. Nothing is written."""
        async with self._errors("look at a deployment"):
            there = await self._cluster.find(self._path)
        if there is None:
            return f"the deployment {self._name} is gone"
        found = differs(self._manifest, there)
        return f"{found} of the deployment {self._name} is not as it was made" if found else ""

    async def repair(self) -> None:
        """Make it again where it is gone, or not as it should be; pods that go with it are started again at need."""
        async with self._turn, self._errors("repair a deployment"):
            there = await self._cluster.find(self._path)
            if there is not None:
                await self._mended(there)
                return
        self._there = False
        await self._agree("repair a deployment")

    async def asked(self) -> tuple[str, httpx.AsyncClient]:
        """What stands before the paths of pods, empty if they are asked at their own addresses; and the client."""
        if self._settings.reach == "address":
            return "", self._http
        async with self._errors("be reached"):
            return await self._cluster.http()

    async def clear(self) -> None:
        """Delete the Deployment; its pods end with it."""
        async with self._turn, self._errors("delete a deployment"):
            self._there = False
            await self._cluster.delete(self._path)

    async def look(self, name: str) -> dict[str, Any] | None:
        """A pod, or None."""
        async with self._errors("look at a pod"):
            return await self._cluster.find(looking.pods_path(self._space, name))

    async def said(self, name: str, *, before: bool = False) -> str:
        """What a pod printed, the last part of it; `before`: before it was started anew."""
        from kubernetes_asyncio.client.exceptions import ApiException

        query = [("container", MODEL_CONTAINER), ("tailLines", "5000"), ("limitBytes", str(_SAID_BYTES))]
        query += [("previous", "true")] if before else []
        async with self._errors("read a log"):
            try:
                return await self._cluster.text(f"{looking.pods_path(self._space, name)}/log", query)
            except ApiException:  # of a container that never ran there is none
                return ""

    # -- inside --------------------------------------------------------------------------------------------------

    async def _agree(self, doing: str) -> None:
        """Have the cluster know how many are wanted, and those gone that are to leave."""
        async with self._turn, self._errors(doing):
            leaving, none = [*self._leaving], self._wanted == 0
            if not none:  # else the cluster might choose another one
                await self._deleted(leaving)
            if not self._there:
                await self._made()
            else:
                await self._told()
            if none:  # else the cluster would make another one; it ends them too, but lets them take all their time
                await self._deleted(leaving)
            self._leaving -= set(leaving)

    async def _deleted(self, names: list[str]) -> None:
        for name in names:
            await self._cluster.delete(looking.pods_path(self._space, name), grace_seconds=_GRACE_SECONDS)

    async def _made(self) -> None:
        manifest = {**self._manifest, "spec": {**self._manifest["spec"], "replicas": self._wanted}}
        there = await self._cluster.find(self._path)
        if there is None and await self._cluster.create(self._all, manifest) is not None:
            self._there = True
            return
        there = there or await self._cluster.get(self._path)
        await self._mended(there)
        await self._told()

    async def _told(self) -> None:
        from kubernetes_asyncio.client.exceptions import ApiException

        try:
            await self._cluster.merge(self._path, {"spec": {"replicas": self._wanted}})
        except ApiException as error:
            if error.status != 404:
                raise
            manifest = {**self._manifest, "spec": {**self._manifest["spec"], "replicas": self._wanted}}
            await self._cluster.create(self._all, manifest)

    async def _mended(self, there: dict[str, Any]) -> None:
        from kubernetes_asyncio.client.exceptions import ApiException

        self._there = True
        for left in range(_TRIES, 0, -1):
            if not (found := differs(self._manifest, there)):
                return
            log.warning("%s of the deployment %s is not as it was made; it is mended", found, self._name)
            try:
                await self._cluster.replace(self._path, repaired(self._manifest, there))
                return
            except ApiException as error:  # the cluster's controller has written to it meanwhile
                if error.status != 409 or left == 1:
                    raise
            there = await self._cluster.get(self._path)

    async def _pods(self) -> list[dict[str, Any]]:
        return await self._cluster.items(looking.pods_path(self._space), self._selector)

    async def _answers(self, pod: dict[str, Any]) -> bool:
        """Whether it is ready: asked itself, as the cluster hears of it seconds later."""
        if not pod.get("status", {}).get("podIP"):
            return False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until_ready(pod), _ASK_SECONDS / 2)
            return True
        return False

    async def _until_ready(self, pod: dict[str, Any]) -> None:
        _, http = await self.asked()
        await asking.ready(http, (await self._server(pod)).url)

    async def _server(self, pod: dict[str, Any]) -> Server:
        name, (host, _) = pod["metadata"]["name"], await self.asked()
        if host:
            return Server(name, f"{host}{looking.pods_path(self._space, name)}:{PORT}/proxy", name)
        return Server(name, _url(pod["status"]["podIP"]), name)

    async def _ready_one(self, claimed: list[str]) -> Server:
        clock = asyncio.get_running_loop().time
        deadline, asked = clock() + self._settings.start_seconds, clock() + _ASK_SECONDS
        probe: asyncio.Task[None] | None = None
        pod: dict[str, Any] | None = None
        try:
            while clock() < deadline:
                async with self._errors("start a pod"):
                    pod = self._mine(await self._pods(), claimed)
                    if pod is None and clock() > asked:
                        asked = clock() + _ASK_SECONDS
                        await self._look_why_none()
                    if pod is not None:
                        await self._look_for_trouble(pod)
                if pod is None or not pod.get("status", {}).get("podIP"):
                    probe = _dropped(probe)
                    await asyncio.sleep(_LOOK_SECONDS)
                    continue
                probe = probe or asyncio.create_task(self._until_ready(pod))
                if (await asyncio.wait([probe], timeout=4 * _LOOK_SECONDS))[0]:
                    probe.result()
                    return await self._server(pod)
        finally:
            _dropped(probe)
        raise ModuleFailed(await self._not_in_time(pod))

    def _mine(self, pods: list[dict[str, Any]], claimed: list[str]) -> dict[str, Any] | None:
        """The pod that is waited for: one that nobody else has."""
        alive = {pod["metadata"]["name"]: pod for pod in pods if not looking.leaving(pod)}
        if claimed and claimed[0] not in alive:  # it was taken away; the cluster makes another one
            self._claimed.discard(claimed.pop())
        if not claimed:
            free = [name for name in alive if name not in self._claimed and name not in self._leaving]
            if not free:
                return None
            claimed.append(min(free, key=lambda name: alive[name]["metadata"]["creationTimestamp"]))
            self._claimed.add(claimed[0])
        return alive[claimed[0]]

    async def _look_why_none(self) -> None:
        there = await self._cluster.find(self._path)
        for condition in (there or {}).get("status", {}).get("conditions") or ():
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                raise ModuleFailed(f"the cluster makes no pod: {condition.get('message') or condition.get('reason')}")

    async def _look_for_trouble(self, pod: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        if how := looking.ended_before(pod):
            again = "terminated" not in looking.state_of(pod)
            said = (await self.said(name, before=again))[-1500:].strip() or str(how.get("message") or "nothing")
            what = "ended for lack of memory" if how.get("reason") == "OOMKilled" else (
                f"ended with exit code {how.get('exitCode')}"
            )  # fmt: skip
            raise ModuleFailed(f"the pod {name} {what}; it said: {said}")
        if why := await looking.no_start(self._cluster, pod):
            raise ModuleFailed(why)

    async def _not_in_time(self, pod: dict[str, Any] | None) -> str:
        seconds = self._settings.start_seconds
        if pod is None or "running" not in looking.state_of(pod):
            return f"no pod ran within {seconds:g} s (setting start_seconds): {looking.why_waiting(pod)}"
        name, address = pod["metadata"]["name"], pod["status"].get("podIP")
        if _is_ready(pod):
            return (
                f"the pod {name} is ready, and its address {address} does not answer here: run the dispatcher where "
                "the addresses of pods are reached, or set reach: proxy"
            )
        said = (await self.said(name))[-1500:].strip() or "nothing"
        return f"the pod {name} was not ready within {seconds:g} s (setting start_seconds); it said: {said}"

    async def _given_up(self, claimed: list[str]) -> None:
        self._wanted -= 1
        self._leaving |= set(claimed)
        self._claimed -= set(claimed)
        if self._there:
            with contextlib.suppress(VolvoxError):
                await self._agree("end a pod")

    def _errors(self, doing: str) -> contextlib.AbstractAsyncContextManager[None]:
        return self._cluster.errors(doing, f"namespace {self._space!r}")


def _dropped(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()


def _url(address: str) -> str:
    return f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and bool(pod["status"].get("podIP")) and not looking.leaving(pod)
