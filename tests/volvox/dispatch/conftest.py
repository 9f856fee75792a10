"""A dispatcher of the test's own, with a runtime that does what the file's name says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.doing import Applied
from volvox.dispatch.publishing import Open
from volvox.functions.definition import Function
from volvox.inbox import ENDED, Arrival, Inbox, Job, open_inbox
from volvox.places import Place, open_place, split
from volvox.runtimes.bulk import Way
from volvox.runtimes.interface import Call, Outcome, Status
from volvox.settings import Home


@dataclass
class Tame:
    """A runtime in this process: it answers a file with its size, unless the file's name tells it otherwise."""

    name: str = "local"
    fetches: bool = False
    seconds: float = 0.0
    asked: list[list[str]] = field(default_factory=list)
    scaled: list[int] = field(default_factory=list)
    deployed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0
    troubles: dict[str, int] = field(default_factory=dict)

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = print) -> None:
        self.deployed.append(version)

    async def status(self, name: str) -> Status:
        return Status("ready")

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        self.asked.append([call.key for call in calls])
        self.at_work += len(calls)
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            return [await self._one(call) for call in calls]
        finally:
            self.at_work -= len(calls)

    async def _one(self, call: Call) -> Outcome:
        await asyncio.sleep(self.seconds)
        name = Path(call.key).name
        if call.log:
            call.log.write_text(f"asked about {name}\n")
        if "slow" in name:
            await asyncio.sleep(60)
        if "exit3" in name:
            return Outcome(call.job, "failed", "the script ended with exit code 3", exit_code=3)
        if self.troubles.get(name, 0) > 0:
            self.troubles[name] -= 1
            return Outcome(call.job, "gone", "its instance ended")
        assert call.output is not None
        size = call.input.stat().st_size if call.input else -1
        (call.output / f"{call.input.name if call.input else name}.json").write_text(json.dumps({"size": size}))
        return Outcome(call.job, seconds=self.seconds)

    async def scale(self, name: str, instances: int) -> None:
        self.scaled.append(instances)

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        for line in ():
            yield line

    async def remove(self, name: str) -> None:
        self.removed.append(name)

    async def close(self) -> None: ...


def opened(url: str, function: Function, provider: str = "") -> Place:
    return open_place(url)


@dataclass
class Running:
    """A dispatcher that runs, its inbox seen from outside, and the folders of one function."""

    home: Home
    inbox: Inbox
    dispatcher: Dispatcher
    runtime: Tame
    source: Path
    target: Path

    def drop(self, name: str, content: bytes = b"abc", **more: Any) -> None:
        """Put a file into the input folder and tell the inbox."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.tell(name, **more)

    def tell(self, name: str, **more: Any) -> None:
        """Tell the inbox that a file is there."""
        self.inbox.record([Arrival(f"file://{self.source}", name, source="upload", **more)])

    async def until(self, what: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Wait until `what` says something."""
        async with asyncio.timeout(seconds):
            while not (told := what()):
                await asyncio.sleep(0.01)
            return told

    async def ended(self, count: int = 1, seconds: float = 20.0) -> list[Job]:
        """Wait until so many jobs have ended; they, the oldest first."""

        def found() -> list[Job]:
            jobs = self.inbox.jobs(states=ENDED, limit=20_000)
            return jobs[::-1] if len(jobs) >= count else []

        return await self.until(found, seconds)

    def answers(self) -> dict[str, Any]:
        """What lies in the output folder: path -> content."""
        return {
            path.relative_to(self.target).as_posix(): json.loads(path.read_bytes())
            for path in self.target.rglob("*")
            if path.is_file()
        }


@dataclass(frozen=True)
class Site:
    """A home, its inbox, and the folders of one function."""

    home: Home
    inbox: Inbox
    source: Path
    target: Path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("VOLVOX_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VOLVOX_INBOX", raising=False)
    home, source, target = Home(tmp_path / "home").ensure(), tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    inbox = open_inbox(home)
    yield Site(home, inbox, source, target)
    inbox.close()


def function(site: Site, **more: Any) -> Function:
    inputs, outputs = [{"url": str(site.source)}], [{"url": str(site.target)}]
    return Function.model_validate(
        {"name": "f", "model": "m", "runtime": "local", "inputs": inputs, "outputs": outputs, **more}
    )


@contextlib.asynccontextmanager
async def dispatching(
    site: Site,
    runtime: Tame | None = None,
    open_place: Open = opened,
    way: Way | None = None,
    **more: Any,
) -> AsyncIterator[Running]:
    """A dispatcher at work on one function."""
    runtime = runtime or Tame()
    own = open_inbox(site.home)
    dispatcher = Dispatcher(site.home, own, runtimes={"local": runtime}, open_place=open_place, split=split, bulk=way)
    await dispatcher.deploy(Applied(function(site, **more), "v1"))
    task = asyncio.create_task(dispatcher.run())
    try:
        yield Running(site.home, site.inbox, dispatcher, runtime, site.source, site.target)
    finally:
        dispatcher.end()
        await task
        own.close()
