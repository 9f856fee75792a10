"""Whether a module can be trained in several processes at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.errors import InvalidInput


def check_processes(module: str, processes: int, described: Mapping[str, Any]) -> None:
    """Nothing, if `module` can be trained in so many processes.

    Args:
        module: Its name.
        processes: How many.
        described: What the module says of itself; not looked at for one process.

    Raises:
        InvalidInput: If it cannot.
    """
    if processes < 1:
        raise InvalidInput(f"a training in {processes} processes was asked for; ask for one or more")
    if processes > 1 and not described.get("distributed"):
        raise InvalidInput(
            f"module {module!r} does not say that it can train in {processes} processes at once; ask for one, or "
            "let its api say `distributed = True` once its train() takes its place from RANK and WORLD_SIZE"
        )
