"""The module for uploads: says how large the file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from webargs import fields


def get_predict_args() -> dict[str, Any]:
    """One file."""
    return {"data": fields.Raw(required=True, metadata={"type": "file", "location": "form"})}


def predict(data: Any) -> dict[str, Any]:
    """Its size in bytes."""
    return {"bytes": Path(data.filename).stat().st_size}
