"""Functions in a Kubernetes cluster: a Deployment of a model's serving image, a Job for each call of a script.

What is made carries labels: whose it is (this runtime's folder), of which function, of which version, and for what. So
it is found again when a dispatcher starts, mended where somebody changed it, and removed when its function is; also by
the next dispatcher, when one was killed before it had written down what it had made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from volvox.disks import replace_text
from volvox.errors import InvalidInput, NotFound, VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of, process_started, this_process
from volvox.infrastructure.cluster import Cluster
from volvox.runtimes import asking
from volvox.runtimes.images import ImageVersion
from volvox.runtimes.interface import Kind
from volvox.runtimes.kept import DEPLOYED
from volvox.runtimes.models import Model, Models
from volvox.runtimes.owner import owner_of
from volvox.runtimes.pods import looking, manifests
from volvox.runtimes.pods.calls import PodCall
from volvox.runtimes.pods.drift import differs, repaired
from volvox.runtimes.pods.keeping import Replicas
from volvox.runtimes.pods.manifests import DISPATCHER, FUNCTION, VERSION, function_label, selector
from volvox.runtimes.pods.settings import PodSettings
from volvox.runtimes.scripts import ScriptVersion, Secret
from volvox.runtimes.served import ServedRuntime
from volvox.runtimes.servers import Server

_LEAVES_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A namespace of a cluster.

    Attributes:
        cluster_config: As `PodSettings` has it.
        context: As `PodSettings` has it.
        namespace: As `PodSettings` has it.
    """

    cluster_config: str
    context: str
    namespace: str

    @classmethod
    def of(cls, settings: PodSettings) -> Place:
        """Where a function with these settings is."""
        return cls(settings.cluster_config, settings.context, settings.namespace)

    def path(self, kind: str) -> str:
        """Where the objects of a kind are: `deployments`, `services`, `jobs`, `pods`."""
        group = {"deployments": "/apis/apps/v1", "jobs": "/apis/batch/v1"}.get(kind, "/api/v1")
        return f"{group}/namespaces/{self.namespace}/{kind}"


class KubernetesRuntime(ServedRuntime):
    """Pods of the clusters and namespaces that functions name."""

    name = "kubernetes"
    where = "in a Kubernetes cluster"
    finds_orphans = True

    def __init__(
        self,
        folder: Path,
        models: Models,
        *,
        secret: Secret | None = None,
        grows: Callable[[], bool] = lambda: False,
    ) -> None:
        """A runtime without functions, or with those that are in its folder; `grows`: as `Cluster` takes it."""
        self._grows = grows
        self._clusters: dict[tuple[str, str], Cluster] = {}
        self._replicas: weakref.WeakKeyDictionary[ImageVersion, Replicas] = weakref.WeakKeyDictionary()
        super().__init__(folder, models, PodCall(lambda: self.owner, _dispatcher(), self.cluster), secret)

    @property
    def owner(self) -> str:
        """What everything of this folder carries; no other folder of any machine has the same."""
        return owner_of(self.folder)

    def cluster(self, at: PodSettings | Place) -> Cluster:
        """The connection to the cluster of a function or place."""
        key = (at.cluster_config, at.context)
        if key not in self._clusters:
            self._clusters[key] = Cluster(file=at.cluster_config, context=at.context or None, grows=self._grows)
        return self._clusters[key]

    async def close(self) -> None:
        """As `Runtime.close`."""
        await super().close()
        for cluster in self._clusters.values():
            await cluster.close()

    async def reached(self, function: Function) -> str:
        """Where a function runs, as people say it; nothing is written.

        Raises:
            InvalidInput: If there is no such namespace.
            Unavailable: If the cluster does not answer, or does not let this account look.
        """
        place = Place.of(PodSettings.of(function))
        async with self._errors(place, "list jobs"):
            await self.cluster(place).get(place.path("jobs"), [("limit", "1")])
            there = await self.cluster(place).has_namespace(place.namespace)
        if not there:
            name = place.namespace
            raise InvalidInput(
                f"function {function.name!r}: the cluster has no namespace {name!r} (setting namespace); make it: "
                f"kubectl create namespace {name}"
            )
        return f"namespace {place.namespace} of the Kubernetes cluster"

    async def doubts(self, name: str) -> list[str]:
        """What of a function in the cluster is not as it was made, a sentence each; nothing is written.

        Raises:
            NotFound: If it is not deployed here.
            Unavailable: If the cluster does not answer.
        """
        found = self._kept.remembered(name)
        if found is None:
            raise NotFound(f"function {name!r} is not deployed {self.where}")
        if isinstance(found, ScriptVersion):
            return []
        told = [await self._pods_of(found).check()]
        if PodSettings.of(found.function).service:
            told.append(await self._service_differs(found))
        return [one for one in told if one]

    async def repair(self, name: str) -> list[str]:
        """Mend what `doubts` finds, and say what that was; a second time there is nothing."""
        told = await self.doubts(name)
        found = self._kept.present.get(name) or self._kept.remembered(name)
        if told and isinstance(found, ImageVersion):
            await self._pods_of(found).repair()
            await self._answers(found)
        return told

    # -- what `ServedRuntime` asks for -----------------------------------------------------------------------------

    async def _asking(self, made: ImageVersion) -> httpx.AsyncClient:
        return (await self._pods_of(made).asked())[1]

    async def _check(self, function: Function) -> None:
        settings = PodSettings.of(function)
        if function.image.startswith("docker-archive:"):
            raise InvalidInput("a cluster fetches images from a registry, so the image cannot be an archive; push it")
        if not function.model and not function.script and not function.command:
            raise InvalidInput(
                f"function {function.name!r} names neither script nor command: what the image itself would run is not "
                "known here, so its end could not be told; write it as `command`"
            )
        self._remember(Place.of(settings))
        await self.reached(function)

    async def _image(self, function: Function, model: Model) -> str:
        image = await asyncio.to_thread(self._models.image, model)
        if image is None:
            raise InvalidInput(
                f"model {model.name!r}, version {model.version}, has no serving image: run the cycle again with an "
                "engine (`volvox cycle`), or name runtime local"
            )
        if image.pushed:
            return image.pushed
        if PodSettings.of(function).pull_policy == "Never":
            return image.name
        raise InvalidInput(
            f"the serving image {image.name} was pushed to no registry that the cluster could fetch it from: set "
            "VOLVOX_REGISTRY and run the cycle again; or, where the nodes have it already, set pull_policy: Never"
        )

    async def _start(self, made: ImageVersion) -> Server:
        return await self._pods_of(made).start()

    async def _stop(self, made: ImageVersion, server: Server) -> None:
        await self._pods_of(made).stop(server.id)

    async def _take_up(self, kept: ImageVersion) -> Callable[[], Awaitable[None]]:
        for server in await self._pods_of(kept).take_up():
            kept.servers.take_over(server)
        return lambda: self._remove_others(kept)

    async def _unchanged(self, present: ImageVersion | ScriptVersion) -> None:
        if isinstance(present, ImageVersion):
            for told in await self.repair(present.function.name):
                log.warning("function %r: %s; it was mended", present.function.name, told)

    async def _answers(self, made: ImageVersion) -> None:
        """Lead the Service to it, where there is to be one."""
        settings = PodSettings.of(made.function)
        if not settings.service:
            return
        place, should = Place.of(settings), self._service(made)
        path, name = place.path("services"), should["metadata"]["name"]
        cluster = self.cluster(place)
        async with self._errors(place, "make a service"):
            there = await cluster.find(f"{path}/{name}")
            if there is None and await cluster.create(path, should) is not None:
                return
            there = there or await cluster.get(f"{path}/{name}")
            if differs(should, there):
                await cluster.replace(f"{path}/{name}", repaired(should, there))

    async def _clear(self, made: ImageVersion) -> None:
        try:
            await self._pods_of(made).clear()
        except VolvoxError as error:  # the next dispatcher removes it
            log.warning("the deployment of %r could not be deleted: %s", made.function.name, error)

    async def _why_gone(self, made: ImageVersion, server: Server, reason: str) -> tuple[Kind, str]:
        pod = await self._pods_of(made).look(server.id)
        how = looking.ended_before(pod) if pod else {}
        if pod is None or looking.leaving(pod) or "running" not in looking.state_of(pod) or how:
            made.servers.lost(server)
        limit = made.function.resources.memory_mb
        if how.get("reason") == "OOMKilled" or (limit and asking.OUT_OF_MEMORY in reason):
            return "memory", asking.out_of_memory(limit)
        return "gone", reason

    async def _said(self, made: ImageVersion, server: Server) -> str:
        return await self._pods_of(made).said(server.id)

    async def _remove_all(self, name: str) -> None:
        for place in self._places():
            try:
                await self._emptied(place, selector(self.owner, name))
            except VolvoxError as error:
                log.warning("what %s has of %r is removed when it answers: %s", place.namespace, name, error)

    async def _sweep_engine(self) -> None:
        """Remove Jobs of a dispatcher that is gone, and what no function is known for."""
        known = {function_label(path.parent.name) for path in self.folder.glob(f"*/{DEPLOYED}")}
        for place in self._places():
            cluster = self.cluster(place)
            with contextlib.suppress(VolvoxError):
                async with self._errors(place, "sweep"):
                    for job in await cluster.items(place.path("jobs"), selector(self.owner, role="call")):
                        if _orphaned(job["metadata"]["labels"].get(DISPATCHER, "")):
                            await cluster.delete(f"{place.path('jobs')}/{job['metadata']['name']}")
                    for kind, role in (("deployments", "instance"), ("services", "service")):
                        for one in await cluster.items(place.path(kind), selector(self.owner, role=role)):
                            if one["metadata"]["labels"].get(FUNCTION) not in known:
                                await cluster.delete(f"{place.path(kind)}/{one['metadata']['name']}")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _pods_of(self, made: ImageVersion) -> Replicas:
        if made not in self._replicas:
            settings = PodSettings.of(made.function)
            manifest = manifests.deployment(
                made.function, settings, owner=self.owner, label=made.label, image=made.image
            )
            self._replicas[made] = Replicas(self.cluster(settings), manifest, settings, self._http)
        return self._replicas[made]

    def _service(self, made: ImageVersion) -> dict[str, Any]:
        return manifests.service(made.function, PodSettings.of(made.function), owner=self.owner, label=made.label)

    async def _service_differs(self, made: ImageVersion) -> str:
        place, should = Place.of(PodSettings.of(made.function)), self._service(made)
        name = should["metadata"]["name"]
        async with self._errors(place, "look at a service"):
            there = await self.cluster(place).find(f"{place.path('services')}/{name}")
        if there is None:
            return f"the service {name} is gone"
        found = differs(should, there)
        return f"{found} of the service {name} is not as it was made" if found else ""

    async def _remove_others(self, kept: ImageVersion) -> None:
        """Deployments of the function's other versions, which a dispatcher that was killed has left."""
        for place in self._places():
            cluster, query = self.cluster(place), selector(self.owner, kept.function.name, "instance")
            async with self._errors(place, "find deployments"):
                for one in await cluster.items(place.path("deployments"), query):
                    if one["metadata"]["labels"].get(VERSION) != kept.label:
                        await cluster.delete(f"{place.path('deployments')}/{one['metadata']['name']}")

    async def _emptied(self, place: Place, query: str) -> None:
        """Delete everything that fits, and wait until no pod of it is left."""
        cluster = self.cluster(place)
        async with self._errors(place, "remove a function"):
            for kind in ("deployments", "services", "jobs"):
                for one in await cluster.items(place.path(kind), query):
                    await cluster.delete(f"{place.path(kind)}/{one['metadata']['name']}")
            clock = asyncio.get_running_loop().time
            deadline, told = clock() + _LEAVES_SECONDS, set[str]()
            while pods := await cluster.items(place.path("pods"), query):
                late = clock() > deadline  # its node is gone, or does not answer
                for pod in pods:
                    name = pod["metadata"]["name"]
                    if late or name not in told:
                        told.add(name)
                        grace = 0 if late else _GRACE_SECONDS
                        await cluster.delete(f"{place.path('pods')}/{name}", grace_seconds=grace)
                if late:
                    return
                await asyncio.sleep(_LOOK_SECONDS)

    def _places(self) -> list[Place]:
        """Every namespace in which something may have been made."""
        try:
            return [Place(**told) for told in json.loads((self.folder / "places.json").read_text())]
        except FileNotFoundError:
            return []

    def _remember(self, place: Place) -> None:
        """Keep it, before anything is made there."""
        places = self._places()
        if place not in places:
            replace_text(self.folder / "places.json", json.dumps([asdict(one) for one in [*places, place]]))

    def _errors(self, place: Place, doing: str) -> contextlib.AbstractAsyncContextManager[None]:
        return self.cluster(place).errors(doing, f"namespace {place.namespace!r}")


def _dispatcher() -> str:
    """This process, as the label of what only it waits for."""
    pid, started = this_process()
    return f"{digest_of(socket.gethostname())[:12]}.{pid}.{started}"


def _orphaned(label: str) -> bool:
    """Whether the dispatcher that made it is gone; only one works for a folder, so another machine's is."""
    host, _, process = label.partition(".")
    pid, _, started = process.partition(".")
    if host != digest_of(socket.gethostname())[:12] or not pid.isdecimal():
        return True
    return str(process_started(int(pid))) != started
