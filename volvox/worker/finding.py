"""Which object is meant by the text that names a model module, and how it is imported.

The text is an entry point's name in this interpreter, or says what one would say, and where the code lies:
`NAME = PACKAGE.MODULE:OBJECT @ FOLDER`. `:OBJECT` and `@ FOLDER` may be absent; several folders have `:` between them
(as on PATH). The first folder goes before everything else on `sys.path`, the others behind.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import Any

GROUP = "deepaas.v2.model"


class Unknown(LookupError):
    """Nothing has the name that was asked for."""


@dataclass(frozen=True)
class Place:
    """What the text says.

    Attributes:
        name: The entry point's name, or what it would be.
        module: The Python module; empty for an entry point.
        object: What in the module; empty for the module itself.
        folders: What goes on `sys.path`.
    """

    name: str
    module: str = ""
    object: str = ""
    folders: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.module:
            return self.name
        value = f"{self.name} = {self.module}" + (f":{self.object}" if self.object else "")
        return value + (f" @ {os.pathsep.join(self.folders)}" if self.folders else "")


def parse(text: str) -> Place:
    """`text` in its parts."""
    name, equals, value = text.partition(" = ")
    if not equals:
        return Place(text.strip())
    value, _, folders = value.partition(" @ ")
    module, _, found = value.partition(":")
    places = tuple(folder for folder in folders.strip().split(os.pathsep) if folder)
    return Place(name.strip(), module.strip(), found.strip(), places)


def installed() -> dict[str, str]:
    """The model modules that this interpreter has: name -> `module` or `module:object`."""
    return {point.name: point.value for point in _points()}


def find(text: str) -> Any:
    """Import what `text` names; whatever the import raises comes through.

    Raises:
        Unknown: If no installed distribution has an entry point of that name, or the module no such object.
    """
    place = parse(text)
    if not place.module:
        place = _declared(place.name) or _listed(place.name)
    if place.folders:
        sys.path.insert(0, place.folders[0])
        sys.path.extend(place.folders[1:])
        importlib.invalidate_caches()
    module = importlib.import_module(place.module)
    try:
        return functools.reduce(getattr, filter(None, place.object.split(".")), module)
    except AttributeError as error:
        raise Unknown(f"module {place.module} has no {place.object}") from error


def _declared(name: str) -> Place | None:
    """The module of an entry point, read where installers write it; None: it stands elsewhere, if anywhere.

    `importlib.metadata` reads the same, after it has been imported, which takes as long as a small module does.
    """
    for folder in sys.path:
        try:
            distributions = [one for one in os.listdir(folder or ".") if one.endswith(".dist-info")]  # noqa: PTH208
        except OSError:
            continue
        for one in distributions:
            try:
                with open(os.path.join(folder, one, "entry_points.txt"), encoding="utf-8") as stream:  # noqa: PTH118, PTH123
                    text = stream.read()
            except OSError:
                continue
            if GROUP in text and (value := _value(text, name)):
                module, _, found = value.partition("[")[0].partition(":")
                return Place(name, module.strip(), found.strip())
    return None


def _value(text: str, name: str) -> str:
    """What an entry point of the group is, in the text of such a file; or empty."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            group = line.strip("[] ")
        elif group == GROUP:
            key, _, value = line.partition("=")
            if key.strip() == name:
                return value.strip()
    return ""


def _listed(name: str) -> Place:
    for point in _points():
        if point.name == name:
            module, _, found = point.value.partition("[")[0].partition(":")
            return Place(name, module.strip(), found.strip())
    raise Unknown(f"no model module {name!r} is installed here")


def _points() -> list[Any]:
    from importlib.metadata import entry_points

    found: Any = entry_points()
    select = getattr(found, "select", None)  # Python 3.8 and 3.9 have a dict
    return list(select(group=GROUP) if select else found.get(GROUP, ()))
