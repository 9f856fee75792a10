"""What a run needs, in the words of its pool's job template: limits of memory and processor, and GPUs.

Each kind of engine asks for a GPU in its own way: Docker by device requests, Kubernetes by the resource
`nvidia.com/gpu`, ECS by resource requirements. `deployments.job_templates` has the variables that stand here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from volvox.errors import InvalidInput
from volvox.pools.definition import PoolDefinition
from volvox.pools.needs import Needs

# On a run that needs GPUs: what is counted where a pool has only so many of them.
_GPUS_TAG = "volvox-gpus:"

# Fargate's CPU units and the memory in MB that goes with them: AWS, "Task definition parameters for Fargate".
_FARGATE = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4097, 1024)),
    1024: tuple(range(2048, 8193, 1024)),
    2048: tuple(range(4096, 16385, 1024)),
    4096: tuple(range(8192, 30721, 1024)),
    8192: tuple(range(16384, 61441, 4096)),
    16384: tuple(range(32768, 122881, 8192)),
}


def job_variables(pool: PoolDefinition, needs: Needs) -> dict[str, Any]:
    """The job variables of one run on `pool`; where the run states no need, it may take what the pool offers.

    Args:
        pool: Where the run goes.
        needs: What it must have at least.

    Raises:
        InvalidInput: If the engine has no size that is large enough.
    """
    memory_mb = needs.memory_mb or pool.offers.memory_mb
    cpu = needs.cpu or pool.offers.cpu
    if pool.type == "docker":
        return _docker(memory_mb, cpu, needs.gpus)
    if pool.type == "kubernetes":
        return _kubernetes(memory_mb, cpu, needs.gpus)
    if pool.type == "ecs":
        return _ecs(pool, memory_mb, cpu, needs.gpus)
    return {}  # a process has what its machine has


def gpu_tags(gpus: int) -> list[str]:
    """The tags of a run that needs so many GPUs."""
    return [f"{_GPUS_TAG}{gpus}"] if gpus else []


def gpus_of(tags: Iterable[str]) -> int:
    """How many GPUs a run with these tags needs."""
    found = [re.fullmatch(rf"{_GPUS_TAG}(\d+)", tag) for tag in tags]
    return max((int(one[1]) for one in found if one), default=0)


def _docker(memory_mb: int | None, cpu: float | None, gpus: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if memory_mb:  # the same for both: a container that swaps is slow for hours instead of dead at once
        told["mem_limit"] = told["memswap_limit"] = f"{memory_mb}m"
    if cpu:
        told["nano_cpus"] = int(cpu * 1e9)
    if gpus:
        told["device_requests"] = [{"driver": "nvidia", "count": gpus, "capabilities": [["gpu"]]}]
    return told


def _kubernetes(memory_mb: int | None, cpu: float | None, gpus: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if memory_mb:
        told["memory_request"] = told["memory_limit"] = f"{memory_mb}Mi"
    if cpu:
        told["cpu_request"] = told["cpu_limit"] = f"{int(cpu * 1000)}m"
    if gpus:
        told["gpus"] = str(gpus)
    return told


def _ecs(pool: PoolDefinition, memory_mb: int | None, cpu: float | None, gpus: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if pool.job_variables.get("launch_type", "FARGATE") == "FARGATE":
        if gpus:
            raise InvalidInput(
                f"pool {pool.name!r}: Fargate has no GPUs; a pool of EC2 instances has (job_variables.launch_type: EC2)"
            )
        told["cpu"], told["memory"] = _fargate(pool, memory_mb or 0, cpu or 0)
        return told
    if memory_mb:
        told["memory"] = memory_mb
    if cpu:
        told["cpu"] = math.ceil(cpu * 1024)
    if gpus:
        told["resource_requirements"] = [{"type": "GPU", "value": str(gpus)}]
    return told


def _fargate(pool: PoolDefinition, memory_mb: int, cpu: float) -> tuple[int, int]:
    """The smallest of Fargate's sizes that holds both."""
    for units, memories in _FARGATE.items():
        if units >= cpu * 1024:
            for memory in memories:
                if memory >= memory_mb:
                    return units, memory
    raise InvalidInput(
        f"pool {pool.name!r}: Fargate has no task of {cpu:g} CPU and {memory_mb} MB; the largest has 16 CPU and 120 GB"
    )
