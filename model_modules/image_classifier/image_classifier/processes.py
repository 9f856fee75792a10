"""The place of this process among those that train together, as whoever started them tells it.

The variables are those of torchrun: `MASTER_ADDR`, `MASTER_PORT`, `WORLD_SIZE`, `RANK`, `LOCAL_RANK`, and, where there
are several machines, `LOCAL_WORLD_SIZE`. Every process is started with the same arguments; only the first one writes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from webargs import ValidationError

_NEEDED = ("MASTER_ADDR", "MASTER_PORT", "RANK")
TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is.

    Attributes:
        rank: Its number, from 0.
        world: How many there are in all.
        local_rank: Its number among those of this machine, from 0.
        local_world: How many there are on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


def place() -> Place:
    """This process' place; one process alone where `WORLD_SIZE` is not set, or is 1.

    Raises:
        ValidationError: If the variables contradict each other, or some are missing.
    """
    world = _number("WORLD_SIZE", 1)
    if world <= 1:
        return Place()
    if missing := [name for name in _NEEDED if not os.environ.get(name)]:
        raise _wrong(f"WORLD_SIZE says {world} processes, but {', '.join(missing)} is not set; use a launcher.")
    rank = _number("RANK", 0)
    if rank >= world:
        raise _wrong(f"RANK is {rank} of {world} processes; ranks count from 0 to {world - 1}.")
    alone = _number("GROUP_RANK", _number("NODE_RANK", 0)) == 0 and "LOCAL_RANK" not in os.environ
    local_rank = _number("LOCAL_RANK", rank if alone else 0)
    return Place(rank, world, local_rank, max(local_rank + 1, _number("LOCAL_WORLD_SIZE", 1)))


@contextmanager
def joined(mine: Place, gpu: int | None) -> Iterator[None]:
    """All processes connected for the time of the block: by NCCL where each has a GPU, else by Gloo.

    Where the block fails the connections stay open until this process has ended, so that the others do not hear of
    that before the reason is told.

    Args:
        mine: What `place()` said; one process alone is connected with nobody.
        gpu: Number of the GPU that this process uses, if it uses one.

    Raises:
        RuntimeError: If the others do not come.
    """
    if mine.world == 1:
        yield
        return
    import torch
    from torch import distributed

    if gpu is not None:
        torch.cuda.set_device(gpu)
    try:
        distributed.init_process_group("gloo" if gpu is None else "nccl", timeout=TIMEOUT)
    except distributed.DistError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RuntimeError(f"the {mine.world} processes did not meet at {where}: {_line(error)}") from error
    yield
    distributed.barrier()
    distributed.destroy_process_group()


def agree(mine: Place, identity: dict[str, Any]) -> None:
    """Nothing, if all processes are about to do the same training.

    Raises:
        ValidationError: In all of them, if one was given something else than the first.
    """
    if mine.world == 1:
        return
    from torch import distributed

    said: list[Any] = [None] * mine.world
    distributed.all_gather_object(said, hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest())
    if others := [rank for rank, other in enumerate(said) if other != said[0]]:
        raise ValidationError(
            {"data": [f"Process {others[0]} has other data or arguments than process 0; give all of them the same."]}
        )


def from_first(mine: Place, value: Any) -> Any:
    """What the first process gave as `value`."""
    if mine.world == 1:
        return value
    from torch import distributed

    told = [value]
    distributed.broadcast_object_list(told, src=0)
    return told[0]


def environment() -> Any:
    """What Lightning asks for its place, for processes that were started by somebody else."""
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    class Told(TorchElasticEnvironment):
        def local_rank(self) -> int:
            return 0  # each process tells Lightning of its own device only, so that it is the first of one

        def validate_settings(self, num_devices: int, num_nodes: int) -> None:
            """`place()` has checked them."""

    return Told()


def _number(name: str, otherwise: int) -> int:
    value = os.environ.get(name) or str(otherwise)
    if not value.isdecimal():
        raise _wrong(f"{name} is {value!r}, which is no whole number from 0.")
    return int(value)


def _wrong(message: str) -> ValidationError:
    return ValidationError({"environment": [message]})


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
