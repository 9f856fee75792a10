from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from volvox.pools.definition import Offers, PoolDefinition
from volvox.pools.machine import filled, here, this_machine

SMI = """#!/bin/sh
echo 'NVIDIA A10G, 23028, 8.6'
echo 'Tesla T4, 15360, [N/A]'
"""


@pytest.fixture
def no_gpu_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_this_machine_has_cores_and_memory() -> None:
    found = this_machine()
    assert 0 < (found.cpu or 0) <= (os.cpu_count() or 1)
    assert (found.memory_mb or 0) > 100


def test_a_limit_of_the_container_around_counts(tmp_path: Path, no_gpu_tool: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:       24684032 kB\nMemFree: 1 kB\n")
    assert this_machine(tmp_path).memory_mb == 24105
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{512 * 2**20}\n")
    found = this_machine(tmp_path)
    assert (found.cpu, found.memory_mb, found.gpus) == (0.5, 512, 0)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert this_machine(tmp_path).memory_mb == 24105


def test_gpus_are_asked_of_nvidias_tool(no_gpu_tool: Path) -> None:
    tool = no_gpu_tool / "nvidia-smi"
    tool.write_text(SMI.replace("echo", "/bin/echo"))
    tool.chmod(0o755)
    found = this_machine()
    assert (found.gpus, found.gpu_memory_mb, found.gpu_model) == (2, 15360, "NVIDIA A10G")
    assert found.gpu_compute_capability == 8.6


def test_without_the_tool_they_are_counted(tmp_path: Path, no_gpu_tool: Path) -> None:
    for name in ("0000:00:1e.0", "0000:00:1f.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / name).mkdir(parents=True)
    found = this_machine(tmp_path)
    assert (found.gpus, found.gpu_memory_mb) == (2, None)


def test_a_tool_that_finds_no_driver_does_not_hide_what_proc_says(tmp_path: Path, no_gpu_tool: Path) -> None:
    tool = no_gpu_tool / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexit 9\n")
    tool.chmod(0o755)
    assert this_machine(tmp_path).gpus == 0


def test_a_pool_of_processes_has_what_the_machine_has_unless_its_file_says_less() -> None:
    machine = Offers(cpu=8, memory_mb=16000, gpus=1)
    local = PoolDefinition(name="local", type="process", offers=Offers(cpu=2))
    assert filled(local, machine).offers == Offers(cpu=2, memory_mb=16000, gpus=1)
    assert filled(local, machine).gpus_total == 1
    assert filled(local.model_copy(update={"gpus_total": 0}), machine).gpus_total == 0
    docker = PoolDefinition(name="docker", type="docker")
    assert filled(docker, machine) is docker
    assert here(machine).offers == machine


def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import sys; from volvox.pools.machine import this_machine; this_machine()\n"
        "print([name for name in ('torch', 'prefect', 'docker', 'numpy', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
