"""What is predicted of a training; a part of its record."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Foreseen(BaseModel):
    """What a training was thought to take, before it began.

    Attributes:
        seconds: Of the training alone.
        low: The lower end of what earlier runs vary by.
        high: The upper end.
        cost: With the start of its job, in the operator's currency.
        said: What it was predicted from.
    """

    model_config = ConfigDict(frozen=True)

    seconds: float
    low: float
    high: float
    cost: float
    said: str
