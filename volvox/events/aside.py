"""Notifications that nobody can use, put aside with the reason, so that they hold up no others and are not lost."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path

log = logging.getLogger(__name__)

_MOST_BYTES = 256 << 10


class Aside:
    """A folder with one JSON file for each: `{"source", "reason", "body", "time"}`."""

    def __init__(self, folder: Path, most: int = 1000) -> None:
        """Put them into `folder`, the newest `most` of them."""
        self.folder, self._most = folder, most

    def put(self, source: str, body: str, reason: str) -> Path:
        """Put one aside; the same one again is one file."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256(f"{source}\0{body}".encode("utf-8", "replace")).hexdigest()[:24]
        path = self.folder / f"{digest}.json"
        told = {"source": source, "reason": reason, "body": body[:_MOST_BYTES], "time": time.time()}
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(told, indent=1))
        temporary.replace(path)
        log.warning("a notification of %s was put aside as %s: %s", source, path, reason)
        kept = sorted(self.folder.glob("*.json"), key=lambda one: one.stat().st_mtime)
        for old in kept[: -self._most]:
            old.unlink(missing_ok=True)
        return path
