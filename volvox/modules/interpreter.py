"""The Python that a module runs in: this one, or another with pins of its own, where Volvox is not installed."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput
from volvox.worker import bootstrap, finding

_SECONDS = 30
_BOOTSTRAP = str(Path(bootstrap.__file__).absolute())


@dataclass(frozen=True)
class Interpreter:
    """A Python that can hold model modules.

    Attributes:
        path: Its executable; empty for the one that runs this code.
        modules: The model modules that are installed there: name -> `module` or `module:object`.
    """

    path: str
    modules: dict[str, str]


def inspect(python: str) -> Interpreter:
    """What the Python at `python` is and has: an executable, or the folder of a virtual environment; empty: this one.

    Raises:
        InvalidInput: If it does not exist, is no Python, or is too old.
    """
    if not python:
        return Interpreter("", finding.installed())
    path = _executable(python)
    told = _probe(path, path.stat().st_mtime_ns)
    version = told.get("python")
    if not isinstance(version, list):
        raise InvalidInput(f"{path} is no Python: asked which it is, it did not answer; give --python a bin/python")
    if tuple(version[:2]) < bootstrap.OLDEST:
        oldest = ".".join(map(str, bootstrap.OLDEST))
        raise InvalidInput(
            f"{path} is Python {'.'.join(map(str, version))}; a model module needs {oldest} or later: "
            "make its virtual environment with a newer one"
        )
    return Interpreter(str(path), told.get("modules") or {})


def command(python: str, name: str, *arguments: str) -> list[str]:
    """The command line that does `name` (`loop`, `call`) of the worker side in the Python at `python`."""
    return [python or sys.executable, _BOOTSTRAP, name, *arguments]


def environment(python: str) -> dict[str, str]:
    """This process's variables for a child in the Python at `python`: as if its environment were activated.

    What leads this interpreter to its own packages would lead another one to packages that it cannot use.
    """
    variables = dict(os.environ)
    if python:
        for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
            variables.pop(name, None)
        folder = Path(python).absolute().parent
        variables["PATH"] = os.pathsep.join(filter(None, [str(folder), variables.get("PATH")]))
        if (folder.parent / "pyvenv.cfg").is_file():
            variables["VIRTUAL_ENV"] = str(folder.parent)
    return variables


def _executable(python: str) -> Path:
    # Not resolved: in a virtual environment it is a link, and where the link lies says which environment it is.
    path = Path(python).expanduser().absolute()
    if path.is_dir() and (path / "bin" / "python").exists():
        path = path / "bin" / "python"
    if not path.exists():
        raise InvalidInput(f"there is no Python at {path}; give --python the bin/python of the module's environment")
    if path.is_dir() or not os.access(path, os.X_OK):
        raise InvalidInput(f"{path} is no Python: it cannot be executed; give --python a bin/python")
    return path


@functools.lru_cache(maxsize=32)
def _probe(path: Path, changed: int) -> dict[str, Any]:  # noqa: ARG001 - another executable has another time
    try:
        done = subprocess.run(
            command(str(path), "probe"),
            env=environment(str(path)), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_SECONDS, check=False,
        )  # fmt: skip
        told = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired):
        return {}
    return told if isinstance(told, dict) else {}
