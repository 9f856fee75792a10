from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from deployments.workers import by_engine, worker_for
from volvox.errors import InvalidInput


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
