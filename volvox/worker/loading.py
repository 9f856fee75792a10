"""Find a model module by its entry point and offer its DEEPaaS V2 functions."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import types
from collections import namedtuple
from typing import Any

from volvox.worker import finding
from volvox.worker.finding import GROUP

__all__ = ["FUNCTIONS", "GROUP", "Missing", "UploadedFile", "accepts", "fields", "function", "load"]

FUNCTIONS = (
    "get_metadata", "warm", "get_predict_args", "predict", "get_train_args", "train", "evaluate", "predict_batch",
)  # fmt: skip

UploadedFile = namedtuple(
    "UploadedFile", ("name", "filename", "content_type", "original_filename"), defaults=(None, None, None, None)
)
UploadedFile.__doc__ = """A file as modules get it: form field, path on disk, content type, the sender's name of it."""


class Missing(Exception):
    """The module does not offer what was asked for."""


def load(name: str) -> Any:
    """The module, object or instance behind `name`, a text that `volvox.worker.finding` reads.

    Raises:
        Missing: If there is none.
    """
    _stand_in_for_deepaas()
    try:
        loaded = finding.find(name)
    except finding.Unknown as error:
        raise Missing(str(error)) from error
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


def _stand_in_for_deepaas() -> None:
    """Modules import `deepaas.model.v2.wrapper.UploadedFile`; where DEEPaaS is not installed they find ours."""
    if "deepaas" in sys.modules or importlib.util.find_spec("deepaas"):
        return
    parent = None
    for dotted in ("deepaas", "deepaas.model", "deepaas.model.v2", "deepaas.model.v2.wrapper"):
        made = types.ModuleType(dotted)
        made.__path__ = []
        sys.modules[dotted] = made
        if parent is not None:
            setattr(parent, dotted.rpartition(".")[2], made)
        parent = made
    vars(parent)["UploadedFile"] = UploadedFile
