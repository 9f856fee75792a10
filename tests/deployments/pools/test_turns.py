"""Who waits for a pool starts in turn: never more at a time than it takes, in order of priority, and none is lost."""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.deployments.pools.conftest import Pool, processes_of_runs
from volvox import progress
from volvox.stack import stack

AT_ONCE = 2
PRIORITIES = ("low", "default", "high")
MANY = [
    pytest.param(9, id="a-few"),
    pytest.param(100, marks=pytest.mark.soak, id="a-hundred"),
]


@pytest.mark.parametrize("many", MANY)
def test_all_that_wait_are_run_two_at_a_time_and_the_urgent_first(pool: Pool, many: int) -> None:
    if pool.kind not in ("process", "docker") or (pool.kind == "docker" and many < 100):
        pytest.skip("the engine has no part in it")
    first = 1000 * many

    async def run_all() -> tuple[dict[str, str], list[Any]]:
        from flows.elsewhere import run_elsewhere

        runs: dict[str, str] = {}

        def hear(event: progress.Event) -> None:
            if "flow_run" in event.detail:
                runs[event.detail["flow_run"]] = event.stage

        async def run(number: int) -> Any:
            priority = PRIORITIES[number % len(PRIORITIES)]
            with progress.stage(priority):
                return await run_elsewhere(pool.submission("work", first + number, priority=priority))

        await _limited(pool, paused=True)
        try:
            with progress.listening(hear):
                running = [asyncio.ensure_future(run(number)) for number in range(many)]
                while len(runs) < many:
                    await asyncio.sleep(0.1)
                    assert not any(one.done() for one in running), [one for one in running if one.done()]
                await _limited(pool, paused=False)
                return runs, await asyncio.wait_for(asyncio.gather(*running), 30 * many)
        finally:
            await _limited(pool, limit=4)

    with sampled() as looks:
        runs, records = asyncio.run(run_all())
    wanted = [hashlib.sha256(f"answer {first + number}".encode()).hexdigest() for number in range(many)]
    assert [record.answer_object for record in records] == wanted
    told = asyncio.run(_times(list(runs)))
    assert _most_at_once(told) <= AT_ONCE
    living = [{run for run in there & set(told) if at < told[run][1]} for at, there in looks]
    assert 0 < max(map(len, living)) <= AT_ONCE
    order = [PRIORITIES.index(runs[run]) for run in sorted(told, key=lambda run: told[run][0])]
    assert all(order[place] >= max(order[place + AT_ONCE :], default=0) for place in range(many)), order


def test_no_more_gpus_are_given_than_there_are(pool: Pool) -> None:
    async def run_all() -> list[str]:
        from flows.elsewhere import run_elsewhere

        runs: list[str] = []

        def hear(event: progress.Event) -> None:
            if "flow_run" in event.detail:
                runs.append(event.detail["flow_run"])

        await _limited(pool, paused=True, limit=4)
        with progress.listening(hear):
            seconds = range(4, 7)  # each another stage, or the second would join the first
            running = [asyncio.ensure_future(run_elsewhere(pool.submission("sleep", one, gpus=1))) for one in seconds]
            while len(runs) < len(running):
                await asyncio.sleep(0.1)
            await _limited(pool, limit=4)
            await asyncio.gather(*running)
        return runs

    runs = asyncio.run(asyncio.wait_for(run_all(), 240))
    told = asyncio.run(_times(runs))
    assert len(told) == 3
    assert _most_at_once(told) == 2, "the pool has two GPUs and four places"
    assert sum("waits for a GPU" in line for line in asyncio.run(_logged(runs))) == 1


def test_down_ends_what_runs_there_and_says_so(pool: Pool) -> None:  # the last one: the installation is gone after it
    if pool.kind == "process":
        pytest.skip("a process ends with its worker")

    async def down() -> tuple[str, str]:
        from flows.elsewhere import run_elsewhere

        begun: asyncio.Queue[str] = asyncio.Queue()
        runs: list[str] = []

        def hear(event: progress.Event) -> None:
            if "flow_run" in event.detail:
                runs.append(event.detail["flow_run"])
            if event.kind == "advanced":
                begun.put_nowait(runs[-1])

        with progress.listening(hear):
            running = asyncio.ensure_future(run_elsewhere(pool.submission("sleep", 303)))
            run = await asyncio.wait_for(begun.get(), 60)
            command = [sys.executable, "-m", "volvox", "down"]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert done.returncode == 0, done.stderr
        return run, done.stdout

    run, said = asyncio.run(down())
    assert pool.jobs_of(run) == []
    assert re.search(rf"ended .* of flow run standin-sleep on pool '{pool.name}'\n", said), said
    stack.ensure(pool.home, ["prefect"])
    server = stack.wait_ready(pool.home, "prefect").url  # at another port now
    assert httpx.get(f"{server}/api/flow_runs/{run}").json()["state"]["type"] == "CANCELLED"


@contextmanager
def sampled() -> Iterator[list[tuple[float, set[str]]]]:
    """The time of each look at the processes of this machine, in containers too, and the runs that they are of."""
    looks: list[tuple[float, set[str]]] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            looks.append((time.time(), set(processes_of_runs().values())))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield looks
    finally:
        over.set()
        looking.join()


async def _limited(pool: Pool, paused: bool = False, limit: int = AT_ONCE) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate

    async with get_client() as client:
        await client.update_work_pool(pool.name, WorkPoolUpdate(is_paused=paused, concurrency_limit=limit))


async def _times(runs: list[str]) -> dict[str, tuple[float, float]]:
    """When each run was begun by a worker, and when it had ended."""
    from prefect.client.orchestration import get_client

    found: dict[str, tuple[float, float]] = {}
    async with get_client() as client:
        for run in runs:
            states = await client.read_flow_run_states(run)  # pyright: ignore[reportArgumentType]
            begun = min(state.timestamp for state in states if state.type.value == "PENDING")
            ended = [state.timestamp for state in states if state.type.value == "COMPLETED"]
            assert len(ended) == 1, states
            found[run] = begun.timestamp(), ended[0].timestamp()
    return found


def _most_at_once(told: dict[str, tuple[float, float]]) -> int:
    return max(sum(begun <= at < ended for begun, ended in told.values()) for at, _ in told.values())


async def _logged(runs: list[str]) -> list[str]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    deadline, lines = time.monotonic() + 10, []
    async with get_client() as client:
        while not any("waits" in line for line in lines) and time.monotonic() < deadline:
            wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=runs))  # pyright: ignore[reportArgumentType]
            lines = [log.message for log in await client.read_logs(wanted)]
            await asyncio.sleep(0.5)
    return lines
