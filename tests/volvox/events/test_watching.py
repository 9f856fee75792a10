from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.events.recording import Inbox, until
from volvox.errors import Unavailable
from volvox.events import inotify, watching
from volvox.events.watching import Watch
from volvox.places.addresses import parsed
from volvox.places.directory import Directory


@contextlib.asynccontextmanager
async def _running(folder: Path, inbox: Inbox, prefix: str = "", **options: Any) -> AsyncIterator[Watch]:
    watch = Watch(Directory(parsed(str(folder))), prefix, poll_seconds=0.1, settled_seconds=0.3, **options)
    task = asyncio.create_task(watch.run(inbox.record))
    await asyncio.wait_for(watch.watching.wait(), 10)
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "old").write_bytes(b"1")
    return tmp_path / "in"


@pytest.mark.parametrize("polling", [False, True], ids=["told", "polled"])
def test_files_are_told_when_they_are_complete(folder: Path, tmp_path: Path, polling: bool) -> None:
    inbox = Inbox()

    async def watched() -> None:
        async with _running(folder, inbox, polling=polling, function="plants"):
            (folder / "a b ü").write_bytes(b"1")
            (folder / "deep" / "b").write_bytes(b"1")
            (tmp_path / "c").write_bytes(b"1")
            (tmp_path / "c").rename(folder / "c")
            (folder / ".hidden").write_bytes(b"1")
            assert Directory(parsed(str(folder))).put("put/d", tmp_path / "in" / "old")
            (folder / "new").mkdir()
            (folder / "new" / "e").write_bytes(b"1")
            shutil.copytree(folder / "deep", tmp_path / "tree" / "inner")
            (tmp_path / "tree").rename(folder / "tree")
            await until(lambda: len(set(inbox.keys)) >= 6)
            await asyncio.sleep(0.3)

    asyncio.run(watched())
    assert set(inbox.keys) == {"a b ü", "deep/b", "c", "put/d", "new/e", "tree/inner/b"}
    assert {(one.place, one.source, one.function) for one in inbox.arrivals} == {
        (f"file://{folder}", "watch", "plants")
    }


def test_a_file_that_is_being_written_is_not_told(folder: Path) -> None:
    inbox = Inbox()

    async def watched() -> None:
        async with _running(folder, inbox):
            with (folder / "a").open("wb") as stream:
                for _ in range(8):  # longer than it would take to be settled
                    stream.write(b"1")
                    stream.flush()
                    await asyncio.sleep(0.1)
                assert inbox.keys == []
            await until(lambda: inbox.keys == ["a"])
            (folder / "a").write_bytes(b"anew")
            await until(lambda: inbox.keys == ["a", "a"])

    asyncio.run(watched())


def test_only_what_is_below_the_prefix_is_told(folder: Path) -> None:
    inbox = Inbox()

    async def watched() -> None:
        async with _running(folder, inbox, "deep/in/"):
            (folder / "a").write_bytes(b"1")
            (folder / "deep" / "a").write_bytes(b"1")
            (folder / "deep" / "in").mkdir()
            (folder / "other").mkdir()
            (folder / "other" / "a").write_bytes(b"1")
            (folder / "deep" / "in" / "a").write_bytes(b"1")
            await until(lambda: bool(inbox.keys))
            await asyncio.sleep(0.5)

    asyncio.run(watched())
    assert set(inbox.keys) == {"deep/in/a"}


def test_what_the_inbox_could_not_keep_is_told_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AGAIN_SECONDS", (0.05, 0.1))
    inbox = Inbox()
    inbox.failures = [Unavailable("locked")] * 3

    async def watched() -> None:
        async with _running(folder, inbox):
            for number in range(20):
                (folder / str(number)).write_bytes(b"1")
            await until(lambda: len(inbox.keys) >= 20)

    asyncio.run(watched())
    assert sorted(inbox.keys, key=int) == [str(number) for number in range(20)]


def test_when_the_kernel_lost_something_all_files_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox()
    happened = inotify.Tree.happened
    lost = [True]

    def loses(tree: inotify.Tree):
        for one in happened(tree):
            if lost:
                lost.clear()
                raise inotify.Lost
            yield one

    monkeypatch.setattr(inotify.Tree, "happened", loses)
    os.utime(folder / "old", (1, 1))

    async def watched() -> None:
        async with _running(folder, inbox):
            (folder / "a").write_bytes(b"1")
            await until(lambda: set(inbox.keys) == {"old", "a"})

    asyncio.run(watched())


def test_a_folder_that_vanishes_is_watched_again(folder: Path) -> None:
    inbox = Inbox()

    async def watched() -> None:
        async with _running(folder, inbox) as watch:
            shutil.rmtree(folder)
            await until(lambda: not watch.watching.is_set())
            folder.mkdir()
            await asyncio.wait_for(watch.watching.wait(), 10)
            (folder / "a").write_bytes(b"1")
            await until(lambda: "a" in inbox.keys)

    asyncio.run(watched())


def test_a_system_that_tells_nothing_is_looked_through(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox()

    def refused(*arguments: object) -> None:
        raise Unavailable("this system watches 8,192 folders for this user and no more")

    monkeypatch.setattr(watching, "Tree", refused)

    async def watched() -> None:
        async with _running(folder, inbox):
            (folder / "a").write_bytes(b"1")
            await until(lambda: inbox.keys == ["a"])

    asyncio.run(watched())


def test_a_burst_is_told_whole(folder: Path) -> None:
    inbox = Inbox()

    async def watched() -> None:
        async with _running(folder, inbox):
            for number in range(2000):
                (folder / f"{number:04}").touch()
            await until(lambda: len(inbox.keys) >= 2000)

    asyncio.run(watched())
    assert sorted(inbox.keys) == [f"{number:04}" for number in range(2000)]
    assert inbox.calls < 500, "those that come together are told together"
