"""Unpack an archive that somebody else made: regular files below one folder, within limits, or nothing."""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import lzma
import stat
import struct
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.disks import require_space
from volvox.errors import InvalidInput

MOST_MEMBERS = 1_000_000
MOST_BYTES = 256 << 30
MOST_RATIO = 200
_RATIO_FROM = 64 << 20
_BLOCK = 1 << 20
_LONGEST_NAME = 1024
_MAGIC = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# Besides their own errors, the readers of the standard library raise these at bytes that nobody expected.
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, struct.error, ValueError,
           NotImplementedError)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        members: Files and folders in it.
        bytes: Their size in all.
        ratio: That size, by the archive's own, counted from 64 MiB on.
    """

    members: int = MOST_MEMBERS
    bytes: int = MOST_BYTES
    ratio: float = MOST_RATIO
    ratio_from: int = _RATIO_FROM


def is_archive(path: Path) -> bool:
    """Whether the file at `path` is a zip or a tar, by its content."""
    with contextlib.suppress(OSError, *_BROKEN):
        if zipfile.is_zipfile(path):
            return True
        with _decompressed(path) as stream:
            return len(head := stream.read(512)) == 512 and head[257:262] == b"ustar"
    return False


def unpack(
    archive: Path, folder: Path, cancelled: threading.Event, limits: Limits | None = None, shown: str = ""
) -> None:
    """Unpack the zip or tar (plain, gzip, bzip2, xz) at `archive` into the empty `folder`.

    Only names and bytes are taken over: no modes, owners or times. Links, devices, absolute paths, paths that leave
    the folder, encrypted members, names that differ in case only and whatever exceeds `limits` end it. `shown` is what
    errors call the archive.

    Raises:
        InvalidInput: Saying which member is refused and why; what was unpacked until then is the caller's to remove.
        Cancelled: If `cancelled` was set meanwhile.
    """
    unpacking = _Unpacking(archive, folder, cancelled, limits or Limits(), shown or archive.name)
    try:
        if zipfile.is_zipfile(archive):
            unpacking.zip()
        else:
            unpacking.tar()
    except (*_BROKEN, OSError) as error:
        # The disk's errors have a number; those of gzip and bz2 have none, and EINVAL is zipfile's seek to nowhere.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InvalidInput(
            f"{unpacking.shown} is not a whole zip, tar, tar.gz, tar.bz2 or tar.xz archive ({error}); fetch it again"
        ) from error


class _Unpacking:
    def __init__(self, archive: Path, folder: Path, cancelled: threading.Event, limits: Limits, shown: str) -> None:
        self.archive, self.folder, self.cancelled, self.limits = archive, folder, cancelled, limits
        self.shown = shown
        self.size = archive.stat().st_size
        self.names: set[str] = set()
        self.written = 0

    def zip(self) -> None:
        with zipfile.ZipFile(self.archive) as opened:
            members = opened.infolist()
            if len(members) > self.limits.members:
                raise self._refused(f"it has {len(members):,} members; at most {self.limits.members:,} are unpacked")
            self._admit_bytes(sum(member.file_size for member in members))
            require_space(self.folder, sum(member.file_size for member in members), f"unpacking {self.shown}")
            for member in members:
                name, kind = member.filename.replace("\\", "/"), stat.S_IFMT(member.external_attr >> 16)
                path = self._place(name, is_folder=member.is_dir())
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise self._refused(f"its member {name!r} is a link or a device")
                if member.flag_bits & 1:
                    raise self._refused(f"its member {name!r} is encrypted")
                if not member.is_dir() and path is not None:
                    try:
                        with opened.open(member) as stream:
                            self._write(path, stream)
                    except NotImplementedError as error:
                        raise self._refused(f"its member {name!r} is compressed in an unknown way") from error

    def tar(self) -> None:
        with _decompressed(self.archive) as stream:
            measured = _Measured(stream, self)
            with tarfile.open(fileobj=cast("IO[bytes]", measured), mode="r:") as opened:
                for count, member in enumerate(opened, start=1):
                    cast("Any", opened).members = []  # the list would grow with the archive
                    if count > self.limits.members:
                        raise self._refused(f"it has more than {self.limits.members:,} members")
                    path = self._place(member.name, is_folder=member.isdir())
                    if member.isdir():
                        continue
                    if not member.isreg() or member.issparse():
                        raise self._refused(f"its member {member.name!r} is a link or a device")
                    content = opened.extractfile(member)
                    if content is not None and path is not None:
                        self._write(path, content)
            while measured.read(_BLOCK):  # the checksum of a compressed stream comes at its very end
                pass

    def admit(self, total: int) -> None:
        """Refuse an archive that has given `total` bytes."""
        if self.cancelled.is_set():
            raise Cancelled
        self._admit_bytes(total)

    def _admit_bytes(self, total: int) -> None:
        if total > self.limits.bytes:
            raise self._refused(f"it unpacks to more than {self.limits.bytes:,} bytes")
        if total > max(self.limits.ratio_from, self.limits.ratio * self.size):
            raise self._refused(f"it unpacks to more than {self.limits.ratio:g} times its size")

    def _place(self, name: str, *, is_folder: bool) -> Path | None:
        """Where the member `name` goes; None for the folder itself."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name[1:2] == ":" or "\0" in name or len(name) > _LONGEST_NAME:
            raise self._refused(f"its member {name[:100]!r} would lie outside the folder")
        if not path.parts:
            return None
        folded = unicodedata.normalize("NFC", path.as_posix()).casefold()
        if is_folder:  # may be named again and again
            return self.folder.joinpath(*path.parts)
        if folded in self.names:
            raise self._refused(f"its member {name!r} is there twice, or differs from another in case only")
        self.names.add(folded)
        return self.folder.joinpath(*path.parts)

    def _write(self, path: Path, stream: IO[bytes]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            target = path.open("xb")
        except (FileExistsError, NotADirectoryError) as error:
            raise self._refused(f"two of its members want the place of {path.relative_to(self.folder)}") from error
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise self._refused(f"its member {path.name[:100]!r}... has too long a name") from error
            raise
        with target:
            while block := stream.read(_BLOCK):
                self.written += len(block)
                self.admit(self.written)
                target.write(block)
        if len(self.names) % 500 == 0:
            progress.advance(len(self.names), 0, "files unpacked")

    def _refused(self, reason: str) -> InvalidInput:
        return InvalidInput(f"the archive {self.shown} is refused: {reason}")


class _Measured:
    """A decompressed stream for `tarfile` that counts what it gives and never gives much at once.

    `tarfile` reads a member's extended header whole, however long it says it is, and goes back at most one byte.
    """

    def __init__(self, stream: IO[bytes], unpacking: _Unpacking) -> None:
        self._stream, self._unpacking = stream, unpacking
        self._position, self._last, self._again = 0, b"", b""

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 2 * _BLOCK:
            raise tarfile.ReadError("a header is longer than any real one")
        data = self._again[:size] + self._stream.read(size - len(self._again[:size]))
        self._again = self._again[size:]
        self._position += len(data)
        self._last = data[-1:] or self._last
        self._unpacking.admit(self._position)
        return data

    def seek(self, position: int) -> None:
        if position == self._position - 1 and not self._again:
            self._position, self._again = position, self._last
        if position < self._position:
            raise tarfile.ReadError("it wants to go back")
        while self._position < position and self.read(min(_BLOCK, position - self._position)):
            pass


@contextlib.contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as stream:
        head = stream.read(8)
        stream.seek(0)
        opener: Any = next((opener for magic, opener in _MAGIC.items() if head.startswith(magic)), None)
        if opener is None:
            yield stream
            return
        with opener(stream, "rb") as decompressed:
            yield decompressed
