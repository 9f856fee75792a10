from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.apply import apply, definitions, is_applied, pools
from volvox.errors import InvalidInput, Unavailable
from volvox.pools.definition import Offers
from volvox.settings import Home
from volvox.stack import state

STAGES = ["data", "training", "evaluation", "registration", "packaging", "publication", "serving", "inference"]


def url(home: Home) -> str:
    return state.addresses(home)["prefect"] + "/api"


def asked(home: Home, question: Callable[[Any], Awaitable[Any]]) -> Any:
    """What the server answers to a question put to its client."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    async def ask() -> Any:
        with temporary_settings({PREFECT_API_URL: url(home)}):
            async with get_client() as client:
                return await question(client)

    return asyncio.run(ask())


def standin(home: Home) -> Any:
    return asked(home, lambda client: client.read_deployment_by_name("standin/standin"))


def test_every_stage_the_cycle_and_the_training_image_are_deployments_whose_flows_exist() -> None:
    found = {definition["entrypoint"].rpartition(".")[2].replace("_", "-"): definition for definition in definitions()}
    assert list(found) == ["cycle", *STAGES, "batch-inference", "training-image"]
    assert {definition["name"] for definition in found.values()} == {"local"}, "named after the pool"
    assert [name for name, definition in found.items() if definition.get("placeable")] == [*STAGES, "batch-inference"]
    for name, definition in found.items():
        module, _, flow = definition["entrypoint"].rpartition(".")
        assert getattr(importlib.import_module(module), flow).name == name
        assert definition["work_pool"] == {"name": "local"}
    assert [schedule["active"] for schedule in found["cycle"]["schedules"]] == [False]


def test_the_local_pool_says_what_it_offers_and_costs() -> None:
    pool = pools()["local"]
    assert pool.type == "process"
    assert pool.offers == Offers(), "whatever the machine has"
    assert pool.cost_per_hour == 0.0


def test_a_second_apply_changes_nothing(prefect_home: Home, folder: Path) -> None:
    assert not asyncio.run(is_applied(url(prefect_home), folder))
    first = asyncio.run(apply(url(prefect_home), folder))
    assert first == [
        "created work pool 'local'", "created deployment 'standin/standin'", "created deployment 'endless/endless'",
        "created automation 'volvox: a run whose process is gone is crashed'",
    ]  # fmt: skip
    assert asyncio.run(apply(url(prefect_home), folder)) == []
    assert asyncio.run(is_applied(url(prefect_home), folder))


def test_a_pool_has_a_queue_for_each_priority_in_the_operators_order(prefect_home: Home, folder: Path) -> None:
    def queues() -> list[str]:
        found = asked(prefect_home, lambda client: client.read_work_queues(work_pool_name="local"))
        return [queue.name for queue in sorted(found, key=lambda queue: queue.priority)]

    async def lower(client: Any) -> None:
        high = await client.read_work_queue_by_name("high", work_pool_name="local")
        await client.update_work_queue(high.id, priority=9)

    async def remove(client: Any) -> None:
        low = await client.read_work_queue_by_name("low", work_pool_name="local")
        await client.delete_work_queue_by_id(low.id)

    asyncio.run(apply(url(prefect_home), folder))
    assert queues() == ["high", "default", "low"]
    asked(prefect_home, lower)
    assert asyncio.run(apply(url(prefect_home), folder)) == []
    assert queues() == ["default", "low", "high"]
    asked(prefect_home, remove)
    assert asyncio.run(apply(url(prefect_home), folder)) == ["created work queue 'low' of work pool 'local'"]


def test_what_changed_here_changes_there_and_nothing_else_does(prefect_home: Home, folder: Path) -> None:
    asyncio.run(apply(url(prefect_home), folder))
    file = folder / "prefect.yaml"
    file.write_text(file.read_text().replace("A stand-in.", "Another.").replace("0 3 * * 0", "0 4 * * 0"))
    assert not asyncio.run(is_applied(url(prefect_home), folder))
    assert asyncio.run(apply(url(prefect_home), folder)) == [
        "updated deployment 'standin/standin' (description, version)",
        "updated schedule 'retraining' of 'standin/standin'",
    ]
    found = standin(prefect_home)
    assert found.description == "Another."
    assert [schedule.schedule.cron for schedule in found.schedules] == ["0 4 * * 0"]


def test_what_an_operator_decided_stays(prefect_home: Home, folder: Path) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate

    asyncio.run(apply(url(prefect_home), folder))
    found = standin(prefect_home)

    async def decide(client: Any) -> None:
        schedule = found.schedules[0]
        await client.update_deployment_schedule(found.id, schedule.id, active=True, parameters={"source": "s3://b/x"})
        update = DeploymentUpdate(paused=True, tags=[*found.tags, "mine"])
        await client.request(
            "PATCH",
            "/deployments/{id}",
            path_params={"id": found.id},
            json=update.model_dump(include={"paused", "tags"}),
        )

    asked(prefect_home, decide)
    file = folder / "prefect.yaml"
    file.write_text(file.read_text().replace("A stand-in.", "A third.").replace("0 3 * * 0", "0 5 * * 0"))
    assert len(asyncio.run(apply(url(prefect_home), folder))) == 2
    after = standin(prefect_home)
    assert after.paused
    assert set(after.tags) == {"volvox", "mine"}
    assert [(one.active, one.parameters) for one in after.schedules] == [(True, {"source": "s3://b/x"})]
    assert asyncio.run(apply(url(prefect_home), folder)) == []


def test_what_others_made_is_not_touched(prefect_home: Home, folder: Path) -> None:
    async def make(client: Any) -> Any:
        flow = await client.create_flow_from_name("theirs")
        return await client.create_deployment(flow, name="theirs", description="not ours")

    asked(prefect_home, make)
    asyncio.run(apply(url(prefect_home), folder))
    theirs = asked(prefect_home, lambda client: client.read_deployment_by_name("theirs/theirs"))
    assert theirs.description == "not ours"


def test_a_flow_that_does_not_exist_is_named(prefect_home: Home, folder: Path) -> None:
    file = folder / "prefect.yaml"
    file.write_text(file.read_text().replace("standin_flows.standin", "standin_flows.missing"))
    with pytest.raises(InvalidInput, match=r"deployment 'standin' names standin_flows\.missing"):
        asyncio.run(apply(url(prefect_home), folder))


def test_a_server_that_is_not_there_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9/api does not answer"):
        asyncio.run(apply("http://127.0.0.1:9/api", folder))
