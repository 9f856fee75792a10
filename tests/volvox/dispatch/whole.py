"""The whole path in this process: registry, sources, inbox, dispatcher, real processes, places."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.volvox.dispatch.conftest import Site, opened
from tests.volvox.runtimes.tiny import TinyModels, write_tiny
from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.following import Following
from volvox.dispatch.publishing import Open
from volvox.dispatch.sources import Sources
from volvox.dispatch.state import deployed
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.identity import digest_of
from volvox.inbox import ENDED, Arrival, Job, open_inbox
from volvox.places import split
from volvox.runtimes.local import LocalRuntime


@dataclass
class Whole:
    """A dispatcher that follows the registry, with the local runtime.

    Attributes:
        site: The home, the inbox and the folders.
        models: What model functions name.
        runtime: Where functions run.
        dropped: When each file was told of; seconds since the epoch.
    """

    site: Site
    models: TinyModels
    runtime: LocalRuntime
    dropped: dict[str, float] = field(default_factory=dict)

    def version(self, function: Function) -> str:
        """What the dispatcher calls a function, with the version of its model."""
        model = function.model and self.models.resolve(function.model).digest
        return digest_of([function.version, model]) if model else function.version

    async def apply(self, *functions: Function) -> None:
        """Apply functions and wait until each is reported to answer."""
        for one in functions:
            await asyncio.to_thread(registry.apply, self.site.home, one)
        for one in functions:
            await self.answering(self.version(one))

    async def answering(self, wanted: str, seconds: float = 60.0) -> float:
        """Wait until this version is reported to answer, as pages and commands read it; when that was seen."""
        async with asyncio.timeout(seconds):
            while True:
                state = deployed(self.site.home)
                if any(lane["version"] == wanted for lane in state["functions"]):
                    return time.time()
                await asyncio.sleep(0.02)

    def drop(self, name: str, content: str | bytes = "fine", folder: Path | None = None) -> None:
        """Put a file into an input folder and tell the inbox, as an upload does."""
        path = (folder or self.site.source) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.dropped[name] = time.time()
        self.site.inbox.record([Arrival(f"file://{folder or self.site.source}", name)])

    async def until(self, what: Callable[[], Any], seconds: float = 60.0) -> Any:
        """Wait until `what` says something."""
        async with asyncio.timeout(seconds):
            while not (told := what()):
                await asyncio.sleep(0.02)
            return told

    async def ended(self, count: int, seconds: float = 60.0) -> dict[str, Job]:
        """Wait until so many jobs have ended; they, by their keys."""

        def enough() -> bool:
            counts = self.site.inbox.counts().values()
            return sum(one.get(state, 0) for one in counts for state in ENDED) >= count

        await self.until(enough, seconds)
        return {job.key: job for job in self.site.inbox.jobs(states=ENDED, limit=2 * count)}

    def answers(self, folder: Path | None = None) -> dict[str, Any]:
        """What the model answered in the output folder, by file names."""
        found = (folder or self.site.target).glob("*.json")
        return {path.name: json.loads(path.read_bytes())["predictions"] for path in found}


@asynccontextmanager
async def whole(
    site: Site, models: TinyModels, *, open_place: Open = opened, sources: bool = False
) -> AsyncIterator[Whole]:
    """Run it; what is under way is finished when the block is left.

    `sources`: also watch and sweep the input places.
    """
    own = open_inbox(site.home)
    runtime = LocalRuntime(site.home.folder("dispatch", "local"), models)
    dispatcher = Dispatcher(site.home, own, runtimes={"local": runtime}, open_place=open_place, split=split)
    beside = [Following(site.home, dispatcher, lambda name: models.resolve(name).digest).run()]
    if sources:
        beside.append(Sources(site.home, own, open_place).run())
    running, tasks = asyncio.create_task(dispatcher.run()), [asyncio.create_task(one) for one in beside]
    try:
        yield Whole(site, models, runtime)
        assert not running.done(), "the dispatcher goes on, whatever came"
    finally:
        dispatcher.end()
        for task in tasks:
            task.cancel()
        await asyncio.gather(running, *tasks, return_exceptions=True)
        own.close()


def importable(tmp_path: Path) -> str:
    """PYTHONPATH with the tiny module."""
    return os.pathsep.join(filter(None, [str(write_tiny(tmp_path / "site")), os.environ.get("PYTHONPATH")]))


def script(site: Site, text: str, **more: Any) -> Function:
    """A function whose script runs as a process of this machine."""
    places = {"inputs": [{"url": str(site.source)}], "outputs": [{"url": str(site.target)}]}
    told = {"name": "s", "image": "none", "script": text, "runtime": "local", "settings": {"as_process": True}}
    return Function.model_validate({**told, **places, **more})
