"""What Linux tells of a tree of folders: which files are complete.

Source: inotify(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from volvox.errors import NotFound, Unavailable

_CLOSE_WRITE, _MOVED_TO, _CREATE = 0x8, 0x80, 0x100
_Q_OVERFLOW, _IGNORED, _ONLYDIR, _DONT_FOLLOW, _ISDIR = 0x4000, 0x8000, 0x01000000, 0x02000000, 0x40000000
_FLAGS = _CLOSE_WRITE | _MOVED_TO | _CREATE | _ONLYDIR | _DONT_FOLLOW
_HEADER = struct.Struct("iIII")
_READ = 256 << 10


class Lost(Exception):
    """More happened than the kernel keeps; the tree has to be looked through."""


class Tree:
    """A folder and all folders below it, also those that come."""

    def __init__(self, root: Path, wanted: Callable[[str], bool]) -> None:
        """Watch `root`.

        Args:
            root: A folder.
            wanted: Whether a folder, as a key with a `/` at its end, can hold what is sought.

        Raises:
            NotFound: If it is not there.
            Unavailable: If this system has no inotify, or allows too few watches for all of its folders.
        """
        self._root, self._wanted = root, wanted
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "inotify_init1"):
            raise Unavailable("this system cannot tell of files that change")
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._handle < 0:
            raise Unavailable(f"no more folders can be watched ({os.strerror(ctypes.get_errno())})")
        self._folders: dict[int, str] = {}
        try:
            self._top = self._add("")
            for _ in self._below(""):  # what is there already is not told
                pass
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when something has happened."""
        return self._handle

    def happened(self) -> Iterator[tuple[str, bool]]:
        """Keys of files, and whether each is known to be complete: files found in a folder that came are not.

        Raises:
            Lost: If more happened than was kept.
            NotFound: If the folder itself is gone.
        """
        while True:
            try:
                data = os.read(self._handle, _READ)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                watch, mask, _, length = _HEADER.unpack_from(data, at)
                name = os.fsdecode(data[at + _HEADER.size : at + _HEADER.size + length].rstrip(b"\0"))
                at += _HEADER.size + length
                yield from self._one(watch, mask, name)

    def close(self) -> None:
        """Watch no more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _one(self, watch: int, mask: int, name: str) -> Iterator[tuple[str, bool]]:
        if mask & _Q_OVERFLOW:
            raise Lost
        if mask & _IGNORED:
            self._folders.pop(watch, None)
            if watch == self._top:
                raise NotFound(f"the folder {self._root} is gone; it is watched again when it is there")
            return
        if (folder := self._folders.get(watch)) is None or not name or name.startswith("."):
            return
        if mask & _ISDIR:
            inner = f"{folder}{name}/"
            if self._wanted(inner) and self._add(inner) >= 0:
                yield from ((key, False) for key in self._below(inner))
        elif mask & (_CLOSE_WRITE | _MOVED_TO):
            yield folder + name, True

    def _add(self, folder: str) -> int:
        """Watch a folder; -1 if it is gone again."""
        path = self._root / folder
        flags = _FLAGS if folder else _FLAGS & ~_DONT_FOLLOW  # the folder itself may be named by a link
        watch = self._libc.inotify_add_watch(self._handle, os.fsencode(path), flags)
        if watch >= 0:
            self._folders[watch] = folder
            return watch
        number = ctypes.get_errno()
        if number == errno.ENOSPC:
            raise Unavailable(
                f"this system watches {len(self._folders):,} folders for this user and no more; raise "
                "fs.inotify.max_user_watches"
            )
        if not folder:
            raise NotFound(f"there is no folder {path} ({os.strerror(number)}); make it, or correct the address")
        return -1  # removed again, or refused, which the sweep tells

    def _below(self, folder: str) -> Iterator[str]:
        """Keys of the files below a folder, each folder watched before it is looked at."""
        try:
            with os.scandir(self._root / folder) as entries:
                found = [(one.name, one.is_dir(follow_symlinks=False)) for one in entries if one.name[0] != "."]
        except OSError:
            return
        for name, is_folder in found:
            if not is_folder:
                yield folder + name
            elif self._wanted(inner := f"{folder}{name}/") and self._add(inner) >= 0:
                yield from self._below(inner)
