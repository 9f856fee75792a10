"""What a run asks for does not take away what its pool gives every run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from deployments.job_templates import job_template
from deployments.workers import worker_for
from volvox.pools.definition import PoolDefinition
from volvox.pools.needs import Needs
from volvox.pools.requests import job_variables

OWN = {"container_create_kwargs": {"shm_size": "1g"}}


def test_a_container_with_a_share_of_the_processors_keeps_its_user_and_has_no_rights() -> None:
    pool = PoolDefinition(name="docker", type="docker", image="x", job_variables=OWN)
    worker: Any = worker_for(pool)
    worker._work_pool = SimpleNamespace(base_job_template=job_template(pool, {}, user="1000:1000"))
    asked = job_variables(pool, Needs(cpu=1.5, gpus=1))["container_create_kwargs"]
    assert worker._beside_the_pools(asked) == {
        "init": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "user": "1000:1000", "shm_size": "1g",
        "nano_cpus": 1_500_000_000,
        "device_requests": [{"driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}],
    }  # fmt: skip
    assert worker._beside_the_pools(None)["user"] == "1000:1000"
