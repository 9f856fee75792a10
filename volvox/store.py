"""The object store: bytes under their sha256, and one small record for each finished stage.

A directory is a store. Objects are never changed; a record appears by a rename, so a killed process leaves either the
whole of a thing or nothing.

    objects/ab/abcdef...        a file's bytes, or a folder as a tar without times, owners or modes
    records/<stage>/<key>.json  what the stage returned
"""

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, NotFound
from volvox.identity import process_started, this_process

_BLOCK = 1 << 20
_LOCK_SECONDS = 0.1
_HOST = f"{platform.node()}-"


class Store:
    """A content-addressed store in a directory."""

    def __init__(self, root: Path, cache: Path | None = None) -> None:
        """Open the store at `root`; folders unpacked from it lie under `cache` (default: beside the objects)."""
        self.root = root
        self.cache = cache or root / "cache"
        self._swept = False

    @classmethod
    def open(cls, address: str, cache: Path | None = None) -> Store:
        """Open the store at `address`: a folder's path or a `file://` URL.

        Raises:
            InvalidInput: If the address is of a kind that is not a folder.
        """
        if "://" in address and not address.startswith("file://"):
            raise InvalidInput(f"the store's address is {address!r}; give the path of a folder")
        return cls(Path(address.removeprefix("file://")).expanduser(), cache)

    # -- objects -------------------------------------------------------------------------------------------------

    def path(self, digest: str) -> Path:
        """Where the bytes of `digest` lie on this machine.

        Raises:
            NotFound: If the store does not hold them.
        """
        path = self._object(digest)
        if not path.is_file():
            raise NotFound(f"the store at {self.root} holds no object {digest[:12]}; run the stage that makes it again")
        return path

    def has(self, digest: str) -> bool:
        """Whether the store holds the bytes of `digest`."""
        return self._object(digest).is_file()

    def put_bytes(self, data: bytes) -> str:
        """Keep `data`; return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            self._write(self._object(digest), data)
        return digest

    def put_file(self, path: Path) -> str:
        """Keep a copy of the file at `path`, read once; return its digest."""
        with self._incoming() as temporary, path.open("rb") as source:
            digest = hashlib.sha256()
            with temporary.open("wb") as target:
                while block := source.read(_BLOCK):
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
                while block := stream.read(_BLOCK):
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
        source = self.path(digest)
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
        try:
            return json.loads(self._record(stage, key).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):  # half a disk is not a reason to stop: the stage is run again
            return None

    def keys(self, stage: str) -> list[str]:
        """The keys of all records of `stage`, sorted."""
        return sorted(path.stem for path in (self.root / "records" / stage).glob("*.json"))

    def put_record(self, stage: str, key: str, value: dict[str, Any]) -> None:
        """Say that `stage` finished under `key` with `value`."""
        self._write(self._record(stage, key), json.dumps(value, indent=1, sort_keys=True).encode())

    def try_lock(self, stage: str, key: str) -> IO[str] | None:
        """Take the lock of one stage and key, or None where another holds it; closing what is returned lets go.

        The kernel lets go for a holder that is killed.
        """
        path = self.root / "locks" / f"{stage}-{key[:32]}"
        with telling_full_disks(self.root):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            return None
        return stream

    @contextlib.contextmanager
    def locked(self, stage: str, key: str) -> Iterator[None]:
        """Hold the lock of one stage and key; whoever comes second waits."""
        while (stream := self.try_lock(stage, key)) is None:
            time.sleep(_LOCK_SECONDS)
        with stream:
            yield

    # -- inside --------------------------------------------------------------------------------------------------

    def _object(self, digest: str) -> Path:
        return self.root / "objects" / digest[:2] / digest

    def _record(self, stage: str, key: str) -> Path:
        return self.root / "records" / stage / f"{key}.json"

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        with telling_full_disks(self.root):
            folder = self.root / "incoming"
            folder.mkdir(parents=True, exist_ok=True)
            self._sweep(folder)
            handle, name = tempfile.mkstemp(dir=folder, prefix=_owner())
            os.close(handle)
            try:
                yield Path(name)
            finally:
                Path(name).unlink(missing_ok=True)

    def _sweep(self, folder: Path) -> None:
        """Remove what killed processes of this machine were writing, once for each opened store."""
        if self._swept:
            return
        self._swept = True
        for path in folder.iterdir():
            pid, _, rest = path.name.partition("-")
            started, _, host = rest.partition("-")
            if host.startswith(_HOST) and str(process_started(int(pid))) != started:
                path.unlink(missing_ok=True)

    def _admit(self, temporary: Path, digest: str) -> None:
        target = self._object(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)

    def _write(self, target: Path, data: bytes) -> None:
        with self._incoming() as temporary:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(target)


def _owner() -> str:
    pid, started = this_process()
    return f"{pid}-{started}-{_HOST}"
