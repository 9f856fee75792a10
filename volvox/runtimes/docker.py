"""Functions in containers of this machine: a model's serving image kept warm, a script's image for each call.

What is made on the engine carries labels: whose it is (the folder), of which function and version, and for what; so a
dispatcher that starts again finds warm containers, and removes those of calls that nobody waits for any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from volvox.errors import ModuleFailed, Unavailable
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.packaging.context import PORT
from volvox.runtimes import asking
from volvox.runtimes.container_calls import ContainerCall
from volvox.runtimes.engine import DISPATCHER, VERSION, Engine
from volvox.runtimes.engines import Container
from volvox.runtimes.images import ImageVersion, how_it_ended, image_of, left
from volvox.runtimes.interface import Kind
from volvox.runtimes.models import Model, Models
from volvox.runtimes.scripts import Secret
from volvox.runtimes.served import ServedRuntime
from volvox.runtimes.servers import Server

_START_SECONDS = 180.0
_USER = "1000:1000"


class DockerRuntime(ServedRuntime):
    """Containers of the engine that is here: Docker, Podman, and for scripts udocker or Apptainer too."""

    name = "docker"
    where = "in containers of this machine"

    def __init__(self, folder: Path, models: Models, *, engine: str = "", secret: Secret | None = None) -> None:
        """A runtime without functions, or with those that are in its folder.

        Args:
            folder: This runtime's own.
            models: Where models and their images are found.
            engine: `docker`, `podman`, `udocker` or `apptainer`; empty: the first of them that is installed.
            secret: What reads a secret that a script's environment names.
        """
        self.engine = Engine(digest_of(str(folder.absolute()))[:16], engine)
        self._number = 0
        super().__init__(folder, models, ContainerCall(self.engine), secret)

    async def _check(self, function: Function) -> None:  # noqa: ARG002 - any function will do
        _ = self.engine.kind

    async def _image(self, function: Function, model: Model) -> str:  # noqa: ARG002 - any function will do
        return await image_of(self.engine, self._models, model)

    async def _start(self, made: ImageVersion) -> Server:
        """Run a container and wait until its health check passes."""
        function, needs = made.function, made.function.resources
        labels = self.engine.labels(function.name, made.label, "instance")
        self._number += 1
        name = f"volvox-{function.name[:60]}-{digest_of([labels[DISPATCHER], id(made), self._number])[:10]}"
        container = Container(
            name=name, image=made.image, arguments=asking.server_arguments(function),
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

    async def _stop(self, made: ImageVersion, server: Server) -> None:  # noqa: ARG002 - its id says all
        await self.engine.remove(server.id)  # it has nothing to do: there is no need to ask

    async def _said(self, made: ImageVersion, server: Server) -> str:  # noqa: ARG002 - its id says all
        return await self.engine.logs(server.id)

    async def _why_gone(self, made: ImageVersion, server: Server, reason: str) -> tuple[Kind, str]:
        there = await self.engine.look(server.id)
        if there is None or not there.running or there.out_of_memory:
            made.servers.lost(server)
        limit = made.function.resources.memory_mb
        if (there is not None and there.out_of_memory) or (limit and asking.OUT_OF_MEMORY in reason):
            return "memory", asking.out_of_memory(limit)
        return "gone", reason

    async def _take_up(self, kept: ImageVersion) -> Callable[[], Awaitable[None]]:
        containers = await self.engine.all(function=kept.function.name, role="instance")
        for one in containers:
            if one.running and one.port and one.labels.get(VERSION) == kept.label:
                kept.servers.take_over(Server(one.id, f"http://127.0.0.1:{one.port}"))
        return lambda: self.engine.remove(*(one.id for one in containers if left(one, kept.label)))

    async def _remove_all(self, name: str) -> None:
        with contextlib.suppress(Unavailable):  # without an engine there is none of its containers
            if self.engine.keeps:
                await self.engine.remove(*(one.id for one in await self.engine.all(function=name)))

    async def _sweep_engine(self) -> None:
        await self.engine.sweep()
