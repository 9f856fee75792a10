"""What instances print: one file each, of which a call gets the part that was printed while it was answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

_COPY_SECONDS = 0.5
_PIECE = 1 << 20
_KEPT_FILES = 20
_LONGEST = 8 << 20


class Printed:
    """Copies what is added to a file of an instance into that of a call."""

    def __init__(self, source: Path, target: Path) -> None:
        """From the present end of `source` on."""
        self._source, self._target = source, target
        self._at = _size(source)
        self._timer: asyncio.TimerHandle | None = None
        self._again()

    def copy(self) -> None:
        """Copy what was added."""
        if _size(self._source) <= self._at:
            return
        with contextlib.suppress(OSError), self._source.open("rb") as source, self._target.open("ab") as target:
            source.seek(self._at)
            while piece := source.read(_PIECE):
                target.write(piece)
                self._at += len(piece)

    def end(self) -> None:
        """Copy the rest and stop."""
        if self._timer is not None:
            self._timer.cancel()
        self.copy()

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_COPY_SECONDS, self._tick)

    def _tick(self) -> None:
        self.copy()
        self._again()


def new_file(folder: Path) -> Path:
    """A file for what the next instance prints; the oldest of many are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    there = sorted(folder.glob("*.log"))
    for old in there[: max(0, len(there) + 1 - _KEPT_FILES)]:
        old.unlink(missing_ok=True)
    number = int(there[-1].stem) + 1 if there else 1
    made = folder / f"{number:08d}.log"
    made.touch()
    return made


def shorten(path: Path) -> None:
    """Empty a file that has become long; whoever prints to it goes on at its beginning."""
    if _size(path) > _LONGEST:
        with contextlib.suppress(OSError):
            os.truncate(path, 0)


async def lines(folder: Path, *, follow: bool) -> AsyncIterator[str]:
    """The lines of all files in the folder, and then, if they are followed, those that are added."""
    read: dict[Path, int] = {}
    rest: dict[Path, bytes] = {}
    while True:
        for path in sorted(folder.glob("*.log")):
            size, at = _size(path), read.get(path, 0)
            at = 0 if size < at else at
            while at < size:
                piece = await asyncio.to_thread(_read, path, at)
                if not piece:
                    break
                at += len(piece)
                *whole, rest[path] = (rest.get(path, b"") + piece).split(b"\n")
                for line in whole:
                    yield line.decode(errors="replace")
            read[path] = at
            if not follow and (last := rest.pop(path, b"")):
                yield last.decode(errors="replace")
        if not follow:
            return
        await asyncio.sleep(_COPY_SECONDS / 2)


def _read(path: Path, at: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(at)
            return stream.read(_PIECE)
    except OSError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
