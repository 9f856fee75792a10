"""Prefect's server ends while a flow of this process runs."""

from __future__ import annotations

import asyncio
import os

import pytest

from flows import lost_server
from flows.lost_server import unless_prefect_ends
from volvox import progress
from volvox.errors import Ended, GateRefused
from volvox.identity import this_process
from volvox.settings import Home
from volvox.stack import state
from volvox.stack.state import State

URL = "http://127.0.0.1:45999"
ALIVE = State("prefect", *this_process(), port=45999, url=URL)
DEAD = State("prefect", os.getpid(), 1.0, port=45999, url=URL)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"{URL}/api")
    monkeypatch.setattr(lost_server, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(lost_server, "_LOST_SECONDS", 0.2)


def _run(home: Home, flow) -> object:
    async def within() -> object:
        async with asyncio.timeout(5):
            return await unless_prefect_ends(flow(), home)

    return asyncio.run(within())


def test_a_flow_that_waits_for_a_server_that_is_gone_is_given_up(home: Home) -> None:
    state.write(home, DEAD)
    cancelled: list[bool] = []

    async def flow() -> None:
        for _ in range(2):  # as Prefect does: it tells its server of a cancel too, which takes another one
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)

    with pytest.raises(Ended, match="run the same command again"):
        _run(home, flow)
    assert cancelled


def test_a_stage_at_work_is_let_finish_and_its_failure_is_told(home: Home) -> None:
    state.write(home, DEAD)
    worked: list[bool] = []

    async def flow() -> None:
        with pytest.raises(ValueError, match="too bad"), progress.stage("training"):
            await asyncio.sleep(0.5)
            worked.append(True)
            raise ValueError("too bad")
        await asyncio.sleep(60)

    with pytest.raises(Ended, match="training failed: too bad"):
        _run(home, flow)
    assert worked


def test_a_server_that_is_started_again_in_time_is_waited_for(home: Home) -> None:
    state.write(home, DEAD)

    async def flow() -> str:
        await asyncio.sleep(0.1)
        state.write(home, ALIVE)
        await asyncio.sleep(0.4)
        return "made"

    assert _run(home, flow) == "made"


def test_what_the_flow_raises_comes_through(home: Home) -> None:
    state.write(home, ALIVE)

    async def flow() -> None:
        raise GateRefused("not good enough")

    with pytest.raises(GateRefused):
        _run(home, flow)


def test_a_cancel_ends_the_flow_before_it_returns(home: Home) -> None:
    state.write(home, ALIVE)
    ended: list[bool] = []

    async def flow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            ended.append(True)

    async def within() -> None:
        task = asyncio.create_task(unless_prefect_ends(flow(), home))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(within())
    assert ended
