from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from deployments.dead_runs import HEARTBEAT, automation, sweep
from tests.deployments.test_apply import asked
from volvox.settings import Home


async def claims_to_run(client: Any) -> UUID:
    """A run that says that it runs, though no process has it."""
    flow = await client.create_flow_from_name("claims")
    response = await client.request("POST", "/flow_runs/", json={"flow_id": str(flow), "state": {"type": "RUNNING"}})
    return UUID(response.json()["id"])


async def sign_of_life(client: Any, run: UUID) -> None:
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": HEARTBEAT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
    }
    (await client._client.post("/events", json=[event])).raise_for_status()
    for _ in range(300):  # the server writes events in batches, behind its answer
        told = await client._client.post("/events/filter", json={"filter": {"event": {"name": [HEARTBEAT]}}})
        if str(run) in told.text:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the server never wrote the event")


def test_a_run_that_was_not_heard_of_is_crashed_and_one_that_was_is_not(prefect_home: Home) -> None:
    async def look(client: Any) -> None:
        dead, alive = await claims_to_run(client), await claims_to_run(client)
        await sign_of_life(client, alive)
        silent: dict[UUID, float] = {}
        assert await sweep(client, silent, 0.0) == []
        assert await sweep(client, silent, 39.0) == [], "silence must last"
        assert await sweep(client, silent, 41.0) == [dead]
        assert (await client.read_flow_run(dead)).state.is_crashed()
        assert "Run it again" in (await client.read_flow_run(dead)).state.message
        assert (await client.read_flow_run(alive)).state.is_running()
        assert silent == {}

    asked(prefect_home, look)


def test_the_automation_waits_two_heartbeats_and_tells_within_90_seconds() -> None:
    trigger: Any = automation().trigger
    assert 60 < trigger.within.total_seconds() <= 80
    assert HEARTBEAT in trigger.expect
    assert trigger.after == {HEARTBEAT}
