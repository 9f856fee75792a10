"""The libraries that a model module uses, so that the next process for it can be forked from one that has them."""

from __future__ import annotations

import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from volvox.worker import finding

_INSTALLED = ("site-packages", "dist-packages")


def imported(text: str) -> list[str]:
    """The modules that this process has imported and any process may import, in the order that it did.

    Those of the standard library and of installed distributions; never the model module that `text` names, others of
    its distribution, or another model module: these are code and weights that change.
    """
    own = _model_packages() | {"volvox", "__main__", finding.parse(text).module.partition(".")[0]}
    return [name for name in [*sys.modules] if name.partition(".")[0] not in own and _of_a_library(name)]


def _of_a_library(name: str) -> bool:
    module = sys.modules.get(name)
    spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    if spec is None or spec.name != name or not isinstance(file, str):
        return False
    if any(part in _INSTALLED for part in Path(file).parts):
        return True
    return any(file.startswith(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib"))


def _model_packages() -> set[str]:
    """The top-level packages of every distribution that brings a model module."""
    found: set[str] = set()
    for one in distributions():
        points = [point for point in one.entry_points if point.group == finding.GROUP]
        if not points:
            continue
        found.update(point.value.partition(":")[0].partition(".")[0].strip() for point in points)
        found.update(file.parts[0].partition(".")[0] for file in one.files or () if file.suffix == ".py")
    return found
