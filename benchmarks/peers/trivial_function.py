"""The function of part A, the same in every server."""

from __future__ import annotations

from typing import Any


def predict(number: int, text: str) -> dict[str, Any]:
    """A small answer that costs nothing."""
    return {"number": number + 1, "text": text.upper()}
