"""End what runs on work pools when this home's stack ends: without its Prefect server no job can tell how it went.

Which jobs are this home's is known by the ids of its work pools, which are written down when they are applied, so that
it works without the server too. What runs as a process of this machine ends with its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volvox.errors import VolvoxError
from volvox.pools.definition import PoolDefinition
from volvox.pools.files import read_pools
from volvox.results import ENDED_WITH_ITS_SERVER
from volvox.settings import Home
from volvox.stack import stack
from volvox.stack.services import discover, replacement

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from volvox.infrastructure.jobs import Engine, Job

GRACE_SECONDS = 5.0
_UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "CRASHED")  # it may say itself that it crashed


@dataclass(frozen=True)
class Ended:
    """What was ended, and what could not be.

    Attributes:
        jobs: A phrase for each job that ran and was ended.
        problems: A sentence for each engine whose jobs may go on.
    """

    jobs: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def remember(home: Home, pools: Mapping[str, str]) -> None:
    """Keep the ids of work pools of this home's own server: name -> id. Those of before are kept too."""
    if _external():
        return
    known = remembered(home)
    merged = {name: sorted({*known.get(name, ()), *filter(None, [pools.get(name)])}) for name in {*known, *pools}}
    if merged != {name: sorted(ids) for name, ids in known.items()}:
        path = _file(home)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}-{os.getpid()}")
        temporary.write_text(json.dumps(merged, indent=1, sort_keys=True))
        temporary.replace(path)


def remembered(home: Home) -> dict[str, frozenset[str]]:
    """Name -> ids of every work pool that this home's own server has or had."""
    try:
        return {str(name): frozenset(map(str, ids)) for name, ids in json.loads(_file(home).read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def end_jobs(home: Home) -> Ended:
    """End every container, pod and task of this home's runs, and call the runs cancelled.

    Its worker must have ended. Jobs of a server elsewhere, which goes on, are left alone.
    """
    if _external():
        return Ended()
    known = remembered(home)
    try:
        pools = [pool for name, pool in read_pools(home).items() if name in known and pool.starts_containers]
    except VolvoxError as error:
        return Ended(problems=(f"what runs on work pools may go on: {error}",))
    if not pools:
        return Ended()
    os.environ.update(stack.environment(home))  # before Prefect is imported: it reads its settings then
    return asyncio.run(_end_jobs(pools, known, stack.reachable(home, "prefect", 2.0)))


async def _end_jobs(pools: Iterable[PoolDefinition], known: Mapping[str, Collection[str]], answers: bool) -> Ended:
    from prefect.client.orchestration import get_client

    from deployments.workers import by_engine, engine_for

    jobs: list[str] = []
    problems: list[str] = []
    async with contextlib.AsyncExitStack() as opened:
        client: Any = await opened.enter_async_context(get_client()) if answers else None
        for some in by_engine(pools).values():
            names = [pool.name for pool in some]
            ids = {pool_id: name for name in names for pool_id in known[name]}
            try:
                if (engine := await engine_for(some[0], client)) is None:
                    continue
                try:
                    jobs += await end_on(engine, ids, client)
                finally:
                    await engine.close()
            except Exception as error:  # whatever it is, the others and the stack are to end
                said = str(error) or type(error).__name__
                problems.append(f"what runs on pool {' and '.join(map(repr, names))} may go on: {said}")
    return Ended(tuple(jobs), tuple(problems))


async def end_on(engine: Engine, pools: Mapping[str, str], client: PrefectClient | None) -> list[str]:
    """End the jobs of some work pools on one engine, whatever their runs say.

    Args:
        engine: Where they are.
        pools: Id -> name of the pools. A job of another one is left alone.
        client: Of the server that shall know of it; none if it does not answer.

    Returns:
        A phrase for each job that ran.

    Raises:
        Unavailable: If the engine does not answer, or a job does not end.
    """
    jobs = [job for job in await engine.jobs() if job.pool_id in pools]
    names: dict[str, str] = {}
    if client is not None:
        # Before their processes say that they crashed, or who waits for one would have it run again.
        names = {job.run_id: await _told(client, job, done=False) for job in jobs if job.live}
    results = await asyncio.gather(*(engine.end(job, GRACE_SECONDS) for job in jobs), return_exceptions=True)
    ended: list[str] = []
    for job, result in zip(jobs, results, strict=True):
        if job.live and not isinstance(result, BaseException):
            if client is not None:
                await _told(client, job, done=True)
            ended.append(f"{job.name} of flow run {names.get(job.run_id) or job.run_id} on pool {pools[job.pool_id]!r}")
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return ended


async def _told(client: PrefectClient, job: Job, *, done: bool) -> str:
    """Call the run of a job cancelling, or cancelled, unless it had told its end; return its name."""
    from uuid import UUID

    from prefect.exceptions import ObjectNotFound
    from prefect.states import Cancelled, Cancelling

    try:
        run: Any = await client.read_flow_run(UUID(job.run_id))
    except ObjectNotFound:
        return ""
    if run.state is None or run.state.type.value in _UNFINISHED:
        state = (Cancelled if done else Cancelling)(message=ENDED_WITH_ITS_SERVER)
        await client.set_flow_run_state(run.id, state, force=True)
    return str(run.name)


def _external() -> bool:
    """Whether the Prefect server is none of this home's."""
    return any(spec.name == "prefect" and replacement(spec) for spec in discover())


def _file(home: Home) -> Path:
    return home.root / "stack" / "work-pools.json"
