"""What the Prefect server says of work pools: whether somebody would take a run, and how many wait.

It is asked over HTTP as it is documented, without Prefect's client, whose import takes longer than all answers.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from volvox.errors import InvalidInput, Unavailable
from volvox.pools.placement import PoolState

Post = Callable[[str, dict[str, Any]], Awaitable[Any]]

_QUEUED = ("SCHEDULED", "PENDING")
_RUNNING = ("RUNNING", "CANCELLING")
_ANSWERS_SECONDS = 5.0
_HEARTBEAT_SECONDS = 30
# The server calls a worker offline after three missed heartbeats; one that was killed is seen a little sooner here.
_MISSED = 2.5


async def pool_states(post: Post, names: Iterable[str]) -> dict[str, PoolState]:
    """The state of each pool, in one round of requests that go out together.

    Args:
        post: Sends JSON to a path of the server's API and returns the JSON it answers, None where it answers 404.
        names: Pools; one that the server does not know has `exists=False`.
    """
    wanted = list(names)
    if not wanted:
        return {}
    asked = {"work_pools": {"name": {"any_": wanted}}}
    found, *each = await asyncio.gather(post("/work_pools/filter", asked), *(_occupied(post, name) for name in wanted))
    known = {pool["name"]: pool for pool in found}
    return {name: _state(known.get(name), *occupied) for name, occupied in zip(wanted, each, strict=True)}


async def states_at(api_url: str, names: Iterable[str]) -> dict[str, PoolState]:
    """The same of the server whose API is at `api_url`.

    Raises:
        Unavailable: If it does not answer.
        InvalidInput: If it refuses to.
    """
    import httpx

    async with httpx.AsyncClient(
        base_url=api_url.rstrip("/"), headers=_credentials(), timeout=_ANSWERS_SECONDS
    ) as client:

        async def post(path: str, body: dict[str, Any]) -> Any:
            answer = await client.post(path, json=body)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                raise InvalidInput(
                    f"the Prefect server at {api_url} refuses these credentials ({answer.status_code}); set "
                    "PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
                )
            if answer.is_error:
                raise Unavailable(f"the Prefect server at {api_url} answers {answer.status_code} to {path}")
            return answer.json()

        try:
            return await pool_states(post, names)
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(
                f"the Prefect server at {api_url} does not answer ({type(error).__name__}); `volvox up` starts one"
            ) from error


async def _occupied(post: Post, name: str) -> tuple[list[dict[str, Any]], int, int]:
    """A pool's workers, and how many of its runs wait for their turn and how many have begun."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    due = {"expected_start_time": {"before_": now}}  # a run that a schedule has for next week does not wait
    workers, queued, running = await asyncio.gather(
        post(f"/work_pools/{name}/workers/filter", {}), _count(post, name, _QUEUED, due), _count(post, name, _RUNNING)
    )
    return workers or [], queued, running


async def _count(post: Post, name: str, states: tuple[str, ...], more: dict[str, Any] | None = None) -> int:
    asked = {
        "work_pools": {"name": {"any_": [name]}},
        "flow_runs": {"state": {"type": {"any_": list(states)}}, **(more or {})},
    }
    return int(await post("/flow_runs/count", asked) or 0)


def _state(pool: dict[str, Any] | None, workers: list[dict[str, Any]], queued: int, running: int) -> PoolState:
    if pool is None:
        return PoolState(online=False, exists=False)
    paused = bool(pool["is_paused"])
    return PoolState(
        online=not paused and any(map(_alive, workers)),
        queued=queued,
        running=running,
        limit=pool["concurrency_limit"],
        paused=paused,
    )


def _alive(worker: dict[str, Any]) -> bool:
    heard = worker.get("last_heartbeat_time")
    if worker.get("status") != "ONLINE" or not heard:
        return False
    silent = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(heard)
    return silent.total_seconds() < _MISSED * (worker.get("heartbeat_interval_seconds") or _HEARTBEAT_SECONDS)


def _credentials() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if user := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
    return {}
