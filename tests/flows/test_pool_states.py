from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from flows.pool_states import pool_states
from tests.deployments.conftest import prefect_home  # noqa: F401 - a Prefect server
from volvox.errors import Unavailable
from volvox.pools.placement import PoolState
from volvox.pools.states import states_at
from volvox.settings import Home
from volvox.stack.state import addresses


def api(home: Home) -> str:
    return addresses(home)["prefect"] + "/api"


def asked(home: Home, question: Any) -> Any:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    async def ask() -> Any:
        with temporary_settings({PREFECT_API_URL: api(home)}):
            async with get_client() as client:
                return await question(client)

    return asyncio.run(ask())


@pytest.fixture
def pool(prefect_home: Home) -> str:  # noqa: F811
    """A work pool with a limit of two, one worker, two late runs, one pending, one running, and one for next year."""
    import datetime

    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.states import Pending, Running, Scheduled

    name = f"pool-{time.monotonic_ns()}"

    async def make(client: Any) -> None:
        await client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=2))
        await client.send_worker_heartbeat(name, "worker", heartbeat_interval_seconds=30)
        flow = await client.create_flow_from_name("waits")
        deployment = await client.create_deployment(flow, name=name, work_pool_name=name)
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
        states = [Scheduled(), Scheduled(), Pending(), Running(), Scheduled(scheduled_time=later)]
        for state in states:
            await client.create_flow_run_from_deployment(deployment, state=state)

    asked(prefect_home, make)
    return name


def test_a_real_server_tells_what_waits_what_runs_and_who_works(prefect_home: Home, pool: str) -> None:  # noqa: F811
    expected = {
        pool: PoolState(online=True, queued=3, running=1, limit=2), "absent": PoolState(online=False, exists=False)
    }  # fmt: skip
    assert asked(prefect_home, lambda client: pool_states(client, [pool, "absent"])) == expected
    assert asyncio.run(states_at(api(prefect_home), [pool, "absent"])) == expected


def test_a_pool_that_an_operator_paused_is_told(prefect_home: Home, pool: str) -> None:  # noqa: F811
    from prefect.client.schemas.actions import WorkPoolUpdate

    asked(prefect_home, lambda client: client.update_work_pool(pool, WorkPoolUpdate(is_paused=True)))
    found = asyncio.run(states_at(api(prefect_home), [pool]))[pool]
    assert found.paused
    assert not found.online


def test_five_pools_are_asked_about_in_less_than_three_tenths_of_a_second(
    prefect_home: Home, pool: str  # noqa: F811
) -> None:  # fmt: skip
    names = [pool, *(f"absent-{number}" for number in range(4))]

    async def quickest() -> float:
        taken: list[float] = []
        for _ in range(5):
            began = time.perf_counter()
            await states_at(api(prefect_home), names)
            taken.append(time.perf_counter() - began)
        return min(taken)

    crowd = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # what others do here is not ours
    assert asyncio.run(quickest()) < 0.3 * crowd, os.getloadavg()


def test_a_server_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import PrefectClient

    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    with pytest.raises(Unavailable, match="does not answer"):

        async def ask() -> None:
            from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                client = PrefectClient("http://127.0.0.1:9/api")
                await pool_states(client, ["docker"])

        asyncio.run(ask())
