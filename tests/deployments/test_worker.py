from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from deployments.apply import apply
from tests.deployments.test_apply import asked, url
from volvox.identity import process_started
from volvox.settings import Home
from volvox.stack import processes, stack


@pytest.fixture(scope="module")
def worker(prefect_home: Home) -> Home:
    stack.ensure(prefect_home, ["worker"])
    stack.wait_ready(prefect_home, "worker")
    return prefect_home


def created(home: Home, name: str, **parameters: Any) -> Any:
    async def create(client: Any) -> Any:
        deployment = await client.read_deployment_by_name(name)
        return await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)

    return asked(home, create).id


def ended(home: Home, run: Any, seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        state = asked(home, lambda client: client.read_flow_run(run)).state
        if state.is_final() or time.monotonic() > deadline:
            return state
        time.sleep(0.3)


def test_a_run_made_as_the_ui_makes_it_works_and_knows_the_stack(worker: Home, folder: Path) -> None:
    asyncio.run(apply(url(worker), folder))
    run = created(worker, "standin/standin", source="a", rejected={"file": "x.png", "reason": "broken"})
    assert ended(worker, run).is_completed()
    assert (worker.root / "ran-a").read_text().split() == [
        url(worker), os.environ["MLFLOW_TRACKING_URI"], "broken"
    ]  # fmt: skip


def test_a_wrong_parameter_is_refused_before_a_run_is_made(worker: Home, folder: Path) -> None:
    asyncio.run(apply(url(worker), folder))
    with pytest.raises(Exception, match="source"):
        created(worker, "standin/standin")


def test_the_worker_applied_the_deployments_of_this_installation(worker: Home) -> None:
    found = asked(worker, lambda client: client.read_deployment_by_name("cycle/local"))
    assert found.work_pool_name == "local"
    assert [schedule.active for schedule in found.schedules] == [False]


def test_down_ends_runs_too(worker: Home, folder: Path) -> None:
    asyncio.run(apply(url(worker), folder))
    created(worker, "endless/endless")
    deadline = time.monotonic() + 90
    while not (worker.root / "endless").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    pid = int((worker.root / "endless").read_text())
    assert process_started(pid) is not None
    began = time.monotonic()
    assert set(stack.stop(worker)) == {"prefect", "worker"}
    assert time.monotonic() - began < 25
    assert process_started(pid) is None
    assert processes.marked(worker) == {}
