"""Parameters of a run as Prefect keeps them: JSON, with records as they are and blocks by reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from volvox.errors import InvalidInput
from volvox.records import Record


def as_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters` as JSON values.

    Records become objects, saved blocks references, so that no secret is in a run's parameters. Paths, and a `source`
    that is one, become absolute: whoever runs it has another working folder.

    Raises:
        InvalidInput: If a value cannot be written as JSON, or a block was never saved.
    """
    return {name: _told(name, value) for name, value in parameters.items()}


def _told(name: str, value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump(mode="json", exclude={"digest"})
    if hasattr(value, "_block_document_id"):
        if value._block_document_id is None:
            raise InvalidInput(f"the block given as {name!r} is not saved; save it, so that the run can load it")
        return {"$ref": {"block_document_id": str(value._block_document_id)}}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path) or (name == "source" and isinstance(value, str) and value and "://" not in value):
        return str(Path(value).expanduser().absolute())
    if isinstance(value, Mapping):
        return {str(key): _told(f"{name}[{key!r}]", each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(f"{name}[{position}]", each) for position, each in enumerate(value)]
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} is {value!r}, which is no JSON ({error}); a run cannot be given it") from error
