"""Which failures of a step are worth another try."""

from __future__ import annotations

from typing import Any

from volvox.errors import Ended, PoolDown, Unavailable


def is_transient(task: Any, run: Any, state: Any) -> bool:  # noqa: ARG001 - Prefect calls it with all three
    """Whether a task failed because something did not answer.

    Wrong input or a broken module fails again, and what has ended, or waits for an operator, was asked for already.
    """
    return isinstance(state.data, Unavailable) and not isinstance(state.data, Ended | PoolDown)
