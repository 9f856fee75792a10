"""What this machine has, found in milliseconds and without torch."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from volvox.pools.definition import HERE, Offers, PoolDefinition
from volvox.pools.files import known_pool, read_pools
from volvox.settings import Home

_MB = 2**20
_ANSWERS_SECONDS = 5.0


def here(offers: Offers | None = None) -> PoolDefinition:
    """This very process as a place: it starts nothing, costs nothing, and has what the machine has."""
    return PoolDefinition(
        name=HERE, type="process", description="This process.", offers=offers or this_machine(), startup_seconds=0
    )


def pools_within_reach(home: Home, stated: str = "") -> dict[str, PoolDefinition]:
    """This process, the pools that are on, and the one that somebody states.

    Raises:
        NotFound: If there is no such pool.
    """
    machine, known = this_machine(), read_pools(home)
    if stated not in ("", HERE, "auto"):
        known_pool(stated, known)
    wanted = {name: filled(pool, machine) for name, pool in known.items() if pool.enabled or name == stated}
    return {HERE: here(machine), **wanted}


def filled(pool: PoolDefinition, machine: Offers) -> PoolDefinition:
    """A pool of processes with what its file leaves open taken from the machine that its worker runs on, this one."""
    if pool.type != "process":
        return pool
    stated = {name: value for name, value in pool.offers if value is not None}
    offers = machine.model_copy(update=stated)
    total = offers.gpus if pool.gpus_total is None else pool.gpus_total
    return pool.model_copy(update={"offers": offers, "gpus_total": total})


def this_machine(root: Path = Path("/")) -> Offers:
    """Cores, memory and GPUs that this process may use.

    Args:
        root: Where `proc` and `sys` lie.
    """
    gpus = _asked_gpus()
    if gpus is None:
        gpus = [_Gpu()] * len(list((root / "proc/driver/nvidia/gpus").glob("*")))
    # A job may get any of them, so what all of them have counts.
    return Offers(
        cpu=_cores(root),
        memory_mb=_memory_mb(root),
        gpus=len(gpus),
        gpu_memory_mb=min((gpu.memory_mb for gpu in gpus if gpu.memory_mb), default=None),
        gpu_model=next((gpu.model for gpu in gpus if gpu.model), None),
        gpu_compute_capability=min((gpu.capability for gpu in gpus if gpu.capability), default=None),
    )


@dataclass(frozen=True)
class _Gpu:
    model: str = ""
    memory_mb: int | None = None
    capability: float | None = None


def _cores(root: Path) -> float:
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, int(quota) / int(period))
    return cores


def _memory_mb(root: Path) -> int | None:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemTotal:")).split()[1]) * 1024 // _MB)
    with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
        found.append(int((root / "sys/fs/cgroup/memory.max").read_text()) // _MB)
    return min(found, default=None)


def _asked_gpus() -> list[_Gpu] | None:
    """What NVIDIA's own tool says, or None where there is none."""
    if not (tool := shutil.which("nvidia-smi")):
        return None
    try:
        done = subprocess.run(
            [tool, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=_ANSWERS_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else [_gpu(line) for line in done.stdout.splitlines() if line.strip()]


def _gpu(line: str) -> _Gpu:
    """One line of the tool: `NVIDIA A10G, 23028, 8.6`; `[N/A]` stands for what a GPU does not say."""
    model, memory, capability = (*(part.strip() for part in line.rsplit(",", 2)), "", "")[:3]
    numbers: list[float | None] = []
    for text in (memory, capability):
        try:
            numbers.append(float(text))
        except ValueError:
            numbers.append(None)
    return _Gpu(model, int(numbers[0]) if numbers[0] else None, numbers[1])
