"""Where Volvox keeps its state on this machine, and the addresses that replace parts of it."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from volvox.disks import full, full_behind
from volvox.errors import InvalidInput


@dataclass(frozen=True)
class Home:
    """The folder that holds all state of one installation (`VOLVOX_HOME`, default `~/.volvox`)."""

    root: Path

    @classmethod
    def current(cls) -> Home:
        """The home that the environment names; nothing is created."""
        return cls(Path(os.environ.get("VOLVOX_HOME") or Path.home() / ".volvox").expanduser().absolute())

    def ensure(self) -> Home:
        """Create the folder if it is missing and prove that it can be written.

        Raises:
            InvalidInput: If it cannot be created or written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            if full_behind(error):
                raise full(self.root) from error
            raise InvalidInput(
                f"VOLVOX_HOME is {self.root}, which cannot be written ({error.strerror}); "
                "set VOLVOX_HOME to a folder of yours"
            ) from error
        return self

    def folder(self, *parts: str) -> Path:
        """A folder below the home, created."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def store(self) -> str:
        """Address of the object store: `VOLVOX_STORE`, else a folder of the home."""
        return os.environ.get("VOLVOX_STORE") or str(self.root / "store")

    @property
    def cache(self) -> Path:
        """What can be fetched or computed again."""
        return self.folder("cache")

    @property
    def stack(self) -> Path:
        """Pids, ports and logs of what `volvox up` started."""
        return self.folder("stack")
