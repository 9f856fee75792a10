"""Find a model module by its entry point and offer its DEEPaaS V2 functions."""

from __future__ import annotations

import inspect
from importlib.metadata import entry_points
from typing import Any

from volvox.worker import standing_in
from volvox.worker.standing_in import UploadedFile

__all__ = ["FUNCTIONS", "GROUP", "Missing", "UploadedFile", "accepts", "fields", "function", "load"]

GROUP = "deepaas.v2.model"
FUNCTIONS = (
    "get_metadata", "warm", "get_predict_args", "predict", "get_train_args", "train", "evaluate", "predict_batch",
)  # fmt: skip


class Missing(Exception):
    """The module does not offer what was asked for."""


def load(name: str) -> Any:
    """The module, object or instance behind entry point `name`.

    Raises:
        Missing: If no installed distribution has it.
    """
    standing_in.prepare()
    found = [point for point in entry_points(group=GROUP) if point.name == name]
    if not found:
        raise Missing(f"no model module {name!r} is installed here")
    loaded = found[0].load()
    return loaded() if inspect.isclass(loaded) else loaded


def function(module: Any, name: str) -> Any:
    """The module's function `name`.

    Raises:
        Missing: If the module has none.
    """
    found = getattr(module, name, None)
    if found is None:
        raise Missing(f"the module does not implement {name}()")
    return found


def fields(module: Any, name: str) -> dict[str, Any]:
    """The argument fields that `get_predict_args` or `get_train_args` gives; `{}` where it is not implemented."""
    try:
        return dict(function(module, name)() or {})
    except (Missing, NotImplementedError):
        return {}


def accepts(called: Any, name: str) -> bool:
    """Whether `called` takes a keyword `name` by name (`**kwargs` does not count)."""
    try:
        return name in inspect.signature(called).parameters
    except (TypeError, ValueError):
        return False
