"""Functions on this machine: warm processes of the model API, and scripts as plain processes where that is wanted.

In the folder of a function (`volvox.runtimes.kept`) lie `logs/`, what its instances printed, and `uploads/`, copies of
samples while a new version is proved. A dispatcher that starts again goes on from there: nothing is deployed anew.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput, ModuleFailed, NotFound, VolvoxError
from volvox.functions.definition import Function
from volvox.modules import interpreter
from volvox.runtimes import answers, printed, zygotes
from volvox.runtimes.instances import Blameless, CallAsk, Instances, Late, Moved
from volvox.runtimes.interface import Call, Instance, Kind, Outcome, Status, check_scale
from volvox.runtimes.kept import Kept
from volvox.runtimes.models import Models
from volvox.runtimes.printed import Printed
from volvox.runtimes.scripts import Process, ScriptVersion, Secret, finished
from volvox.runtimes.versions import Version, python_of
from volvox.serving import smoke
from volvox.serving.worker import Worker

_START_SECONDS = 180.0
_FORKED_SECONDS = 10.0  # and three times what a plain start took: then a forked one is stuck

log = logging.getLogger(__name__)


class LocalRuntime:
    """Warm processes of this machine."""

    name = "local"
    fetches = False

    def __init__(self, folder: Path, models: Models, *, secret: Secret | None = None, fork: bool = True) -> None:
        """A runtime without functions, or with those that are in its folder.

        Args:
            folder: This runtime's own.
            models: Where models are found.
            secret: What reads a secret that a script's environment names; it is called for each call.
            fork: Whether cold starts are forked.
        """
        self.folder = folder
        self._models = models
        self._fork = fork
        self._secret = secret
        self._process = Process()
        self._zygotes = zygotes.Zygotes(folder / ".zygotes")
        self._kept = Kept(folder, self._read)
        self._retiring: dict[Version, asyncio.Task[None]] = {}
        self._removed: set[Instances] = set()

    # -- the protocol ----------------------------------------------------------------------------------------------

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`."""
        async with self._kept.lock(function.name):
            if not function.model:
                await self._deploy_script(function, version)
                return
            model = await asyncio.to_thread(self._models.resolve, function.model)
            present = self._kept.get(function.name)
            before = present if isinstance(present, Version) else None
            if before is not None and before.version == version and before.model.digest == model.digest:
                return
            known = before.libraries if before is not None and before.model.module == model.module else []
            made = Version(function, version, model, self._start, libraries=known)
            try:
                await self._prove(made, tell)
                self._kept.write(function.name, made.as_json())
            except BaseException:
                await made.instances.end()
                if present is None:
                    shutil.rmtree(self.folder / function.name, ignore_errors=True)
                raise
            self._kept.present[function.name] = made
            made.instances.look()
            if present is not None:
                tell(f"version {model.version} answers; the one before ends when it has answered what it is at")
                await self._drained(present)

    async def status(self, name: str) -> Status:
        """As `Runtime.status`."""
        found = self._kept.get(name)
        if found is None:
            return Status("absent")
        if isinstance(found, ScriptVersion):
            return Status("ready", found.version, "", tuple(found.told()), found.start_seconds)
        instances: list[Instance] = []
        for one in (found, *(old for old in self._retiring if old.function.name == name)):
            instances += one.instances.told(one.version)
        failing = found.instances.reason if not found.instances.ready else ""
        return Status(
            "failed" if failing else "ready", found.version, failing, tuple(instances), found.instances.start_seconds
        )

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`; calls of several invocations are answered together too."""
        self._get(name)
        return await finished(*(self._call(name, call) for call in calls))

    async def scale(self, name: str, instances: int) -> None:
        """As `Runtime.scale`; so many are kept from then on.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
            ModuleFailed: If they do not start.
        """
        async with self._kept.lock(name):
            found = self._get(name)
            if isinstance(found, ScriptVersion):
                return  # a process for each call: there is nothing to keep warm
            check_scale(found.function, instances)
            found.instances.scale = replace(found.instances.scale, least=instances)
            await found.instances.have(instances)
            if found.instances.ready < instances and found.instances.reason:
                raise ModuleFailed(found.instances.reason)

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """As `Runtime.logs`."""
        async for line in printed.lines(self.folder / name / "logs", follow=follow):
            yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`."""
        async with self._kept.lock(name):
            found = self._kept.leave(name)
            for one in [one for one in self._retiring if one.function.name == name]:
                self._removed.add(one.instances)
                await one.instances.end()
            if isinstance(found, ScriptVersion):
                await found.end()
            elif found is not None:
                self._removed.add(found.instances)
                await found.instances.end()
            await self._kept.forget(name)

    async def close(self) -> None:
        """As `Runtime.close`."""
        there = [*self._kept.present.values(), *self._retiring]
        self._kept.present.clear()
        await asyncio.gather(*(one.end() if isinstance(one, ScriptVersion) else one.instances.end() for one in there))
        await self._zygotes.close()

    # -- deploying -------------------------------------------------------------------------------------------------

    async def _prove(self, made: Version, tell: Callable[[str], None]) -> None:
        """Start one, look whether it takes what the function gives it, and ask it the model's samples."""
        function, instances = made.function, made.instances
        tell(f"starting version {made.model.version} of model {made.model.name!r}")
        await instances.one()
        made.described = instances.description
        described = made.described.get("predict", [])
        answers.check_arguments(described, function.arguments, takes_files=bool(function.inputs))
        samples = await asyncio.to_thread(self._models.samples, made.model)
        if samples:
            tell(f"asking it {len(samples)} held-out files")
        uploads = self.folder / function.name / "uploads"
        uploads.mkdir(parents=True, exist_ok=True)
        await smoke.prove(instances, samples, uploads)
        if self._fork and not made.libraries:
            told = await instances.predict({"libraries": True, "alone": True})
            made.libraries = json.loads(told.body)
            self._prepare(made)

    async def _start(self, made: Version) -> tuple[Worker, Path]:
        """Start an instance: forked where that is possible."""
        try:
            weights = await asyncio.to_thread(self._models.weights, made.model)
            python = (await asyncio.to_thread(interpreter.inspect, python_of(made.function))).path
        except VolvoxError as error:
            raise ModuleFailed(f"model {made.model.name!r} did not start: {error}") from error
        output = printed.new_file(self.folder / made.function.name / "logs")
        start = functools.partial(
            Worker.start,
            made.model.module,
            environment={"VOLVOX_WEIGHTS": str(weights)} if weights else {},
            log=output,
            batch=made.function.scaling.batch,
            python=python,
        )
        self._prepare(made)
        zygote = self._zygotes.get(made.zygote)
        if zygote is not None:
            patience = min(_START_SECONDS, _FORKED_SECONDS + 3 * made.plain_seconds)
            try:
                return await start(seconds=patience, spawn=functools.partial(zygotes.start, zygote)), output
            except ModuleFailed as error:
                failed = error
            log.warning("function %r: %s; started anew instead of forked", made.function.name, failed)
        began = time.monotonic()
        worker = await start(seconds=_START_SECONDS)
        made.plain_seconds = time.monotonic() - began
        if zygote is not None:  # it is the fork that does not work: not tried again
            made.libraries, made.zygote = [], ""
        return worker, output

    def _prepare(self, made: Version) -> None:
        if self._fork and made.libraries:
            made.zygote = self._zygotes.prepare(python_of(made.function), made.libraries)

    async def _deploy_script(self, function: Function, version: str) -> None:
        if not function.settings.get("as_process"):
            raise InvalidInput(
                f"function {function.name!r} is an image, and runtime local has no container engine: name runtime "
                "docker, or say `as_process: true` to have its script run on this machine, without the image"
            )
        if not function.script and not function.command:
            raise InvalidInput(f"function {function.name!r} has neither a script nor a command to run on this machine")
        present = self._kept.get(function.name)
        if present is not None and present.version == version:
            return
        made = self._kept.present[function.name] = ScriptVersion(function, version, self.folder / function.name)
        made.folder.mkdir(parents=True, exist_ok=True)
        self._kept.write(
            function.name, {"function": function.model_dump(mode="json"), "version": version, "model": None}
        )
        if present is not None:
            await self._drained(present)

    async def _drained(self, present: Version | ScriptVersion) -> None:
        """Wait until the version before has answered what it is at, and is gone."""
        await asyncio.shield(present.drained() if isinstance(present, ScriptVersion) else self._retire(present))

    def _retire(self, version: Version) -> asyncio.Task[None]:
        """Have the calls it was not at put to the new version, and end it when it has answered the others."""
        version.instances.give_back()
        task = self._retiring[version] = asyncio.create_task(version.instances.retire())
        task.add_done_callback(lambda _: self._retiring.pop(version, None))
        return task

    # -- calls -----------------------------------------------------------------------------------------------------

    async def _call(self, name: str, call: Call) -> Outcome:
        clock = asyncio.get_running_loop().time
        arrived, alone = clock(), False
        while True:
            found = self._kept.get(name)
            if found is None:
                return Outcome(call.job, "cancelled", f"function {name!r} was removed")
            if isinstance(found, ScriptVersion):
                return await found.call(call, self._process, self._secret)
            cold = not found.instances.ready
            following: list[Printed] = []

            def taken(worker: Worker, found: Version = found, following: list[Printed] = following) -> None:
                if call.log is not None and (source := found.instances.log_of(worker)):
                    following.append(Printed(source, call.log))

            try:
                asked = answers.request(
                    call, found.described.get("predict", []), found.function.arguments, found.function.accept
                )
            except InvalidInput as error:
                return Outcome(call.job, "refused", str(error), version=found.version)
            ask = CallAsk(asked, call.timeout_seconds, taken)
            ask.alone = alone
            try:
                kind, reason = await self._asked(found, ask, call)
            except Moved:
                continue
            except Blameless as error:
                alone = alone or error.together
                continue
            finally:
                ask.done()
                for one in following:
                    one.end()
                if ask.last is not None and not ask.last.open and (output := found.instances.log_of(ask.last)):
                    printed.shorten(output)
            began = ask.taken or clock()
            return Outcome(
                call.job, kind, reason, seconds=clock() - began, started_seconds=began - arrived if cold else 0.0,
                version=found.version,
            )  # fmt: skip

    async def _asked(self, found: Version, ask: CallAsk, call: Call) -> tuple[Kind, str]:
        """Put a call to the instances of a version; what went wrong, if anything.

        Raises:
            Moved: If another version answers now.
            Blameless: If its time is over by the fault of another call.
        """
        instances = found.instances
        try:
            instances.submit(ask)
            answer = await ask.future
        except Late:
            await instances.late(ask)
            return "timeout", f"it took longer than {call.timeout_seconds:g} s"
        except asyncio.CancelledError:
            await asyncio.shield(instances.left(ask))
            raise
        except VolvoxError as error:
            if instances in self._removed:
                return "cancelled", f"function {found.function.name!r} was removed"
            if instances.beyond_memory(ask.last):
                return "memory", str(error)
            return "gone" if ask.last is not None else "transient", str(error)
        if error := answer.header.get("error"):
            return answers.failure(error)
        return answers.keep(call, answer.header["content_type"], answer.body)

    # -- what is kept ----------------------------------------------------------------------------------------------

    def _get(self, name: str) -> Version | ScriptVersion:
        if (found := self._kept.get(name)) is None:
            raise NotFound(f"function {name!r} is not deployed on this machine; apply its file first")
        return found

    def _read(self, name: str, told: Mapping[str, Any]) -> Version | ScriptVersion:
        if told["model"] is None:
            return ScriptVersion(Function.model_validate(told["function"]), told["version"], self.folder / name)
        kept = Version.from_json(dict(told), self._start)
        self._prepare(kept)
        kept.instances.look()
        return kept
