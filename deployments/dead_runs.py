"""A run whose process is gone is shown as crashed, by two ways that need each other.

The automation lives in the server and needs no worker, but what it waits for is lost when the server is killed, or
when a run dies in its first second. The sweep of the worker asks what is true now: which runs claim to run, and which
of them were heard of lately.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.events.schemas.automations import AutomationCore

NAME = "volvox: a run whose process is gone is crashed"
HEARTBEAT = "prefect.flow-run.heartbeat"
# Heartbeats come every 30 s and the server looks every 5 s: told 45 to 80 s after the end.
_SILENCE = timedelta(seconds=75)
# The sweep's two parts, 85 s at most with its interval. The second is measured by a clock that stands still while the
# machine sleeps, so that runs that sleep with it are not taken for dead when it wakes.
_HEARD_WITHIN = timedelta(seconds=35)
_STILL_SILENT_SECONDS = 40.0
_EVERY_SECONDS = 10.0
_RUNS_ASKED = 15  # an answer holds 50 events, and a run sends at most two in that time
_MESSAGE = "No sign of life: the process or its machine is gone. Run it again; finished stages are reused."


def automation() -> AutomationCore:
    """The automation that marks a run as crashed when its heartbeats stop before it ended."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    ends = ("Completed", "Failed", "Cancelled", "Crashed", "Suspended", "Paused", "AwaitingRetry")
    return AutomationCore(
        name=NAME,
        description="Made by `volvox apply`; switch it off if runs are suspended together with their machine.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            after={HEARTBEAT},
            expect={HEARTBEAT, *(f"prefect.flow-run.{end}" for end in ends)},
            posture=Posture.Proactive,
            threshold=1,
            within=_SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name=None, message=_MESSAGE, force=False)],
    )


async def sweep_forever() -> None:
    """Look every ten seconds; a server that does not answer is asked again later."""
    import httpx
    from prefect.client.orchestration import get_client

    silent_since: dict[UUID, float] = {}
    async with get_client() as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                await sweep(client, silent_since, time.monotonic())
            await asyncio.sleep(_EVERY_SECONDS)


async def sweep(client: PrefectClient, silent_since: dict[UUID, float], now: float) -> list[UUID]:
    """Mark runs as crashed that claim to run and were not heard of; return their ids.

    Args:
        client: A client of the server.
        silent_since: When each run was first found silent, on the clock of `now`; kept up to date here.
        now: A monotonic time in seconds.
    """
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.CANCELLING]))
    found = {run.id: run for run in await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running))}
    heard = await _heard_of(client, list(found))
    for run_id in list(silent_since):
        if run_id not in found or run_id in heard:
            del silent_since[run_id]
    dead: list[UUID] = []
    for run_id in found.keys() - heard:
        if now - silent_since.setdefault(run_id, now) < _STILL_SILENT_SECONDS:
            continue
        latest = await client.read_flow_run(run_id)
        if latest.state is not None and not latest.state.is_final():
            await client.set_flow_run_state(run_id, Crashed(message=_MESSAGE))
            dead.append(run_id)
        del silent_since[run_id]
    return dead


async def _heard_of(client: PrefectClient, runs: list[UUID]) -> set[UUID]:
    """Those of `runs` that gave a sign of life lately."""
    since = datetime.now(UTC) - _HEARD_WITHIN
    heard: set[UUID] = set()
    for start in range(0, len(runs), _RUNS_ASKED):
        asked = [f"prefect.flow-run.{run_id}" for run_id in runs[start : start + _RUNS_ASKED]]
        response = await client._client.post(  # the client has no method for events
            "/events/filter",
            json={
                "filter": {
                    "occurred": {"since": since.isoformat()},
                    "event": {"name": [HEARTBEAT]},
                    "resource": {"id": asked},
                    "order": "DESC",
                },
                "limit": 50,
            },
        )
        response.raise_for_status()
        heard |= {UUID(e["resource"]["prefect.resource.id"].rpartition(".")[2]) for e in response.json()["events"]}
    return heard
