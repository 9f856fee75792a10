"""Where functions were deployed before: one that is removed or moved while nobody dispatches leaves things there.

Each runtime keeps what it must remember of a function below `VOLVOX_HOME/dispatch/<runtime>/`, from before anything of
it is made until all of it is gone.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from volvox.runtimes.kept import BEGUN, DEPLOYED
from volvox.settings import Home

_INNER = ("", "lambda", "batch")  # lambda-batch keeps two runtimes in its folder


def left_on(home: Home, runtimes: Collection[str], name: str = "*") -> dict[str, set[str]]:
    """The runtimes that remember a function, by its name.

    Args:
        home: Whose functions.
        runtimes: Which runtimes.
        name: Of this function only.
    """
    found: dict[str, set[str]] = {}
    for runtime in runtimes:
        for path in _remembered(home.root / "dispatch" / runtime, name):
            found.setdefault(path.parent.name, set()).add(runtime)
    return found


def _remembered(folder: Path, name: str) -> list[Path]:
    return [path for inner in _INNER for file in (DEPLOYED, BEGUN) for path in (folder / inner).glob(f"{name}/{file}")]
