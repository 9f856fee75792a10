"""What every store offers, and what all kinds do alike."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from volvox.buckets import Access

BLOCK = 1 << 20
_LOCK_SECONDS = 0.1
_HOST = platform.node()


class Lock(ABC):
    """A lock that is held until it is closed, or lost."""

    @property
    @abstractmethod
    def lost(self) -> str:
        """Why it is no longer held although it was not closed; empty while it is."""

    @abstractmethod
    def when_lost(self, call: Callable[[], object]) -> None:
        """Have `call` called, from another thread, when the lock is lost; at once if it is already."""

    @abstractmethod
    def close(self) -> None:
        """Let go."""

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Store(ABC):
    """A content-addressed store.

    Attributes:
        address: Where it is, for people and for `open`; no secret is in it.
        cache: What was fetched from it or unpacked lies below this folder.
    """

    def __init__(self, address: str, cache: Path, incoming: Path) -> None:
        self.address = address
        self.cache = cache
        self._scratch = incoming
        self._swept = False

    @staticmethod
    def open(address: str, cache: Path | None = None, access: Access | None = None) -> Store:
        """Open the store at `address`.

        Args:
            address: A folder's path, a `file://` URL, or `s3://bucket/prefix`.
            cache: Folder of this machine for what is fetched; default: beside the objects of a folder, else the
                home's cache.
            access: How the bucket is reached; default: what the environment's AWS variables say.

        Raises:
            InvalidInput: If the address is of a kind that is neither.
        """
        if address.startswith("s3://"):
            from volvox.settings import Home
            from volvox.store.s3 import S3Store

            return S3Store(address, cache or Home.current().cache, access)
        if "://" in address and not address.startswith("file://"):
            kind = address.partition("://")[0]
            raise InvalidInput(
                f"the store's address begins with {kind}://; give the path of a folder or s3://BUCKET/PREFIX"
            )
        if address.startswith("block:"):
            raise InvalidInput(
                f"{address!r} names a Prefect block, which cannot be asked here; give the store's address"
            )
        from volvox.store.folder import FolderStore

        return FolderStore(Path(address.removeprefix("file://")).expanduser(), cache)

    # -- objects -------------------------------------------------------------------------------------------------

    @abstractmethod
    def path(self, digest: str) -> Path:
        """Where the bytes of `digest` lie on this machine; fetched if they were not.

        Raises:
            NotFound: If the store does not hold them.
        """

    @abstractmethod
    def has(self, digest: str) -> bool:
        """Whether the store holds the bytes of `digest`."""

    def put_bytes(self, data: bytes) -> str:
        """Keep `data`; return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            self._put(object_name(digest), data)
        return digest

    def put_file(self, path: Path) -> str:
        """Keep a copy of the file at `path`, read once; return its digest."""
        with self._incoming() as temporary, path.open("rb") as source:
            digest = hashlib.sha256()
            with temporary.open("wb") as target:
                while block := source.read(BLOCK):
                    digest.update(block)
                    target.write(block)
            self._admit(temporary, digest.hexdigest())
        return digest.hexdigest()

    def put_tree(self, folder: Path, files: Iterable[Path] | None = None) -> str:
        """Keep the files below `folder` (all of them, or those named) as one object; return its digest.

        The same names and bytes give the same digest, whatever their times, owners, modes or order.
        """
        chosen = files or (path for path in folder.rglob("*") if path.is_file())
        return self.put_members({path.relative_to(folder).as_posix(): path for path in chosen})

    def put_members(self, members: Mapping[str, Path | bytes | Callable[[], bytes]]) -> str:
        """Keep a tree that lies in no one folder; return its digest, the same that `put_tree` gives.

        Args:
            members: Relative name -> a file, its bytes, or what reads them when their turn comes.
        """
        with self._incoming() as temporary:
            with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
                for name in sorted(members, key=lambda name: name.split("/")):
                    content = members[name]
                    entry = tarfile.TarInfo(name)
                    entry.mode = 0o644
                    if isinstance(content, Path):
                        entry.size = content.stat().st_size
                        with content.open("rb") as stream:
                            archive.addfile(entry, stream)
                    else:
                        data = content if isinstance(content, bytes) else content()
                        entry.size = len(data)
                        archive.addfile(entry, io.BytesIO(data))
            digest = hashlib.sha256()
            with temporary.open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
            self._admit(temporary, digest.hexdigest())
        return digest.hexdigest()

    def tree(self, digest: str) -> Path:
        """A folder with the files of a kept tree, unpacked once on this machine; not to be changed.

        Raises:
            NotFound: If the store does not hold it.
        """
        target = self.cache / "trees" / digest
        if target.is_dir():
            return target
        with self._reading(digest) as source, telling_full_disks(self.cache):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".incoming-"))
            try:
                with tarfile.open(source) as archive:
                    archive.extractall(temporary, filter="data")
                with contextlib.suppress(OSError):  # another process may have unpacked the same tree meanwhile
                    temporary.rename(target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return target

    # -- records -------------------------------------------------------------------------------------------------

    def record(self, stage: str, key: str) -> dict[str, Any] | None:
        """What `stage` returned under `key`, or None if it never finished."""
        data = self._get(record_name(stage, key))
        try:
            return None if data is None else json.loads(data)
        except ValueError:  # half a disk is not a reason to stop: the stage is run again
            return None

    @abstractmethod
    def keys(self, stage: str) -> list[str]:
        """The keys of all records of `stage`, sorted."""

    def put_record(self, stage: str, key: str, value: dict[str, Any]) -> None:
        """Say that `stage` finished under `key` with `value`."""
        self._put(record_name(stage, key), json.dumps(value, indent=1, sort_keys=True).encode())

    @abstractmethod
    def try_lock(self, stage: str, key: str) -> Lock | None:
        """Take the lock of one stage and key, or None where another holds it; closing what is returned lets go.

        A holder that is killed holds it no longer: in a folder at once, in a bucket within a minute.
        """

    @contextlib.contextmanager
    def locked(self, stage: str, key: str) -> Iterator[None]:
        """Hold the lock of one stage and key; whoever comes second waits.

        Raises:
            Unavailable: If the lock was lost meanwhile, so that another may be at the same.
        """
        while (lock := self.try_lock(stage, key)) is None:
            time.sleep(_LOCK_SECONDS)
        with lock:
            yield
            if lock.lost:
                raise Unavailable(lock.lost)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    @abstractmethod
    def checkpoints(self, key: str) -> contextlib.AbstractContextManager[Path]:
        """A local folder for the checkpoints of `key`, with those in it that an earlier holder left on any machine.

        What is written there survives this process, and in a bucket this machine too: whole files are uploaded while
        the folder is used, and once more at the end. Only who holds a lock of `key` may use it.
        """

    @abstractmethod
    def drop_checkpoints(self, key: str) -> None:
        """Remove the checkpoints of `key`, if there are any."""

    # -- what a kind must bring ----------------------------------------------------------------------------------

    @abstractmethod
    def _get(self, name: str) -> bytes | None:
        """The bytes under a name of this store, or None."""

    @abstractmethod
    def _put(self, name: str, data: bytes) -> None:
        """Write bytes under a name of this store, whole or not at all."""

    @abstractmethod
    def _admit(self, temporary: Path, digest: str) -> None:
        """Keep the file at `temporary` as object `digest`; the file may be moved."""

    @abstractmethod
    def _reading(self, digest: str) -> contextlib.AbstractContextManager[Path]:
        """A file with the bytes of `digest`, for the time of the block."""

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        """An empty file that is gone at the end of the block, unless it was moved."""
        with telling_full_disks(self._scratch):
            folder = self._scratch
            folder.mkdir(parents=True, exist_ok=True)
            self._sweep(folder)
            handle, path = _own_file(folder)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)
                os.close(handle)

    def _sweep(self, folder: Path) -> None:
        """Remove what killed processes of this machine were writing, once for each opened store.

        Who writes holds a lock, which the kernel lets go of for one that is killed. Pids would not do: containers have
        this machine's name and pids of their own.
        """
        if self._swept:
            return
        self._swept = True
        for path in folder.iterdir():
            if path.name.partition("-")[2].rpartition("-")[0] == _HOST:
                with contextlib.suppress(OSError), path.open("r+b") as stream:  # it is locked, or gone by now
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)


def _own_file(folder: Path) -> tuple[int, Path]:
    """A new file that no other process sweeps away before the descriptor is closed."""
    while True:
        handle, name = tempfile.mkstemp(dir=folder, prefix=f"{os.getpid()}-{_HOST}-")
        with contextlib.suppress(OSError):  # a file system without locks, on which nothing is swept either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # swept before it was locked


def object_name(digest: str) -> str:
    """The name of an object in every store."""
    return f"objects/{digest[:2]}/{digest}"


def record_name(stage: str, key: str) -> str:
    """The name of a record in every store."""
    return f"records/{stage}/{key}.json"


def lock_name(stage: str, key: str) -> str:
    """The name of a lock in every store."""
    return f"locks/{stage}-{key[:32]}"


def checkpoints_name(key: str) -> str:
    """The name of the folder of a training's checkpoints in every store."""
    return f"checkpoints/{key}"
