from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.volvox.events.recording import Inbox, until
from volvox.errors import Unavailable
from volvox.events.sweep import Sweep, Swept
from volvox.places import Found
from volvox.places.addresses import parsed
from volvox.places.directory import Directory

ROOT = Path(__file__).parents[3]


class Known:
    """What an inbox knows: keys and versions."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()
        self.most = 0

    async def unknown(self, place: str, found: Sequence[Found]) -> Sequence[Found]:
        self.most = max(self.most, len(found))
        missed = [one for one in found if (one.key, one.version) not in self.seen]
        self.seen |= {(one.key, one.version) for one in found}
        return missed


def _written(folder: Path, keys: list[str], data: bytes = b"1") -> None:
    for key in keys:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_700_000_000, 1_700_000_000))


def _sweep(folder: Path, known: Known, tmp_path: Path, prefix: str = "", batch: int = 10) -> Sweep:
    place = Directory(parsed(str(folder)))
    return Sweep(place, prefix, unknown=known.unknown, mark=tmp_path / "mark", batch=batch, every_seconds=0.05)


def test_what_no_event_told_is_told_once_and_an_overwrite_again(tmp_path: Path) -> None:
    keys = [f"in/{number % 7}/{number:03}" for number in range(55)]
    _written(tmp_path / "place", keys)
    known, inbox = Known(), Inbox()
    sweep = _sweep(tmp_path / "place", known, tmp_path)
    assert asyncio.run(sweep.once(inbox.record)) == Swept(55, 55, 0)
    assert inbox.keys == sorted(keys)
    assert known.most == 10, "no more are held in memory"
    assert {(one.place, one.source) for one in inbox.arrivals} == {(f"file://{tmp_path}/place", "sweep")}
    assert asyncio.run(sweep.once(inbox.record)) == Swept(55, 0, 0)
    _written(tmp_path / "place", [keys[3]], b"other bytes")
    assert asyncio.run(sweep.once(inbox.record)) == Swept(55, 1, 0)
    assert inbox.keys[-1] == keys[3]
    assert not (tmp_path / "mark").exists()


def test_only_what_is_below_the_prefix_is_swept(tmp_path: Path) -> None:
    _written(tmp_path / "place", ["in/a", "out/a", "inside"])
    inbox = Inbox()
    asyncio.run(_sweep(tmp_path / "place", Known(), tmp_path, "in/").once(inbox.record))
    assert inbox.keys == ["in/a"]


def test_a_file_that_was_written_a_moment_ago_is_left_for_the_next(tmp_path: Path) -> None:
    _written(tmp_path / "place", ["a"])
    (tmp_path / "place" / "b").write_bytes(b"half of")
    inbox = Inbox()
    assert asyncio.run(_sweep(tmp_path / "place", Known(), tmp_path).once(inbox.record)) == Swept(2, 1, 1)
    assert inbox.keys == ["a"]


def test_what_was_written_just_before_it_began_is_not_left_for_long(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "b").write_bytes(b"whole")
    known, inbox = Known(), Inbox()
    place = Directory(parsed(str(tmp_path / "place")))
    sweep = Sweep(place, unknown=known.unknown, mark=tmp_path / "mark", every_seconds=3600)

    async def swept() -> None:
        running = asyncio.create_task(sweep.run(inbox.record))
        async with asyncio.timeout(60):
            while not inbox.keys:
                await asyncio.sleep(0.05)
        running.cancel()

    asyncio.run(swept())
    assert inbox.keys == ["b"]


def test_what_fails_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volvox.events.sweep._PAUSE_SECONDS", (0.01, 0.02))
    keys = [f"{number:03}" for number in range(40)]
    _written(tmp_path / "place", keys)
    inbox, known = Inbox(), Known()
    list_them, asked, failing = Directory.list, [], [Unavailable("down"), Unavailable("down")]

    def listed(place: Directory, prefix: str = "", after: str = "") -> Iterator[Found]:
        asked.append(after)
        for number, one in enumerate(list_them(place, prefix, after)):
            if number == 15 and failing:
                raise failing.pop()
            yield one

    monkeypatch.setattr(Directory, "list", listed)

    async def swept() -> None:
        task = asyncio.create_task(_sweep(tmp_path / "place", known, tmp_path).run(inbox.record))
        await until(lambda: len(asked) > 3)
        task.cancel()

    asyncio.run(swept())
    assert inbox.keys == keys
    assert asked[:4] == ["", "009", "019", ""]


def test_a_sweep_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    keys = [f"{number:04}" for number in range(200)]
    _written(tmp_path / "place", keys)
    code = f"""
import asyncio, sys
from pathlib import Path
from volvox.events.sweep import Sweep
from volvox.places.addresses import parsed
from volvox.places.directory import Directory
async def unknown(place, found): return found
async def record(arrivals):
    print(*[one.key for one in arrivals], flush=True)
    await asyncio.sleep(0.05)
place = Directory(parsed({str(tmp_path / "place")!r}))
sweep = Sweep(place, unknown=unknown, mark=Path({str(tmp_path / "mark")!r}), batch=10)
asyncio.run(sweep.once(record))
"""
    told: list[str] = []
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout
    for _ in range(5):
        told += child.stdout.readline().split()
    child.kill()
    child.communicate()
    inbox = Inbox()
    began = time.time()
    asyncio.run(_sweep(tmp_path / "place", Known(), tmp_path).once(inbox.record))
    assert time.time() - began < 10
    assert set(told) | set(inbox.keys) == set(keys)
    assert len(inbox.keys) <= 170, "what was told before is not told again, but for the last few"
