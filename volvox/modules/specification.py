"""Which model module is meant by what a person writes: a name, `package.module:object`, or a folder.

Nothing is imported here: what comes out is the text that the worker side reads (`volvox.worker.finding`), because the
module may need another interpreter, and because importing it may take seconds or end the process.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from volvox.errors import InvalidInput, UnknownModule
from volvox.modules import checkout
from volvox.modules.interpreter import Interpreter
from volvox.worker.finding import Place, parse

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_HOW = (
    "give --module the entry point's name of an installed module, PACKAGE.MODULE:OBJECT, "
    "or the folder of a module's source"
)


def resolve(text: str, interpreter: Interpreter, information: Path) -> Place:
    """The module that `text` means.

    Args:
        text: An entry point's name, `package.module:object`, `package.module`, a Python file, a folder, a folder with
            the name of one of its modules (`FOLDER:NAME`), or what `volvox.worker.finding` reads.
        interpreter: Where the module is to run.
        information: A folder of ours, for what installing a checkout would have recorded.

    Raises:
        UnknownModule: If nothing is called so.
        InvalidInput: If a folder holds no module, or several and none is named.
    """
    if " = " in text:
        return parse(text)
    if text in interpreter.modules:
        return Place(text)
    path, name = _path(text)
    if path is not None:
        return _file(path, name) if path.is_file() else _folder(path, name, information)
    module, _, found = text.partition(":")
    if _DOTTED.fullmatch(module) and (found or "." in module):
        return Place(module.partition(".")[0], module, found, _here(module, interpreter))
    if os.sep in text:
        raise InvalidInput(f"there is no folder {text}; {_HOW}")
    raise _unknown(text, interpreter)


def only(interpreter: Interpreter) -> Place:
    """The module that is meant where none is named: the only one that is installed.

    Raises:
        InvalidInput: If there is none, or several.
    """
    names = sorted(interpreter.modules)
    if len(names) == 1:
        return Place(names[0])
    where = f" in {interpreter.path}" if interpreter.path else ""
    if not names:
        raise InvalidInput(f"no model module is installed{where}; {_HOW}")
    raise InvalidInput(
        f"{len(names)} model modules are installed{where} ({', '.join(names)}) and none is named; "
        "choose with --module NAME (several times to serve several), --model-name or DEEPAAS_V2_MODEL"
    )


def _unknown(text: str, interpreter: Interpreter) -> UnknownModule:
    error = UnknownModule(text, sorted(interpreter.modules))
    where = f" in {interpreter.path}" if interpreter.path else ""
    error.args = (f"{error}{where}; {_HOW}",)
    return error


def _path(text: str) -> tuple[Path | None, str]:
    """The folder or Python file that `text` names, and what stands behind a colon after it."""
    whole = Path(text).expanduser()
    if whole.is_dir() or (whole.suffix == ".py" and whole.is_file()):
        return whole.absolute(), ""
    before, colon, name = text.rpartition(":")
    path = Path(before).expanduser()
    if colon and (path.is_dir() or (path.suffix == ".py" and path.is_file())):
        return path.absolute(), name
    return None, ""


def _file(path: Path, found: str) -> Place:
    """A Python file; in a package it is imported as a part of it."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    if parts[-1] == "__init__":
        parts.pop()
    name = parts[0] if len(parts) > 1 or parts[0] != "api" else path.parent.name
    return Place(_as_name(name), ".".join(parts), found, (str(root),))


def _folder(folder: Path, asked: str, information: Path) -> Place:
    if (folder / "__init__.py").is_file():  # a package
        api = folder / "api.py"
        return _file(api if api.is_file() else folder / "__init__.py", asked)
    told = checkout.read(folder)
    if told.modules:
        name = asked or next(iter(told.modules))
        if name not in told.modules or (not asked and len(told.modules) > 1):
            has = f"{folder} has the model modules {', '.join(sorted(told.modules))}"
            raise InvalidInput(f"{has}; name one of them: --module {folder}:{next(iter(told.modules))}")
        module, _, found = told.modules[name].split("[")[0].strip().partition(":")
        root = told.root_of(module)
        made = told.write_information(information / f"{folder.name}-{name}")
        return Place(name, module, found, (str(root), str(made)))
    candidates = [folder / "api.py", *sorted(folder.glob("*/api.py")), *sorted(folder.glob("src/*/api.py"))]
    candidates = [path for path in candidates if path.is_file() and path.parent.name not in ("tests", "test")]
    if len(candidates) == 1:
        return _file(candidates[0], asked)
    if candidates:
        listed = ", ".join(str(path.relative_to(folder)) for path in candidates)
        raise InvalidInput(f"{folder} declares no model module and has several api.py: {listed}; name one of them")
    raise InvalidInput(
        f"{folder} holds no model module: neither pyproject.toml, setup.cfg nor setup.py has an entry point of group "
        "deepaas.v2.model, and there is no api.py in it or in a package of it"
    )


def _here(module: str, interpreter: Interpreter) -> tuple[str, ...]:
    """The current folder where `module` lies in it and the interpreter has no distribution that brings it."""
    package = module.partition(".")[0]
    installed = {value.partition(".")[0].partition(":")[0] for value in interpreter.modules.values()}
    here = Path.cwd()
    if package not in installed and ((here / package).is_dir() or (here / f"{package}.py").is_file()):
        return (str(here),)
    return ()


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._") or "model"
