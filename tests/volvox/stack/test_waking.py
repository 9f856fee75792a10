from __future__ import annotations

import asyncio
import os
import stat

from volvox.settings import Home
from volvox.stack.waking import Bell, wake


def test_each_pool_is_woken_by_its_own_name(home: Home) -> None:
    async def test() -> None:
        bell = Bell()
        with bell.listening(home):
            for pool in ("docker", "local", "local"):
                wake(home, pool)
            await asyncio.wait_for(asyncio.gather(bell.wait("local"), bell.wait("docker")), 5)
            waiting = asyncio.create_task(bell.wait("local"))
            await asyncio.sleep(0.1)
            assert not waiting.done(), "two at once are one"
            wake(home, "local")
            await asyncio.wait_for(waiting, 5)

    asyncio.run(test())


def test_where_nobody_listens_nothing_is_made_and_nobody_waits(home: Home) -> None:
    wake(home, "local")
    assert not (home.root / "stack" / "runs").exists()
    wake(Home(home.root / "nowhere"), "local")
    assert not (home.root / "nowhere").exists()


def test_what_a_killed_listener_left_is_used_again(home: Home) -> None:
    os.mkfifo(home.stack / "runs")
    wake(home, "local")  # nobody reads: lost, and found by looking

    async def test() -> bool:
        bell = Bell()
        with bell.listening(home):
            await asyncio.sleep(0.1)
            lost = not bell._rung["local"].is_set()
            wake(home, "local")
            await asyncio.wait_for(bell.wait("local"), 5)
            return lost

    assert asyncio.run(test())


def test_a_file_in_its_place_is_not_written_to_by_who_wakes_and_replaced_by_who_listens(home: Home) -> None:
    (home.stack / "runs").write_text("what is this")
    wake(home, "local")
    assert (home.stack / "runs").read_text() == "what is this"

    async def test() -> None:
        with Bell().listening(home):
            told = (home.stack / "runs").stat()
            assert stat.S_ISFIFO(told.st_mode)
            assert stat.S_IMODE(told.st_mode) == 0o600

    asyncio.run(test())


def test_more_than_a_pipe_holds_makes_nobody_wait(home: Home) -> None:
    async def test() -> None:
        bell = Bell()
        with bell.listening(home):
            for _ in range(100_000):
                wake(home, "local")  # without a turn of the loop nothing is read
            await asyncio.wait_for(bell.wait("local"), 5)

    asyncio.run(test())


def test_where_there_can_be_no_pipe_all_is_found_by_looking(home: Home, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no pipes here")

    monkeypatch.setattr(os, "mkfifo", refuse)

    async def test() -> None:
        with Bell().listening(home):
            wake(home, "local")

    asyncio.run(test())
