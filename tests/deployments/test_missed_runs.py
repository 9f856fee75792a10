"""After a downtime one run of a schedule stands for all the times that were missed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from deployments.apply import apply
from deployments.missed_runs import leave_newest
from tests.deployments.test_apply import asked, standin, url
from tests.deployments.test_worker import created, ended
from volvox.settings import Home
from volvox.stack import prefect_database, stack

NOW = datetime.now(UTC)


# What the scheduler of Prefect's server does every minute, with another clock.
SCHEDULER = """
import asyncio, sys
from datetime import datetime, timedelta
from uuid import UUID
from prefect.server import models
from prefect.server.database import provide_database_interface

async def schedule(deployment, start, end):
    db = provide_database_interface()
    async with db.session_context(begin_transaction=False) as session:
        runs = await models.deployments._generate_scheduled_flow_runs(
            db, session=session, deployment_id=UUID(deployment), start_time=datetime.fromisoformat(start),
            end_time=datetime.fromisoformat(end), min_time=timedelta(), min_runs=1000, max_runs=1000,
        )
    for start in range(0, len(runs), 500):
        async with db.session_context(begin_transaction=True) as session:
            await models.deployments._insert_scheduled_flow_runs(session=session, runs=runs[start : start + 500])

asyncio.run(schedule(*sys.argv[1:]))
"""


def scheduled(home: Home, deployment: Any, since: timedelta) -> None:
    """Make the runs that the server's scheduler would have made ahead of their time."""
    subprocess.run(
        [sys.executable, "-c", SCHEDULER, str(deployment.id), (NOW - since).isoformat(), NOW.isoformat()],
        env={**os.environ, **prefect_database.environment(home)}, check=True, timeout=120,
    )  # fmt: skip


async def switched_on(client: Any, deployment: Any, cron: str = "7 * * * *") -> UUID:
    from prefect.client.schemas.schedules import CronSchedule

    schedule = deployment.schedules[0]
    await client.update_deployment_schedule(
        deployment.id, schedule.id, active=True, schedule=CronSchedule(cron=cron), parameters={"source": "missed"}
    )
    return schedule.id


async def states(client: Any, deployment: Any) -> list[Any]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
    from prefect.client.schemas.sorting import FlowRunSort

    runs: list[Any] = []
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
    while some := await client.read_flow_runs(
        flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200, offset=len(runs)
    ):
        runs += some
    return runs


def test_of_the_missed_runs_the_newest_is_left_and_nothing_else_is_touched(prefect_home: Home, folder: Path) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.states import Scheduled

    asyncio.run(apply(url(prefect_home), folder))
    deployment = standin(prefect_home)

    async def go_down(client: Any) -> list[UUID]:
        hourly = await switched_on(client, deployment)
        two_hourly = await client.create_deployment_schedules(
            deployment.id, [(CronSchedule(cron="11 */2 * * *"), True)]
        )
        return [hourly, two_hourly[0].id]

    hourly, two_hourly = asked(prefect_home, go_down)
    scheduled(prefect_home, deployment, timedelta(hours=6))

    async def look(client: Any) -> None:
        late = Scheduled(scheduled_time=NOW - timedelta(hours=3))
        by_hand = await client.create_flow_run_from_deployment(deployment.id, state=late, parameters={"source": "mine"})
        before = await states(client, deployment)
        left = await leave_newest(client, [deployment.id], NOW)
        assert {schedule: len(missed) for schedule, (_, missed) in left.items()} == {hourly: 5, two_hourly: 2}
        after = {run.id: run for run in await states(client, deployment)}
        for run in before:
            skipped = [one for _, missed in left.values() for one in missed if one.id == run.id]
            assert after[run.id].state.name in (("Skipped",) if skipped else ("Scheduled", "Late"))
        assert after[by_hand.id].state.is_scheduled()
        newest, missed = left[hourly]
        assert newest.expected_start_time == max(
            run.expected_start_time
            for run in before
            if run.auto_scheduled and run.created_by.id == hourly and run.expected_start_time <= NOW
        )
        assert newest.name in after[missed[0].id].state.message
        assert await leave_newest(client, [deployment.id], NOW) == {}, "a second look changes nothing"
        await client.delete_deployment(deployment.id)

    asked(prefect_home, look)


def test_after_a_downtime_of_days_a_worker_runs_once(prefect_home: Home, folder: Path) -> None:
    asyncio.run(apply(url(prefect_home), folder))
    deployment = standin(prefect_home)

    asked(prefect_home, lambda client: switched_on(client, deployment, "0 3 * * *"))
    scheduled(prefect_home, deployment, timedelta(days=9))
    stack.ensure(prefect_home, ["worker"])
    stack.wait_ready(prefect_home, "worker")
    afterwards = created(prefect_home, "standin/standin", source="afterwards")
    assert ended(prefect_home, afterwards).is_completed()
    runs = asked(prefect_home, lambda client: states(client, deployment))
    due = [run for run in runs if run.auto_scheduled and run.expected_start_time <= NOW]
    assert len(due) == 9
    assert ended(prefect_home, due[-1].id).is_completed()
    assert {run.state.name for run in due[:-1]} == {"Skipped"}
    assert all(run.state.is_scheduled() for run in runs if run.auto_scheduled and run not in due)
    assert (prefect_home.root / "ran-missed").exists()
