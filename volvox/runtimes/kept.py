"""What a runtime knows of its functions: in memory, and on disk for the dispatcher after this one.

Below the runtime's folder lies a folder for each function. `deployed.json` is what calls find; it is written aside and
renamed. `begun.json`, where a runtime needs it, is there before anything is made, so that removing finds it. The truth
is what the engine has.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from volvox.disks import replace_text
from volvox.functions.definition import Function

DEPLOYED, BEGUN = "deployed.json", "begun.json"

log = logging.getLogger(__name__)


class Deployed(Protocol):
    """What is kept of a function."""

    @property
    def function(self) -> Function: ...


D = TypeVar("D", bound=Deployed)


class Kept(Generic[D]):
    """The functions of one runtime.

    Attributes:
        folder: The runtime's own.
        present: Those that are in memory, by name.
    """

    def __init__(self, folder: Path, read: Callable[[str, Mapping[str, Any]], D]) -> None:
        """Know of none yet, or of those that are in the folder.

        Args:
            folder: The runtime's own.
            read: Makes of a name and of what `write` wrote what calls find. What cannot be read it refuses as
                ValueError, KeyError or TypeError.
        """
        self.folder, self._read = folder, read
        self.present: dict[str, D] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def get(self, name: str) -> D | None:
        """What calls find; after a start of the dispatcher it is read from the folder."""
        if name not in self.present and (found := self.remembered(name)) is not None:
            self.present[name] = found
        return self.present.get(name)

    def remembered(self, name: str) -> D | None:
        """What the folder says; None if it says nothing, or nothing that can be read."""
        try:
            return self._read(name, json.loads((self.folder / name / DEPLOYED).read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("what is deployed as %r cannot be read (%s); deploy it again", name, error)
            return None

    def write(self, name: str, told: Mapping[str, Any]) -> None:
        """Have the next dispatcher find it."""
        replace_text(self.folder / name / DEPLOYED, json.dumps(told))

    def written(self, name: str) -> bool:
        """Whether the next dispatcher would find it."""
        return (self.folder / name / DEPLOYED).exists()

    def begin(self, function: Function) -> None:
        """Say that things are made of it from now on."""
        replace_text(self.folder / function.name / BEGUN, function.model_dump_json())

    def begun(self, name: str) -> Function | None:
        """What something may have been made of."""
        try:
            return Function.model_validate_json((self.folder / name / BEGUN).read_text())
        except (OSError, ValueError):
            return None

    def leave(self, name: str) -> D | None:
        """Have calls find nothing from now on, those of the next dispatcher too; what they found until now."""
        found = self.get(name)
        self.present.pop(name, None)
        (self.folder / name / DEPLOYED).unlink(missing_ok=True)
        return found

    async def forget(self, name: str) -> None:
        """Remove its folder."""
        self.present.pop(name, None)
        await asyncio.to_thread(shutil.rmtree, self.folder / name, ignore_errors=True)

    def lock(self, name: str) -> asyncio.Lock:
        """Held while it is deployed, scaled or removed."""
        return self._locks.setdefault(name, asyncio.Lock())
