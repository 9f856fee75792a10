"""Functions in containers of this machine: a model's serving image kept warm, a script's image for each call.

Below the runtime's folder lies a folder for each function, as `volvox.runtimes.local` has it. What is made on the
engine carries labels: whose it is (the folder), of which function and version, and for what; so a dispatcher that
starts again finds warm containers, and removes those of calls that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from volvox.disks import replace_text
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.packaging.context import PORT
from volvox.runtimes import answers, asking, printed
from volvox.runtimes.asking import Asked
from volvox.runtimes.container_calls import ContainerCall
from volvox.runtimes.engine import DISPATCHER, VERSION, Engine
from volvox.runtimes.engines import Container
from volvox.runtimes.images import ImageVersion, how_it_ended, image_of, left
from volvox.runtimes.instances import Moved, Scale
from volvox.runtimes.interface import Call, Kind, Outcome, Status
from volvox.runtimes.models import Model, Models
from volvox.runtimes.scripts import ScriptVersion, Secret, finished
from volvox.runtimes.servers import Server, Servers

_START_SECONDS = 180.0
_USER = "1000:1000"

log = logging.getLogger(__name__)


class DockerRuntime:
    """Containers of the engine that is here: Docker, Podman, and for scripts udocker or Apptainer too."""

    name = "docker"
    fetches = False

    def __init__(self, folder: Path, models: Models, *, engine: str = "", secret: Secret | None = None) -> None:
        """A runtime without functions, or with those that are in its folder.

        Args:
            folder: This runtime's own.
            models: Where models and their images are found.
            engine: `docker`, `podman`, `udocker` or `apptainer`; empty: the first of them that is installed.
            secret: What reads a secret that a script's environment names.
        """
        self.folder = folder
        self.engine = Engine(digest_of(str(folder.absolute()))[:16], engine)
        self._models, self._secret = models, secret
        self._script = ContainerCall(self.engine)
        self._http = asking.client()
        self._all: dict[str, ImageVersion | ScriptVersion] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._retiring: dict[ImageVersion, asyncio.Task[None]] = {}
        self._removed: set[str] = set()
        self._swept: asyncio.Task[None] | None = None

    # -- the protocol ----------------------------------------------------------------------------------------------

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`."""
        await self._sweep()
        async with self._lock(function.name):
            self._removed.discard(function.name)
            present = await self._there(function.name)
            if not function.model:
                await self._deploy_script(function, version, present)
                return
            model = await asyncio.to_thread(self._models.resolve, function.model)
            before = present if isinstance(present, ImageVersion) else None
            if before is not None and before.version == version and before.model.digest == model.digest:
                return
            made = self._made(function, version, model, await image_of(self.engine, self._models, model))
            try:
                await self._prove(made, tell)
                self._write(function.name, made.as_json())
            except BaseException:
                await made.servers.end()
                if present is None:
                    shutil.rmtree(self.folder / function.name, ignore_errors=True)
                raise
            self._all[function.name] = made
            made.servers.look()
            if present is not None:
                tell(f"version {model.version} answers; the one before ends when it has answered what it is at")
                await self._drained(present)

    async def status(self, name: str) -> Status:
        """As `Runtime.status`."""
        found = await self._there(name)
        if found is None:
            return Status("absent")
        if isinstance(found, ScriptVersion):
            return Status("ready", found.version, "", tuple(found.told()), found.start_seconds)
        instances = found.servers.told(found.version)
        for old in self._retiring:
            if old.function.name == name:
                instances += old.servers.told(old.version)
        failing = found.servers.reason if not found.servers.ready else ""
        return Status(
            "failed" if failing else "ready", found.version, failing, tuple(instances), found.servers.start_seconds
        )

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`."""
        await self._sweep()
        if await self._there(name) is None:
            raise NotFound(f"function {name!r} is not deployed in containers of this machine; apply its file first")
        return await finished(*(self._call(name, call) for call in calls))

    async def scale(self, name: str, instances: int) -> None:
        """As `Runtime.scale`; so many are kept from then on. Of a script none is kept.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
            ModuleFailed: If they do not start.
        """
        async with self._lock(name):
            found = await self._there(name)
            if found is None:
                raise NotFound(f"function {name!r} is not deployed in containers of this machine")
            if isinstance(found, ScriptVersion):
                return
            most = found.function.scaling.max_scale
            if not 0 <= instances <= most:
                raise InvalidInput(f"function {name!r} has 0 to {most} instances (its max_scale), not {instances}")
            told = found.servers.scale
            found.servers.scale = Scale(instances, told.most, told.idle_seconds)
            await found.servers.have(instances)
            if found.servers.ready < instances and found.servers.reason:
                raise ModuleFailed(found.servers.reason)

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """As `Runtime.logs`; of containers that run, what they have printed by now."""
        found = await self._there(name)
        live = [*found.servers.there] if isinstance(found, ImageVersion) and not follow else []
        async for line in printed.lines(self.folder / name / "logs", follow=follow):
            yield line
        for server in live:
            for line in (await self._printed(server)).splitlines():
                yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`."""
        async with self._lock(name):
            self._removed.add(name)
            found = await self._there(name)
            self._all.pop(name, None)
            (self.folder / name / "deployed.json").unlink(missing_ok=True)
            for one in [one for one in self._retiring if one.function.name == name]:
                await one.servers.end()
            if isinstance(found, ScriptVersion):
                await found.end()
            elif found is not None:
                await found.servers.end()
            with contextlib.suppress(Unavailable):  # without an engine there is none of its containers
                if self.engine.keeps:
                    await self.engine.remove(*(one.id for one in await self.engine.all(function=name)))
            await asyncio.to_thread(shutil.rmtree, self.folder / name, ignore_errors=True)

    async def close(self) -> None:
        """As `Runtime.close`: containers that keep a model go on, those of calls end."""
        there = [*self._all.values(), *self._retiring]
        self._all.clear()
        if self._swept is not None:
            self._swept.cancel()
        for one in there:
            await (one.end() if isinstance(one, ScriptVersion) else one.servers.end(containers=False))
        await self._http.aclose()

    # -- deploying -------------------------------------------------------------------------------------------------

    async def _prove(self, made: ImageVersion, tell: Callable[[str], None]) -> None:
        tell(f"starting a container of {made.image[:80]}")
        url = (await made.servers.first()).url
        made.arguments = await asking.described(self._http, url, made.model.name)
        function = made.function
        answers.check_arguments(made.arguments, function.arguments, takes_files=bool(function.inputs))
        samples = await asyncio.to_thread(self._models.samples, made.model)
        await asking.prove(self._http, Asked(url, made.model.name, made.arguments), samples, made.model.labels)

    async def _start(self, made: ImageVersion) -> Server:
        """Run a container and wait until its health check passes."""
        function, needs = made.function, made.function.resources
        labels = self.engine.labels(function.name, made.label, "instance")
        name = f"volvox-{function.name[:60]}-{digest_of([labels[DISPATCHER], id(made), self._next()])[:10]}"
        container = Container(
            name=name,
            image=made.image,
            arguments=("--deadline", str(asking.DEADLINE_SECONDS), "--queue", "4096", "--client-max-size", "0",
                       "--debug-endpoint", "--batch", str(function.scaling.batch)),
            labels=labels, user=_USER, memory_mb=needs.memory_mb or 0, cpu=needs.cpu or 0.0, gpus=needs.gpus,
            port=PORT,
        )  # fmt: skip
        try:
            found = await self.engine.look(await self.engine.start(container))
            url = f"http://127.0.0.1:{found.port}" if found else ""
            waiting = asyncio.create_task(asking.ready(self._http, url))
            deadline = asyncio.get_running_loop().time() + _START_SECONDS
            try:
                while found is not None and found.running and asyncio.get_running_loop().time() < deadline:
                    if (await asyncio.wait([waiting], timeout=0.3))[0]:
                        return Server(found.id, url)
                    found = await self.engine.look(name)
            finally:
                waiting.cancel()
            said = (await self.engine.logs(name, 20))[-1500:].strip() or "nothing"
            how = "was not ready in time" if found and found.running else how_it_ended(found)
            raise ModuleFailed(f"the container of model {made.model.name!r} {how}; it said: {said}")
        except BaseException:
            await asyncio.shield(self.engine.remove(name))
            raise

    def _made(self, function: Function, version: str, model: Model, image: str) -> ImageVersion:
        scaling = function.scaling
        scale = Scale(scaling.min_scale, scaling.max_scale, scaling.idle_seconds)
        places = scaling.batch * scaling.concurrency

        async def end(server: Server) -> None:
            """End a container, and keep what it printed."""
            with contextlib.suppress(VolvoxError, OSError):
                said = await self._printed(server)
                if said and (self.folder / function.name / "deployed.json").exists():
                    printed.new_file(self.folder / function.name / "logs").write_text(said)
            await self.engine.remove(server.id)  # it has nothing to do: there is no need to ask

        made = ImageVersion(
            function, version, model, image, Servers(function.name, scale, places, lambda: self._start(made), end)
        )
        return made

    async def _printed(self, server: Server) -> str:
        """What a container and the module in it have printed."""
        return await self.engine.logs(server.id) + await asking.printed(self._http, server.url)

    async def _deploy_script(
        self, function: Function, version: str, present: ImageVersion | ScriptVersion | None
    ) -> None:
        if present is not None and present.version == version:
            return
        _ = self.engine.kind  # an engine that is not there is told now, not at the first call
        made = self._all[function.name] = ScriptVersion(function, version, self.folder / function.name)
        made.folder.mkdir(parents=True, exist_ok=True)
        self._write(function.name, {"function": function.model_dump(mode="json"), "version": version, "model": None})
        if present is not None:
            await self._drained(present)

    async def _drained(self, present: ImageVersion | ScriptVersion) -> None:
        """Wait until the version before has answered what it is at, and is gone."""
        if isinstance(present, ScriptVersion):
            await asyncio.shield(present.drained())
            return
        task = self._retiring[present] = asyncio.create_task(present.servers.retire())
        task.add_done_callback(lambda _: self._retiring.pop(present, None))
        await asyncio.shield(task)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def _call(self, name: str, call: Call) -> Outcome:
        clock = asyncio.get_running_loop().time
        arrived = clock()
        while True:
            found = await self._there(name)
            if found is None:
                return Outcome(call.job, "cancelled", f"function {name!r} was removed")
            if isinstance(found, ScriptVersion):
                return await found.call(call, self._script, self._secret)
            cold, began = not found.servers.ready, arrived
            try:
                async with found.servers.one() as server:
                    began = clock()
                    kind, reason = await self._asked(found, server, call)
            except Moved:
                continue
            except VolvoxError as error:
                kind, reason = "transient", str(error)
            if kind in ("gone", "transient") and name in self._removed:
                kind, reason = "cancelled", f"function {name!r} was removed"
            return Outcome(
                call.job, kind, reason, seconds=clock() - began, started_seconds=began - arrived if cold else 0.0,
                version=found.version,
            )  # fmt: skip

    async def _asked(self, found: ImageVersion, server: Server, call: Call) -> tuple[Kind, str]:
        function = found.function
        # Those that came to this container before may be answered first, if its model answers one at a time.
        seconds = call.timeout_seconds * server.open
        asked = Asked(server.url, found.model.name, found.arguments, function.arguments, function.accept)
        kind, reason = await asking.ask(self._http, asked, call, seconds)
        if kind != "gone":
            return kind, reason
        there = await self.engine.look(server.id)
        if there is None or not there.running or there.out_of_memory:
            found.servers.lost(server)
        limit = function.resources.memory_mb
        if (there is not None and there.out_of_memory) or (limit and asking.OUT_OF_MEMORY in reason):
            return "memory", f"the kernel ended it for lack of memory{f' (it may use {limit} MB)' if limit else ''}"
        return "gone", reason

    # -- what is kept ----------------------------------------------------------------------------------------------

    async def _there(self, name: str) -> ImageVersion | ScriptVersion | None:
        """The version that calls go to; after a start of the dispatcher with the containers that go on."""
        if name in self._all:
            return self._all[name]
        try:
            told = json.loads((self.folder / name / "deployed.json").read_text())
            function = Function.model_validate(told["function"])
            if told["model"] is None:
                return self._all.setdefault(name, ScriptVersion(function, told["version"], self.folder / name))
            kept = self._made(function, told["version"], Model.from_json(told["model"]), told["image"])
            kept.arguments, kept.servers.start_seconds = told["arguments"], told["cold_seconds"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("what is deployed as %r cannot be read (%s); deploy it again", name, error)
            return None
        containers = await self.engine.all(function=name, role="instance")
        if name in self._all:  # somebody else was faster
            return self._all[name]
        for one in containers:
            if one.running and one.port and one.labels.get(VERSION) == kept.label:
                kept.servers.take_over(Server(one.id, f"http://127.0.0.1:{one.port}"))
        self._all[name] = kept
        kept.servers.look()
        await self.engine.remove(*(one.id for one in containers if left(one, kept.label)))
        return kept

    async def _sweep(self) -> None:
        """Once: remove the containers of calls whose dispatcher is gone."""
        if self._swept is None:
            self._swept = asyncio.create_task(self.engine.sweep())
        with contextlib.suppress(VolvoxError):
            await asyncio.shield(self._swept)

    def _write(self, name: str, told: dict[str, Any]) -> None:
        replace_text(self.folder / name / "deployed.json", json.dumps(told))

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _next(self) -> int:
        self._number = getattr(self, "_number", 0) + 1
        return self._number
