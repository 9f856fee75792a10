"""Functions that are removed or moved while nobody dispatches leave nothing where they were."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.volvox.dispatch.conftest import Site, Tame, function, opened
from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.following import Following
from volvox.dispatch.leftovers import left_on
from volvox.errors import InvalidInput, Unavailable
from volvox.functions import registry
from volvox.inbox import open_inbox
from volvox.places import split


@dataclass
class Sulking(Tame):
    """Its engine does not answer at first, and it cannot have everything."""

    silent: int = 0
    refuses: bool = False

    async def deploy(self, *args: object, **more: object) -> None:
        if self.refuses:
            raise InvalidInput("not here")

    async def remove(self, name: str) -> None:
        self.silent -= 1
        if self.silent >= 0:
            raise Unavailable("the engine does not answer")
        self.removed.append(name)


@contextlib.asynccontextmanager
async def following(site: Site, *runtimes: Tame) -> AsyncIterator[Dispatcher]:
    """A dispatcher that follows the registry and has these runtimes."""
    own = open_inbox(site.home)
    there = {one.name: one for one in runtimes}
    dispatcher = Dispatcher(site.home, own, runtimes=there, open_place=opened, split=split)
    running = asyncio.create_task(dispatcher.run())
    follows = asyncio.create_task(Following(site.home, dispatcher, lambda name: name).run())
    try:
        yield dispatcher
    finally:
        dispatcher.end()
        follows.cancel()
        await asyncio.gather(running, follows, return_exceptions=True)
        own.close()


def remember(site: Site, path: str) -> None:
    """As a runtime does that has something of a function."""
    file = site.home.root / "dispatch" / path
    file.parent.mkdir(parents=True)
    file.write_text("{}")


async def until(told: list[str], wanted: list[str]) -> None:
    async with asyncio.timeout(10):
        while told != wanted:
            await asyncio.sleep(0.01)


def test_where_a_function_was_is_known_from_before_anything_is_made(site: Site) -> None:
    for path in ("docker/f/deployed.json", "lambda/f/begun.json", "lambda-batch/batch/g/begun.json", "local/f/logs/x"):
        remember(site, path)
    assert left_on(site.home, ("local", "docker", "lambda", "lambda-batch")) == {
        "f": {"docker", "lambda"}, "g": {"lambda-batch"},
    }  # fmt: skip


def test_what_was_removed_meanwhile_is_removed_and_again_if_its_engine_is_silent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volvox.dispatch.following._AGAIN_SECONDS", 0.1)
    monkeypatch.setattr("volvox.dispatch.following._MODEL_SECONDS", 0.05)
    remember(site, "docker/f/deployed.json")
    docker, local = Sulking("docker", silent=2), Tame()

    async def check() -> None:
        async with following(site, local, docker):
            await until(docker.removed, ["f"])
        assert local.removed == []

    asyncio.run(check())


def test_what_moved_meanwhile_is_removed_where_it_was_once_it_answers_elsewhere(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volvox.dispatch.following._AGAIN_SECONDS", 0.1)
    monkeypatch.setattr("volvox.dispatch.following._MODEL_SECONDS", 0.05)
    remember(site, "docker/f/deployed.json")
    remember(site, "local/f/deployed.json")
    registry.apply(site.home, function(site))
    docker, local = Tame("docker"), Sulking("local", refuses=True)

    async def check() -> None:
        async with following(site, local, docker) as dispatcher:
            await asyncio.sleep(0.5)
            assert docker.removed == [], "it answers nowhere yet"
            local.refuses = False
            await until(docker.removed, ["f"])
            assert [*dispatcher.lanes] == ["f"] and local.removed == []

    asyncio.run(check())
