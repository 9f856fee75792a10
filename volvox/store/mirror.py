"""A local folder whose files are kept in a bucket too, while somebody writes there."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from volvox.buckets import Bucket
from volvox.errors import InvalidInput, VolvoxError

if TYPE_CHECKING:
    from obstore import ObjectMeta

_LOG = logging.getLogger(__name__)

_BLOCK = 8 << 20
_SMALL = 1 << 20  # written at one go
_AT_ONCE = 8
LOOK_SECONDS = 0.5
SETTLED_SECONDS = 2.0  # a file that has not changed for so long is whole


@dataclass(frozen=True)
class _Seen:
    """What changes when a file is written or replaced, and not when it is renamed."""

    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> _Seen:
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns)


class _Changed(Exception):
    """The file is being written after all."""


class _Stopped(Exception):
    """There is no more time for it, or no right to it."""


class Mirror:
    """Fetches what is kept below a prefix, and from then on keeps there what lies in the folder.

    A file is uploaded when it has not changed for a while. Should it change while it is read, nothing of it arrives:
    an upload in parts is given up, and what was kept before stays.

    Args:
        bucket: Where to keep it.
        prefix: Below which name.
        folder: The folder, which must not be another's.
        allowed: Asked before anything in the bucket is changed.
    """

    def __init__(self, bucket: Bucket, prefix: str, folder: Path, allowed: Callable[[], bool]) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._folder = folder
        self._allowed = allowed
        self._kept: dict[str, _Seen] = {}
        self._looked: dict[str, tuple[_Seen, float]] = {}
        self._gone: dict[str, float] = {}
        self._refused: set[str] = set()
        self._until = math.inf
        self._complete = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="checkpoints", daemon=True)

    def fetch(self) -> None:
        """Write what is kept into the folder; raises as `Bucket.head` does."""
        found = list(self._bucket.list(self._prefix))
        with ThreadPoolExecutor(_AT_ONCE, "checkpoints") as workers:
            self._kept |= workers.map(self._fetched, found)

    def start(self) -> None:
        """Begin to keep what is written."""
        self._thread.start()

    def finish(self, seconds: float) -> bool:
        """Keep what there is now, in so many seconds, and tell whether all is kept; whoever wrote must have ended."""
        self._until = time.monotonic() + seconds
        self._ended.set()
        self._thread.join(seconds + 5)
        return self._complete

    # -- inside --------------------------------------------------------------------------------------------------

    def _fetched(self, one: ObjectMeta) -> tuple[str, _Seen]:
        key, modified = one["path"], one["last_modified"].timestamp()
        name = key[len(self._prefix) + 1 :]
        target = self._folder / name
        if ".." in target.parts:
            raise InvalidInput(f"the object {key!r} in {self._bucket.address} has a name that is no path; remove it")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            self._bucket.download(key, stream.write)
        os.utime(target, (modified, modified))  # the newest stays the newest
        return name, _Seen.of(target.stat())

    def _keep(self) -> None:
        failing = False
        while True:
            ending = self._ended.wait(LOOK_SECONDS)
            try:
                self._step(0.0 if ending else SETTLED_SECONDS)
                failing = False
            except _Stopped:
                _LOG.warning("not all checkpoints below %s were kept in %s", self._folder, self._bucket.address)
                return
            except (VolvoxError, OSError) as error:
                if ending or not failing:
                    _LOG.warning("checkpoints are not kept in %s for now: %s", self._bucket.address, error)
                failing = True
            if ending:
                self._complete = not failing
                return

    def _step(self, settled: float) -> None:
        """Upload what is new and whole, then remove what is gone."""
        there, now = self._look(), time.monotonic()
        self._looked = {
            name: before if (before := self._looked.get(name)) and before[0] == seen else (seen, now)
            for name, seen in there.items()
        }
        waiting: list[float] = []
        for name, seen in sorted(there.items(), key=lambda item: item[1].modified_ns):
            if self._kept.get(name) == seen or name in self._refused:
                continue
            since = self._looked[name][1]
            enough = settled if seen.size > _SMALL else settled / 4
            same_was_kept = seen in self._kept.values()  # under another name: it was whole then
            if not ((now - since >= enough or same_was_kept) and self._upload(name, seen)):
                waiting.append(since)
        self._gone = {name: self._gone.get(name, now) for name in self._kept if name not in there}
        # What was there when a file went may be what replaces it: until that is kept, there must be one to go on from.
        if gone := [name for name, when in self._gone.items() if not any(since <= when for since in waiting)]:
            self._check()
            self._bucket.delete([f"{self._prefix}/{name}" for name in gone])
            for name in gone:
                del self._kept[name]

    def _look(self) -> dict[str, _Seen]:
        found = {}
        for root, _, names in os.walk(self._folder):
            for path in (Path(root, name) for name in names):
                try:
                    if path.is_file():
                        found[path.relative_to(self._folder).as_posix()] = _Seen.of(path.stat())
                except FileNotFoundError:  # renamed or removed since it was listed
                    continue
        return found

    def _upload(self, name: str, seen: _Seen) -> bool:
        """Whether the file is kept now, or never can be."""
        key = f"{self._prefix}/{name}"
        try:
            self._check()
            if not self._copied(key, seen):
                with (self._folder / name).open("rb") as stream:
                    blocks = self._blocks(stream, seen)
                    if seen.size <= _BLOCK:
                        self._bucket.upload(key, b"".join(blocks), seen.size)
                    else:
                        self._bucket.upload(key, blocks, seen.size)
        except (_Changed, FileNotFoundError):  # looked at again in a moment
            return False
        except ValueError as error:
            self._refused.add(name)
            _LOG.warning("a checkpoint with the name %r cannot be kept in a bucket: %s", name, error)
            return True
        self._kept[name] = seen
        return True

    def _copied(self, key: str, seen: _Seen) -> bool:
        """Whether the same file was kept under another name, as after a rename or a hard link, and copied there."""
        for other, kept in self._kept.items():
            if kept == seen:
                try:
                    self._bucket.copy(f"{self._prefix}/{other}", key)
                except VolvoxError:
                    return False
                return True
        return False

    def _blocks(self, stream: IO[bytes], seen: _Seen) -> Iterator[bytes]:
        while block := stream.read(_BLOCK):
            self._check()
            yield block
        if _Seen.of(os.fstat(stream.fileno())) != seen:
            raise _Changed

    def _check(self) -> None:
        if time.monotonic() > self._until or not self._allowed():
            raise _Stopped
