"""What a definition leaves open and the model's metadata says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from volvox.functions.definition import Function
from volvox.settings import Home

# The metadata schema's words -> ours.
_WORDS = {"cpu": "cpu", "gpu": "gpus", "memory_MB": "memory_mb", "storage_MB": "storage_mb"}


def filled(function: Function, metadata: Mapping[str, Any]) -> Function:
    """The function with what it leaves open taken from `resources.inference` of a model's metadata.

    Args:
        function: As its file states it; what stands there stays.
        metadata: Of the module or of the catalogue's entry; amounts that are none are left out.
    """
    resources = metadata.get("resources")
    stated = resources.get("inference") if isinstance(resources, Mapping) else None
    if not isinstance(stated, Mapping):
        return function
    own = function.resources.model_dump(exclude_unset=True)
    found = {
        ours: value
        for theirs, ours in _WORDS.items()
        if own.get(ours) is None and (value := _amount(stated.get(theirs), whole=ours != "cpu")) is not None
    }
    if not found:
        return function
    return function.model_copy(update={"resources": function.resources.model_copy(update=found)})


def catalogued(home: Home, model: str) -> dict[str, Any] | None:
    """The metadata of a model in the home's catalogue, which shows champions.

    Args:
        home: Whose.
        model: `NAME`, `NAME@champion`, or `NAME/VERSION`; of another version than the one it shows, and of another
            alias, the catalogue knows nothing: None.
    """
    name, _, version = model.partition("/")
    name, _, alias = name.partition("@")
    if alias not in ("", "champion"):
        return None
    try:
        entry = json.loads((home.root / "catalogue" / name / "entry.json").read_text(encoding="utf-8"))
        metadata = entry["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(metadata, dict) or (version and str(metadata.get("version")) != version):
        return None
    return metadata


def from_catalogue(home: Home, function: Function) -> Function:
    """The function, filled from the catalogue of the home where that shows its model."""
    metadata = catalogued(home, function.model) if function.model else None
    return filled(function, metadata) if metadata else function


def _amount(value: Any, *, whole: bool) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return None
    return math.ceil(value) if whole else float(value)
