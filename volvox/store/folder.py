"""The store in a folder: of this machine, or of a volume that several share."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from volvox.disks import telling_full_disks
from volvox.errors import NotFound
from volvox.store.interface import Lock, Store, checkpoints_name, lock_name, object_name


class FolderStore(Store):
    """A content-addressed store in a folder; a record appears by a rename."""

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        """Open the store at `root`; folders unpacked from it lie under `cache` (default: beside the objects)."""
        super().__init__(str(root), cache or root / "cache", root / "incoming")
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the bytes of `digest` lie."""
        path = self.root / object_name(digest)
        if not path.is_file():
            raise NotFound(f"the store at {self.root} holds no object {digest[:12]}; run the stage that makes it again")
        return path

    def has(self, digest: str) -> bool:
        """Whether the store holds the bytes of `digest`."""
        return (self.root / object_name(digest)).is_file()

    def keys(self, stage: str) -> list[str]:
        """The keys of all records of `stage`, sorted."""
        return sorted(path.stem for path in (self.root / "records" / stage).glob("*.json"))

    def try_lock(self, stage: str, key: str) -> Lock | None:
        """Take the lock; the kernel lets go for a holder that is killed."""
        path = self.root / lock_name(stage, key)
        with telling_full_disks(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return None
        return _FileLock(stream)

    @contextlib.contextmanager
    def checkpoints(self, key: str) -> Iterator[Path]:
        """The folder in the store itself, so that whoever shares it goes on where another was killed."""
        folder = self.root / checkpoints_name(key)
        with telling_full_disks(self.root):
            folder.mkdir(parents=True, exist_ok=True)
        yield folder

    def drop_checkpoints(self, key: str) -> None:
        """Remove the folder."""
        shutil.rmtree(self.root / checkpoints_name(key), ignore_errors=True)

    def _get(self, name: str) -> bytes | None:
        try:
            return (self.root / name).read_bytes()
        except OSError:  # missing, or half a disk, which is not a reason to stop: the stage is run again
            return None

    def _put(self, name: str, data: bytes) -> None:
        with self._incoming() as temporary:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            target = self.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)

    def _admit(self, temporary: Path, digest: str) -> None:
        target = self.root / object_name(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)

    @contextlib.contextmanager
    def _reading(self, digest: str) -> Iterator[Path]:
        yield self.path(digest)


class _FileLock(Lock):
    """Held as long as the file is open: neither time nor another can take it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    @property
    def lost(self) -> str:
        return ""

    def when_lost(self, call: Callable[[], object]) -> None:
        """Never."""

    def close(self) -> None:
        self._stream.close()
