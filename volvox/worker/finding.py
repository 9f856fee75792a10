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
from importlib.metadata import entry_points
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
        for point in _points():
            if point.name == place.name:
                return point.load()
        raise Unknown(f"no model module {place.name!r} is installed here")
    if place.folders:
        sys.path.insert(0, place.folders[0])
        sys.path.extend(place.folders[1:])
        importlib.invalidate_caches()
    module = importlib.import_module(place.module)
    try:
        return functools.reduce(getattr, filter(None, place.object.split(".")), module)
    except AttributeError as error:
        raise Unknown(f"module {place.module} has no {place.object}") from error


def _points() -> list[Any]:
    found: Any = entry_points()
    select = getattr(found, "select", None)  # Python 3.8 and 3.9 have a dict
    return list(select(group=GROUP) if select else found.get(GROUP, ()))
