"""What runtimes with images have in common: a model behind a server asked over HTTP, a script for each call.

In the folder of a function (`volvox.runtimes.kept`) lie `logs/`, and `calls/` of scripts. A class of an engine says how
a server is started and ended, what of the time before is found again, and what is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import httpx

from volvox.errors import ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes import answers, asking, printed
from volvox.runtimes.asking import Asked
from volvox.runtimes.images import ImageVersion
from volvox.runtimes.instances import Moved, Scale
from volvox.runtimes.interface import Call, Kind, Outcome, Status, check_scale
from volvox.runtimes.kept import Kept
from volvox.runtimes.models import Model, Models
from volvox.runtimes.scripts import ScriptVersion, Secret, Start, finished
from volvox.runtimes.servers import Server, Servers

log = logging.getLogger(__name__)


class ServedRuntime:
    """The protocol `Runtime`, for what an engine starts from images."""

    name: ClassVar[str]
    fetches = False
    where: ClassVar[str]
    """Where its functions are, as people say it: `in containers of this machine`."""

    finds_orphans: ClassVar[bool] = False
    """Whether what could not be removed is found by the next dispatcher, though nothing is written of it any more."""

    def __init__(self, folder: Path, models: Models, script: Start, secret: Secret | None) -> None:
        """A runtime without functions, or with those that are in its folder."""
        self.folder = folder
        self._models, self._script, self._secret = models, script, secret
        self._http = asking.client()
        self._kept = Kept(folder, self._read)
        self._retiring: dict[ImageVersion, asyncio.Task[None]] = {}
        self._removed: set[str] = set()
        self._swept: asyncio.Task[None] | None = None

    # -- what an engine brings -------------------------------------------------------------------------------------

    async def _asking(self, made: ImageVersion) -> httpx.AsyncClient:  # noqa: ARG002 - one for all, as a rule
        """The client that its servers are asked with."""
        return self._http

    async def _check(self, function: Function) -> None:
        """Raise InvalidInput if the engine cannot run it, Unavailable if it is not there."""
        raise NotImplementedError

    async def _image(self, function: Function, model: Model) -> str:
        """The image that serves the model; raises InvalidInput if there is none."""
        raise NotImplementedError

    async def _start(self, made: ImageVersion) -> Server:
        """Start a server and wait until it is ready; raises ModuleFailed if it does not become so."""
        raise NotImplementedError

    async def _stop(self, made: ImageVersion, server: Server) -> None:
        """End a server that has nothing left to do."""
        raise NotImplementedError

    async def _take_up(self, kept: ImageVersion) -> Callable[[], Any]:
        """Find the servers of the time before; what is returned is called and awaited once they were taken over."""
        raise NotImplementedError

    async def _unchanged(self, present: ImageVersion | ScriptVersion) -> None:
        """It was deployed again as it is: what is missing of it is made."""

    async def _prepared(self, made: ScriptVersion) -> None:
        """Make what calls of a script need beside themselves."""

    def _scale(self, function: Function) -> tuple[Scale, int]:
        """How many servers of a model there may be, and at how many calls each may be."""
        scaling = function.scaling
        places = scaling.batch * scaling.concurrency
        return Scale(scaling.min_scale, scaling.max_scale, scaling.idle_seconds), places

    async def _answers(self, made: ImageVersion) -> None:
        """It was proved, and calls go to it from now on: whatever else leads to it is told."""

    async def _clear(self, made: ImageVersion) -> None:
        """Its servers have ended: remove what else there is of it."""

    async def _why_gone(self, made: ImageVersion, server: Server, reason: str) -> tuple[Kind, str]:
        """Why a server did not answer; one that is of no use any more is lost to `made.servers`."""
        raise NotImplementedError

    async def _said(self, made: ImageVersion, server: Server) -> str:
        """What the engine has of what it printed."""
        raise NotImplementedError

    async def _remove_all(self, name: str) -> None:
        """Remove whatever the engine has of a function."""
        raise NotImplementedError

    async def _sweep_engine(self) -> None:
        """Remove what the calls of a dispatcher that is gone have left."""
        raise NotImplementedError

    # -- the protocol ----------------------------------------------------------------------------------------------

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`."""
        await self._sweep()
        async with self._kept.lock(function.name):
            self._removed.discard(function.name)
            present = await self._there(function.name)
            if not function.model:
                await self._deploy_script(function, version, present)
                return
            model = await asyncio.to_thread(self._models.resolve, function.model)
            before = present if isinstance(present, ImageVersion) else None
            if before is not None and before.version == version and before.model.digest == model.digest:
                await self._unchanged(before)
                return
            await self._check(function)
            made = self._made(function, version, model, await self._image(function, model))
            try:
                await self._prove(made, tell)
                await self._answers(made)
                self._kept.write(function.name, made.as_json())
            except BaseException:
                await made.servers.end()
                await self._clear(made)
                if present is None:
                    shutil.rmtree(self.folder / function.name, ignore_errors=True)
                raise
            self._kept.present[function.name] = made
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
            raise NotFound(f"function {name!r} is not deployed {self.where}; apply its file first")
        return await finished(*(self._call(name, call) for call in calls))

    async def scale(self, name: str, instances: int) -> None:
        """As `Runtime.scale`; so many are kept from then on. Of a script none is kept.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
            ModuleFailed: If they do not start.
        """
        async with self._kept.lock(name):
            found = await self._there(name)
            if found is None:
                raise NotFound(f"function {name!r} is not deployed {self.where}")
            if isinstance(found, ScriptVersion):
                return
            check_scale(found.function, instances)
            told = found.servers.scale
            found.servers.scale = Scale(instances, told.most, told.idle_seconds)
        await found.servers.have(instances)  # a new version need not wait for these
        if found.servers.ready < instances and found.servers.reason and self._kept.present.get(name) is found:
            raise ModuleFailed(found.servers.reason)

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """As `Runtime.logs`; of servers that run, what they have printed by now."""
        found = await self._there(name)
        live = [*found.servers.there] if isinstance(found, ImageVersion) and not follow else []
        async for line in printed.lines(self.folder / name / "logs", follow=follow):
            yield line
        if isinstance(found, ImageVersion):
            for server in live:
                for line in (await self._printed(found, server)).splitlines():
                    yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`."""
        async with self._kept.lock(name):
            self._removed.add(name)
            try:
                found = await self._there(name)
            except Unavailable:
                if not self.finds_orphans:
                    raise
                found = None
            self._kept.leave(name)
            for one in [one for one in self._retiring if one.function.name == name]:
                await one.servers.end()
            if isinstance(found, ScriptVersion):
                await found.end()
            elif found is not None:
                await found.servers.end()
            await self._remove_all(name)
            await self._kept.forget(name)

    async def close(self) -> None:
        """As `Runtime.close`: servers of models go on, calls of scripts end."""
        there = [*self._kept.present.values(), *self._retiring]
        self._kept.present.clear()
        if self._swept is not None:
            self._swept.cancel()
        for one in there:
            await (one.end() if isinstance(one, ScriptVersion) else one.servers.end(containers=False))
        await self._http.aclose()

    # -- deploying -------------------------------------------------------------------------------------------------

    async def _prove(self, made: ImageVersion, tell: Callable[[str], None]) -> None:
        tell(f"starting {made.image[:80]}")
        url, http = (await made.servers.first()).url, await self._asking(made)
        made.arguments = await asking.described(http, url, made.model.name)
        function = made.function
        answers.check_arguments(made.arguments, function.arguments, takes_files=bool(function.inputs))
        samples = await asyncio.to_thread(self._models.samples, made.model)
        await asking.prove(http, Asked(url, made.model.name, made.arguments), samples, made.model.labels)

    def _made(self, function: Function, version: str, model: Model, image: str) -> ImageVersion:
        scale, places = self._scale(function)

        async def end(server: Server) -> None:
            """End a server, and keep what it printed."""
            with contextlib.suppress(VolvoxError, OSError):
                said = await self._printed(made, server)
                if said and self._kept.written(function.name):
                    printed.new_file(self.folder / function.name / "logs").write_text(said)
            await self._stop(made, server)

        made = ImageVersion(
            function, version, model, image, Servers(function.name, scale, places, lambda: self._start(made), end)
        )
        return made

    async def _printed(self, made: ImageVersion, server: Server) -> str:
        """What a server and the module in it have printed."""
        return await self._said(made, server) + await asking.printed(await self._asking(made), server.url)

    async def _deploy_script(
        self, function: Function, version: str, present: ImageVersion | ScriptVersion | None
    ) -> None:
        if present is not None and present.version == version:
            await self._unchanged(present)
            return
        await self._check(function)  # an engine that is not there is told now, not at the first call
        made = ScriptVersion(function, version, self.folder / function.name)
        await self._prepared(made)
        self._kept.present[function.name] = made
        made.folder.mkdir(parents=True, exist_ok=True)
        self._kept.write(
            function.name, {"function": function.model_dump(mode="json"), "version": version, "model": None}
        )
        if present is not None:
            await self._drained(present)

    async def _drained(self, present: ImageVersion | ScriptVersion) -> None:
        """Wait until the version before has answered what it is at, and is gone."""
        if isinstance(present, ScriptVersion):
            await asyncio.shield(present.drained())
            return

        async def retire() -> None:
            await present.servers.retire()
            await self._clear(present)

        task = self._retiring[present] = asyncio.create_task(retire())
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
        # Those that came to this server before may be answered first, if its model answers one at a time.
        seconds = call.timeout_seconds * server.open
        asked = Asked(server.url, found.model.name, found.arguments, function.arguments, function.accept)
        kind, reason = await asking.ask(await self._asking(found), asked, call, seconds)
        return await self._why_gone(found, server, reason) if kind == "gone" else (kind, reason)

    # -- what is kept ----------------------------------------------------------------------------------------------

    async def _there(self, name: str) -> ImageVersion | ScriptVersion | None:
        """The version that calls go to; after a start of the dispatcher with the servers that go on."""
        if name in self._kept.present:
            return self._kept.present[name]
        kept = self._kept.remembered(name)
        if kept is None or isinstance(kept, ScriptVersion):
            return kept if kept is None else self._kept.present.setdefault(name, kept)
        tidy = await self._take_up(kept)
        if name in self._kept.present:  # somebody else was faster
            return self._kept.present[name]
        self._kept.present[name] = kept
        kept.servers.look()
        await tidy()
        return kept

    def _read(self, name: str, told: Mapping[str, Any]) -> ImageVersion | ScriptVersion:
        function = Function.model_validate(told["function"])
        if told["model"] is None:
            return ScriptVersion(function, told["version"], self.folder / name)
        kept = self._made(function, told["version"], Model.from_json(told["model"]), told["image"])
        kept.arguments, kept.servers.start_seconds = told["arguments"], told["cold_seconds"]
        return kept

    async def _sweep(self) -> None:
        """Once: remove what the calls of a dispatcher that is gone have left."""
        if self._swept is None:
            self._swept = asyncio.create_task(self._sweep_engine())
        with contextlib.suppress(VolvoxError):
            await asyncio.shield(self._swept)
