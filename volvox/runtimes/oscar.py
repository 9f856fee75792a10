"""Functions in an OSCAR cluster: a service of a script, an exposed service for each version of a model.

What is made carries labels, as in a Kubernetes cluster (`volvox.runtimes.kubernetes`), so it is found again, mended
where somebody changed it, and removed when its function is. The cluster runs the instances; how many of a model there
are at the least is said here, how many more at need the cluster decides by their load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from volvox.disks import replace_text
from volvox.errors import InvalidInput, NotFound, VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes import asking
from volvox.runtimes.images import ImageVersion
from volvox.runtimes.instances import Scale
from volvox.runtimes.interface import Instance, Kind, Status
from volvox.runtimes.kept import DEPLOYED
from volvox.runtimes.models import Model, Models
from volvox.runtimes.oscar_cluster import checking, services
from volvox.runtimes.oscar_cluster.access import Cluster
from volvox.runtimes.oscar_cluster.calls import OscarCall
from volvox.runtimes.oscar_cluster.client import OscarCluster
from volvox.runtimes.oscar_cluster.exposed import Exposed
from volvox.runtimes.oscar_cluster.settings import OscarSettings
from volvox.runtimes.owner import owner_of
from volvox.runtimes.pods.manifests import FUNCTION, function_label
from volvox.runtimes.scripts import ScriptVersion, Secret
from volvox.runtimes.served import ServedRuntime
from volvox.runtimes.servers import Server

_LOOK_SECONDS = 0.3
_LOOK_AGAIN_SECONDS = (0.0, 0.5, 1.0)  # why a server did not answer

log = logging.getLogger(__name__)


class OscarRuntime(ServedRuntime):
    """Services of the clusters that functions name."""

    name = "oscar"
    where = "in an OSCAR cluster"
    finds_orphans = True

    def __init__(
        self, folder: Path, models: Models, *, secret: Secret | None = None,
        opened: Callable[[Cluster], OscarCluster] = OscarCluster,
    ) -> None:  # fmt: skip
        """A runtime without functions, or with those that are in its folder; `opened` makes the connections."""
        self._opened = opened
        self._clusters: dict[Cluster, OscarCluster] = {}
        self._services: weakref.WeakKeyDictionary[ImageVersion, Exposed] = weakref.WeakKeyDictionary()
        self._wanted: dict[str, int] = {}
        self._calls = OscarCall(lambda function: self.cluster(Cluster.of(function)))
        super().__init__(folder, models, self._calls, secret)

    @property
    def owner(self) -> str:
        """What everything of this folder carries."""
        return owner_of(self.folder)

    def cluster(self, which: Cluster) -> OscarCluster:
        """The connection to a cluster."""
        if which not in self._clusters:
            self._clusters[which] = self._opened(which)
        return self._clusters[which]

    async def close(self) -> None:
        """As `Runtime.close`."""
        await super().close()
        await self._calls.close()
        for service in [*self._services.values()]:
            await service.close()
        for cluster in self._clusters.values():
            await cluster.close()

    async def status(self, name: str) -> Status:
        """As `Runtime.status`; how many instances of a model there are, the cluster says."""
        told = await super().status(name)
        found = await self._there(name)
        if not isinstance(found, ImageVersion) or not found.servers.there:
            return told
        server = found.servers.there[0]
        active = 1
        with contextlib.suppress(VolvoxError):
            active = int((await self._exposed(found).deployment()).get("active_instances") or 0)
        state = "draining" if server.leaving else "busy"
        its = [
            Instance(f"{server.called}/{n}", found.version, state if n < server.open else "ready", server.since)
            for n in range(active)
        ]
        others = [one for one in told.instances if one.id != server.called]
        return Status(told.state, told.version, told.reason, (*its, *others), told.cold_start_seconds)

    async def scale(self, name: str, instances: int) -> None:
        """As `Runtime.scale`: the least number of instances of the service; with none it is stopped.

        Raises:
            NotFound, InvalidInput, ModuleFailed: As for every runtime with images.
        """
        found = await self._there(name)
        if isinstance(found, ImageVersion) and 0 <= instances <= found.function.scaling.max_scale:
            async with self._kept.lock(name):
                self._wanted[name] = instances
                service = self._exposed(found)
                service.body = self._body(found)
                if instances and found.servers.there:
                    await service.agree()
            await super().scale(name, min(instances, 1))
            await self._have(found, instances)
            return
        await super().scale(name, instances)

    async def reached(self, function: Function) -> str:
        """Where a function runs, as people say it; nothing is written.

        Raises:
            InvalidInput: If the cluster cannot take it, or refuses the credentials.
            Unavailable: If the cluster does not answer.
        """
        cluster = self.cluster(Cluster.of(function))
        where = await checking.told(cluster)
        await checking.check(cluster, function, function.image)
        return where

    async def doubts(self, name: str) -> list[str]:
        """What of a function in the cluster is not as it was made, a sentence each; nothing is written.

        Raises:
            NotFound: If it is not deployed here.
            Unavailable: If the cluster does not answer.
        """
        found = self._kept.present.get(name) or self._kept.remembered(name)
        if found is None:
            raise NotFound(f"function {name!r} is not deployed {self.where}")
        should = self._body(found)
        there = await self.cluster(Cluster.of(found.function)).find(services.path_of(should["name"]))
        if there is None:
            return [f"the service {should['name']} is gone"]
        differs = services.differs(should, there, scale=False)
        return [f"{differs} of the service {should['name']} is not as it was made"] if differs else []

    async def repair(self, name: str) -> list[str]:
        """Mend what `doubts` finds, and say what that was; a second time there is nothing."""
        told = await self.doubts(name)
        found = self._kept.present.get(name) or self._kept.remembered(name)
        if told and found is not None:
            await self._agreed(found)
        return told

    # -- what `ServedRuntime` asks for -------------------------------------------------------------------------------

    async def _asking(self, made: ImageVersion) -> httpx.AsyncClient:
        return await self._exposed(made).http()

    def _scale(self, function: Function) -> tuple[Scale, int]:
        """To what is done here a service is one server, which the cluster has as many instances of as it likes."""
        told, places = super()._scale(function)
        return Scale(min(told.least, 1), 1, told.idle_seconds), places * told.most

    async def _check(self, function: Function) -> None:
        if function.trigger == "direct":
            raise InvalidInput(
                f"function {function.name!r} has trigger direct, which is Lambda's; leave it out: the dispatcher "
                "watches the places and calls the service"
            )
        if function.image.startswith("docker-archive:"):
            raise InvalidInput("a cluster fetches images from a registry, so the image cannot be an archive; push it")
        if not function.model and not function.script and not function.command:
            raise InvalidInput(
                f"function {function.name!r} names neither script nor command, and a service of OSCAR runs one; write "
                "it"
            )
        visibility = str(function.settings.get("visibility") or "private")
        if visibility != "private" and not function.model and any("{{" in one for one in function.environment.values()):
            raise InvalidInput(
                f"function {function.name!r} has secrets in its environment, and those who may see its service "
                f"(visibility {visibility}) could read them in the bucket of its calls; keep it private, or leave them "
                "out"
            )
        self._remember(Cluster.of(function))
        await checking.check(self.cluster(Cluster.of(function)), function, function.image)

    async def _image(self, function: Function, model: Model) -> str:
        image = await asyncio.to_thread(self._models.image, model)
        if image is None:
            raise InvalidInput(
                f"model {model.name!r}, version {model.version}, has no serving image: run the cycle again with an "
                "engine (`volvox cycle`), or name runtime local"
            )
        if not image.pushed:
            raise InvalidInput(
                f"the serving image {image.name} was pushed to no registry that the cluster could fetch it from: set "
                "VOLVOX_REGISTRY and run the cycle again"
            )
        await checking.check(self.cluster(Cluster.of(function)), function, image.pushed)
        return image.pushed

    async def _prepared(self, made: ScriptVersion) -> None:
        await self._agreed(made)

    async def _start(self, made: ImageVersion) -> Server:
        return await self._exposed(made).start()

    async def _stop(self, made: ImageVersion, server: Server) -> None:
        await self._exposed(made).stop(server)

    async def _take_up(self, kept: ImageVersion) -> Callable[[], Awaitable[None]]:
        service = self._exposed(kept)
        if (await service.deployment()).get("state") in ("ready", "degraded"):
            kept.servers.take_over(await service.server())
        return lambda: self._remove_others(kept)

    async def _unchanged(self, present: ImageVersion | ScriptVersion) -> None:
        for told in await self.repair(present.function.name):
            log.warning("function %r: %s; it was mended", present.function.name, told)

    async def _clear(self, made: ImageVersion) -> None:
        try:
            await self._exposed(made).delete()
        except VolvoxError as error:  # the next dispatcher removes it
            log.warning("the service of %r could not be deleted: %s", made.function.name, error)

    async def _why_gone(self, made: ImageVersion, server: Server, reason: str) -> tuple[Kind, str]:
        told: Mapping[str, Any] = {}
        for pause in _LOOK_AGAIN_SECONDS:  # the cluster notices later than we do
            await asyncio.sleep(pause)
            try:
                told = await self._exposed(made).deployment()
            except VolvoxError:
                return "gone", reason
            if told.get("state") != "ready" or told.get("reason"):
                break
        if not told or told.get("state") == "stopped":
            made.servers.lost(server)
        limit, why = made.function.resources.memory_mb, str(told.get("reason") or "")
        if ("OOMKilled" in why and told.get("state") != "ready") or (limit and asking.OUT_OF_MEMORY in reason):
            return "memory", asking.out_of_memory(limit)
        return "gone", f"{reason}: {why}" if why else reason

    async def _said(self, made: ImageVersion, server: Server) -> str:
        del server
        return await self._exposed(made).said()

    async def _remove_all(self, name: str) -> None:
        self._wanted.pop(name, None)
        for which in self._known_clusters():
            try:
                await self._removed_from(self.cluster(which), function_label(name))
            except VolvoxError as error:
                log.warning("what %s has of %r is removed when it answers: %s", which.called, name, error)

    async def _sweep_engine(self) -> None:
        """Remove services that no function is known for."""
        known = {function_label(path.parent.name) for path in self.folder.glob(f"*/{DEPLOYED}")}
        for which in self._known_clusters():
            cluster = self.cluster(which)
            with contextlib.suppress(VolvoxError):
                for one in await cluster.get(services.SERVICES):
                    if services.is_of(one, self.owner) and one["labels"].get(FUNCTION) not in known:
                        await _deleted(cluster, one)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _body(self, made: ImageVersion | ScriptVersion) -> dict[str, Any]:
        if isinstance(made, ScriptVersion):
            return services.of_script(made.function, owner=self.owner)
        instances = self._wanted.get(made.function.name, made.function.scaling.min_scale)
        return services.of_model(
            made.function, made.image, owner=self.owner, label=made.label, title=made.model.name, instances=instances
        )

    def _exposed(self, made: ImageVersion) -> Exposed:
        if made not in self._services:
            cluster = self.cluster(Cluster.of(made.function))
            seconds = OscarSettings.of(made.function).start_seconds
            self._services[made] = Exposed(cluster, self._body(made), seconds)
        return self._services[made]

    async def _agreed(self, made: ImageVersion | ScriptVersion) -> None:
        """Have its service be what it should be."""
        if isinstance(made, ImageVersion):
            await self._exposed(made).agree()
            return
        cluster, body = self.cluster(Cluster.of(made.function)), self._body(made)
        there = await cluster.find(services.path_of(body["name"]))
        if there is None:
            if await cluster.create(services.SERVICES, body):
                return
            there = await cluster.get(services.path_of(body["name"]))
        if not services.is_of(there, self.owner, function_label(made.function.name)):
            raise InvalidInput(
                f"{cluster.called} has a service {body['name']!r} that was not made here for function "
                f"{made.function.name!r}; delete it there, or have this one called otherwise: settings name"
            )
        if services.differs(body, there):
            await cluster.write("PUT", services.SERVICES, body)

    async def _have(self, made: ImageVersion, instances: int) -> None:
        """Wait until the cluster has so many, as long as one may take to start."""
        service = self._exposed(made)
        deadline = time.monotonic() + OscarSettings.of(made.function).start_seconds
        while instances > 1 and time.monotonic() < deadline:
            if int((await service.deployment()).get("active_instances") or 0) >= instances:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _remove_others(self, kept: ImageVersion) -> None:
        """Services of the function's other versions, which a dispatcher that was killed has left."""
        cluster, label = self.cluster(Cluster.of(kept.function)), function_label(kept.function.name)
        for one in await cluster.get(services.SERVICES):
            if services.is_of(one, self.owner, label) and services.version_of(one) != kept.label:
                await _deleted(cluster, one)

    async def _removed_from(self, cluster: OscarCluster, label: str) -> None:
        """Delete services with their jobs."""
        for one in await cluster.get(services.SERVICES):
            if services.is_of(one, self.owner, label):
                with contextlib.suppress(VolvoxError):
                    await cluster.ask("DELETE", f"/system/logs/{one['name']}", query={"all": "true"})
                await _deleted(cluster, one)

    def _known_clusters(self) -> list[Cluster]:
        """Every cluster in which something may have been made."""
        try:
            told = json.loads((self.folder / "clusters.json").read_text())
        except FileNotFoundError:
            return []
        return [Cluster(one["name"], tuple(map(tuple, one["described"])), one["reference"]) for one in told]

    def _remember(self, which: Cluster) -> None:
        """Keep it, before anything is made there."""
        known = self._known_clusters()
        if which not in known:
            replace_text(self.folder / "clusters.json", json.dumps([asdict(one) for one in [*known, which]]))


async def _deleted(cluster: OscarCluster, there: dict[str, Any]) -> None:
    """Delete a service and the bucket of its calls, but never others that somebody has given it meanwhile.

    Raises:
        InvalidInput: If it has others, whose data the cluster would delete with it.
    """
    if services.other_buckets(there):
        await cluster.write("PUT", services.SERVICES, services.without_other_buckets(there))
        there = await cluster.get(services.path_of(there["name"]))
        if others := services.other_buckets(there):
            raise InvalidInput(
                f"{cluster.called} would delete {', '.join(sorted(others))} with the service {there['name']!r}, and "
                "what is in there is not ours; take them out of it first"
            )
    await cluster.write("DELETE", services.path_of(there["name"]))
