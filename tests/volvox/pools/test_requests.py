from __future__ import annotations

import pytest

from volvox.errors import InvalidInput
from volvox.pools.definition import Offers, PoolDefinition
from volvox.pools.needs import Needs
from volvox.pools.requests import gpu_tags, gpus_of, job_variables

NEEDS = Needs(cpu=1.5, memory_mb=3000, gpus=2)


def pool(kind: str, **more) -> PoolDefinition:
    return PoolDefinition(name="p", type=kind, image="i", **more)


def test_docker_is_asked_for_device_requests() -> None:
    assert job_variables(pool("docker"), NEEDS) == {
        "mem_limit": "3000m",
        "memswap_limit": "3000m",
        "nano_cpus": 1_500_000_000,
        "device_requests": [{"driver": "nvidia", "count": 2, "capabilities": [["gpu"]]}],
    }


def test_kubernetes_is_asked_for_requests_and_limits_alike() -> None:
    assert job_variables(pool("kubernetes"), NEEDS) == {
        "memory_request": "3000Mi", "memory_limit": "3000Mi", "cpu_request": "1500m", "cpu_limit": "1500m", "gpus": "2",
    }  # fmt: skip


def test_ecs_on_instances_is_asked_for_resource_requirements() -> None:
    told = job_variables(pool("ecs", job_variables={"launch_type": "EC2"}), NEEDS)
    assert told == {"memory": 3000, "cpu": 1536, "resource_requirements": [{"type": "GPU", "value": "2"}]}


@pytest.mark.parametrize(
    ("cpu", "memory_mb", "size"),
    [(0, 0, (256, 512)), (1.5, 3000, (2048, 4096)), (0.25, 4000, (512, 4096)), (4, 30000, (4096, 30720))],
)
def test_fargate_gets_its_smallest_size_that_holds_both(cpu: float, memory_mb: int, size: tuple[int, int]) -> None:
    told = job_variables(pool("ecs"), Needs(cpu=cpu, memory_mb=memory_mb))
    assert (told["cpu"], told["memory"]) == size


def test_fargate_has_no_gpu_and_no_task_without_bounds() -> None:
    with pytest.raises(InvalidInput, match="no GPUs"):
        job_variables(pool("ecs"), Needs(gpus=1))
    with pytest.raises(InvalidInput, match="no task of"):
        job_variables(pool("ecs"), Needs(cpu=17))


def test_a_run_that_states_nothing_may_take_what_the_pool_offers() -> None:
    assert job_variables(pool("docker", offers=Offers(memory_mb=512)), Needs()) == {
        "mem_limit": "512m", "memswap_limit": "512m"
    }  # fmt: skip
    assert job_variables(pool("process"), NEEDS) == {}


@pytest.mark.parametrize(("tags", "gpus"), [(gpu_tags(2), 2), (gpu_tags(0), 0), (["volvox", "volvox-gpus:many"], 0)])
def test_what_a_run_needs_of_the_gpus_stands_in_its_tags(tags: list[str], gpus: int) -> None:
    assert gpus_of(["volvox", *tags]) == gpus
