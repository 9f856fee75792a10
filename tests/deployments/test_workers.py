from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.workers import by_engine, work, worker_for
from volvox.errors import InvalidInput
from volvox.stack.waking import Bell


@dataclass
class Standin:
    name: str
    type: str
    job_variables: dict[str, Any] = field(default_factory=dict)
    gpus_total: int | None = None


def test_pools_of_one_engine_are_watched_together() -> None:
    pools = [
        Standin("docker", "docker"), Standin("docker-gpu", "docker", {"network_mode": "host"}),
        Standin("k1", "kubernetes", {"namespace": "a"}), Standin("k2", "kubernetes", {"namespace": "b"}),
        Standin("k3", "kubernetes", {"namespace": "a", "image_pull_policy": "Always"}), Standin("local", "process"),
        Standin("e1", "ecs", {"cluster": "c"}), Standin("e2", "ecs", {"cluster": "c", "aws_credentials": "{{ x }}"}),
    ]  # fmt: skip
    found = [sorted(pool.name for pool in some) for some in by_engine(pools).values()]
    assert sorted(found) == [["docker", "docker-gpu"], ["e1"], ["e2"], ["k1", "k3"], ["k2"], ["local"]]


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes", "ecs"])
def test_there_is_a_worker_for_each_kind_of_pool_and_prefects_own_stays_the_registered_one(kind: str) -> None:
    from prefect.workers.base import BaseWorker

    worker = worker_for(Standin("here", kind))
    assert (worker.type, worker._work_pool_name) == (kind, "here")
    registered = BaseWorker.get_worker_class_from_type(kind)
    assert registered is not None and registered.__module__.startswith("prefect")
    assert registered is not type(worker)


def test_another_kind_is_refused_with_what_there_is() -> None:
    with pytest.raises(InvalidInput, match="process"):
        worker_for(Standin("here", "vertex-ai"))


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes", "ecs"])
def test_a_worker_that_is_woken_while_it_looks_looks_again_when_it_has(kind: str) -> None:
    worker: Any = worker_for(Standin("here", kind))
    worker._has_successfully_synced = True
    at_once, most, looked = 0, 0, 0

    async def scheduled() -> list[Any]:
        nonlocal at_once, most, looked
        at_once, looked = at_once + 1, looked + 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return []

    worker._get_scheduled_flow_runs = scheduled

    async def test() -> None:
        await asyncio.gather(*(worker.get_and_submit_flow_runs() for _ in range(5)))

    asyncio.run(test())
    assert (looked, most) == (5, 1)


class _Standby:
    """A worker that never looks by itself."""

    def __init__(self) -> None:
        self.looked, self.is_setup, self._work_pool = 0, True, None
        self._submitting_flow_run_ids: set[Any] = set()

    async def start(self, **_: Any) -> None:
        await asyncio.sleep(600)

    async def _get_scheduled_flow_runs(self) -> list[Any]:
        return []

    async def get_and_submit_flow_runs(self) -> None:
        self.looked += 1
        if self.looked == 1:
            raise ConnectionError("the server is being started again")


def test_the_worker_of_a_pool_looks_when_its_pool_was_given_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, _Standby] = {}

    def worker_for(pool: Standin, **_: Any) -> _Standby:
        made[pool.name] = _Standby()
        return made[pool.name]

    monkeypatch.setattr("deployments.workers.worker_for", worker_for)
    monkeypatch.setattr("prefect.client.orchestration.get_client", contextlib.nullcontext)
    bell = Bell()

    async def test() -> None:
        working = asyncio.create_task(work([Standin("here", "process"), Standin("there", "process")], bell))
        while set(made) != {"here", "there"}:
            await asyncio.sleep(0.01)
        for times in (1, 2):
            bell.ring("here")
            while made["here"].looked < times:
                await asyncio.sleep(0.01)
        assert made["there"].looked == 0
        made["here"].is_setup = False
        bell.ring("here")
        await asyncio.sleep(0.1)
        assert made["here"].looked == 2, "one that ends begins nothing"
        working.cancel()
        await asyncio.wait([working])

    asyncio.run(asyncio.wait_for(test(), 30))
