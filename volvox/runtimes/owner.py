"""Whose the things are that a runtime makes on an engine which others use too."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

from volvox.disks import replace_text


def owner_of(folder: Path) -> str:
    """What everything of a runtime's folder carries; no other folder of any machine has the same."""
    path = folder / "owner"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    replace_text(path, uuid.uuid4().hex[:20])
    return path.read_text().strip()
