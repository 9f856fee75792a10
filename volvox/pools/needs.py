"""What a module says it needs to train or to answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volvox.errors import InvalidInput
from volvox.modules.discovery import Module

Purpose = Literal["training", "inference"]

# The metadata schema's words -> ours.
_WORDS = {
    "cpu": "cpu",
    "gpu": "gpus",
    "memory_MB": "memory_mb",
    "gpu_memory_MB": "gpu_memory_mb",
    "gpu_compute_capability": "gpu_compute_capability",
    "storage_MB": "storage_mb",
}


class Needs(BaseModel):
    """What one run must have at least; 0: it does not matter.

    Attributes:
        cpu: Cores.
        memory_mb: Main memory in MB of 2**20 bytes.
        gpus: How many GPUs.
        gpu_memory_mb: Memory of each of them.
        gpu_compute_capability: NVIDIA's number for their generation.
        storage_mb: Scratch disk.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: float = Field(default=0, ge=0, allow_inf_nan=False)
    memory_mb: int = Field(default=0, ge=0)
    gpus: int = Field(default=0, ge=0)
    gpu_memory_mb: int = Field(default=0, ge=0)
    gpu_compute_capability: float = Field(default=0, ge=0, allow_inf_nan=False)
    storage_mb: int = Field(default=0, ge=0)


def needs_of(module: Module, purpose: Purpose, overrides: Mapping[str, Any] | None = None) -> Needs:
    """What `module` needs for `purpose` by its metadata (`resources.training`, `resources.inference`), or by its user.

    A module without metadata, or of a schema version that knows no resources, states nothing and fits everywhere.

    Args:
        module: An installed module.
        purpose: Which of the two.
        overrides: What goes before the module's words: `{"gpus": 1, "memory_mb": 8000}`; None as a value: the
            module's.

    Raises:
        InvalidInput: If the metadata or the overrides hold what is no amount.
    """
    stated = module.metadata().get("resources") or {}
    stated = stated.get(purpose) or {} if isinstance(stated, dict) else {}
    if not isinstance(stated, dict):
        raise InvalidInput(f"resources.{purpose} in the metadata of module {module.name!r} holds no keys and values")
    # Other keys are allowed by the schema, and say nothing to us.
    told = {ours: stated[theirs] for theirs, ours in _WORDS.items() if stated.get(theirs) is not None}
    _validated(told, f"resources.{purpose} in the metadata of module {module.name!r}")
    own = {name: value for name, value in (overrides or {}).items() if value is not None}
    for name in own:
        if name not in Needs.model_fields:
            near = get_close_matches(name, Needs.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidInput(f"a run has no need {name!r}{hint}; there are {', '.join(Needs.model_fields)}")
    return _validated({**told, **own}, "what the run needs")


def _validated(told: Mapping[str, Any], where: str) -> Needs:
    try:
        return Needs.model_validate(dict(told))
    except ValidationError as error:
        first = error.errors()[0]
        amount = json.dumps(first["input"], default=str)
        raise InvalidInput(f"{where}: {first['loc'][0]} is {amount}; it must be a number from 0 upwards") from error
