"""The module of part A: two arguments, a small answer."""

from __future__ import annotations

from typing import Any

import trivial_function
from webargs import fields


def get_metadata() -> dict[str, Any]:
    """Its name."""
    return {"name": "bench-trivial", "description": "Adds one."}


def get_predict_args() -> dict[str, Any]:
    """A number and a text."""
    return {"number": fields.Int(load_default=1), "text": fields.Str(load_default="")}


def predict(number: int, text: str) -> dict[str, Any]:
    """Next number, large letters."""
    return trivial_function.predict(number, text)
