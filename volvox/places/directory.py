"""A folder of this machine, or one that is mounted here."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pwd
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, NotFound, PlaceGone, Unavailable, VolvoxError
from volvox.places.addresses import Address
from volvox.places.interface import Found
from volvox.places.keys import INCOMING, checked, shown
from volvox.places.walking import walk

log = logging.getLogger(__name__)

_ONLY_LOOK = getattr(os, "O_PATH", os.O_RDONLY)  # a file that may not be read is there all the same
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class Directory:
    """Files below a folder.

    A file or folder whose name begins with a dot is not listed: so hide themselves the files that are being written
    here, by rsync, by editors and by file systems. A symbolic link is followed where it stays in the folder, and a
    linked folder is not listed. Files are opened part by part of their path, so that nobody can put a link in between.
    """

    def __init__(self, address: Address) -> None:
        self.url = address.root
        self.root = Path(address.name)

    def __repr__(self) -> str:
        return f"Directory({self.url!r})"

    def find(self, key: str, version: str = "") -> Found | None:
        """The file under `key`, see `Place.find`."""
        key = checked(key)
        with self._telling(key):
            handle = self._open(key, _ONLY_LOOK)
            if handle is None:
                return None
            try:
                found = _found(key, os.fstat(handle))
            finally:
                os.close(handle)
            return found if found and version in ("", found.version) else None

    def list(self, prefix: str = "", after: str = "") -> Iterator[Found]:
        """Every file in the order of keys, see `Place.list`; one folder's names are held in memory at a time."""
        self._require_root()
        for key, path in walk(self._children, prefix, after):
            with contextlib.suppress(FileNotFoundError, InvalidInput):
                told = os.lstat(path)
                found = self.find(key) if stat.S_ISLNK(told.st_mode) else _found(key, told)
                if found is not None:
                    yield found

    def fetch(self, key: str, target: Path, version: str = "") -> Found:
        """Copy the file, see `Place.fetch`; one that changes meanwhile is told as Unavailable."""
        key = checked(key)
        with self._telling(key):
            handle = self._open(key)
        if handle is None:
            raise NotFound(f"there is no {shown(key)} in {self.url}")
        found = _found(key, os.fstat(handle))
        if found is None:
            os.close(handle)
            raise NotFound(f"there is no file {shown(key)} in {self.url}")
        with os.fdopen(handle, "rb") as stream:
            if version not in ("", found.version):
                raise NotFound(f"{shown(key)} in {self.url} is not any more what it was; it has been written anew")
            try:
                with telling_full_disks(target.parent), target.open("wb") as copy:
                    shutil.copyfileobj(stream, copy, 1 << 20)
                if _found(key, os.fstat(handle)) != found:
                    raise Unavailable(f"{shown(key)} in {self.url} changed while it was read; it will be read again")
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return found

    def put(self, key: str, source: Path, *, content_type: str = "", once: bool = True) -> bool:
        """Write `source` under `key`, see `Place.put`; the media type is kept nowhere."""
        del content_type
        key = checked(key)
        self._require_root()
        folder, _, name = key.rpartition("/")
        with self._telling(key), self._folder(folder) as at:
            if once and _is_there(name, at):
                return False
            try:
                if once and (written := _nameless(source, name, at)) is not None:
                    return written
                return _named(source, name, at, once=once)
            finally:
                with contextlib.suppress(OSError):  # some file systems cannot sync a folder
                    os.fsync(at)

    def remove(self, key: str) -> bool:
        """Remove the file, see `Place.remove`; folders stay."""
        key = checked(key)
        folder, _, name = key.rpartition("/")
        with self._telling(key):
            try:
                with self._folder(folder, make=False) as at:
                    if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                        return False
                    os.unlink(name, dir_fd=at)
                    return True
            except (FileNotFoundError, NotADirectoryError):
                self._require_root()
                return False

    # -- inside --------------------------------------------------------------------------------------------------

    def _children(self, folder: str) -> Iterator[tuple[str, str | None]]:
        try:
            with self._telling(folder), os.scandir(self.root / folder) as entries:
                names = sorted((one.name, one.is_dir(follow_symlinks=False)) for one in entries if one.name[0] != ".")
        except NotFound:
            return  # removed meanwhile
        except InvalidInput as error:
            if not folder:
                raise
            log.warning("left out with all that is in it: %s", error)  # it holds up no other folder
            return
        for name, is_folder in names:
            key = f"{folder}{name}"
            try:
                checked(key)
            except InvalidInput as error:
                log.warning("left out of %s: %s", self.url, error)
                continue
            yield name, None if is_folder else f"{self.root}/{key}"

    def _open(self, key: str, how: int = os.O_RDONLY) -> int | None:
        """A descriptor of the file under `key`, or None if there is none."""
        try:
            inside = self._inside(key)
            folder, name = inside.parent, inside.name
            with self._entered(folder) as at:
                return os.open(name, how | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except (FileNotFoundError, NotADirectoryError):
            self._require_root()
            return None

    def _inside(self, key: str) -> Path:
        """Where the file really is, relative to the root.

        Raises:
            InvalidInput: If a link leads out of the root.
        """
        root = os.path.realpath(self.root)
        real = os.path.realpath(os.path.join(root, key))  # noqa: PTH118 - a key has no parts that lead up
        if os.path.commonpath([root, real]) != root:
            raise InvalidInput(
                f"{shown(key)} in {self.url} is a link that leads out of the folder; copy the file there"
            )
        return Path(real).relative_to(root)

    @contextlib.contextmanager
    def _entered(self, folder: Path, *, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder below the root that no link leads to."""
        at = os.open(os.path.realpath(self.root), os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in folder.parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=at)
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = inner
            yield at
        finally:
            os.close(at)

    @contextlib.contextmanager
    def _folder(self, folder: str, *, make: bool = True) -> Iterator[int]:
        with self._entered(self._inside(folder) if folder else Path(), make=make) as at:
            yield at

    def _require_root(self) -> None:
        try:
            if stat.S_ISDIR(self.root.stat().st_mode):
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise Unavailable(f"the folder {self.url} cannot be reached ({error.strerror})") from error
        raise PlaceGone(f"there is no folder {self.url}; make it, or correct the address")

    @contextlib.contextmanager
    def _telling(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explained(key, error) from error

    def _explained(self, key: str, error: OSError) -> VolvoxError:
        here = f"{shown(key)} in {self.url}"
        if error.errno == errno.ENAMETOOLONG:
            return InvalidInput(
                f"{here} has a name that is too long for its file system (255 bytes, mostly); shorten it"
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return InvalidInput(f"{here} is refused to this user ({error.strerror}); change its owner or mode")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Unavailable(f"the disk of {self.url} is full; free some space there")
        if error.errno == errno.EROFS:
            return InvalidInput(f"{self.url} is mounted read-only; mount it so that it can be written")
        if error.errno in (errno.ELOOP, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.EEXIST, errno.ENOTDIR):
            return InvalidInput(f"{here} can be no file there ({error.strerror})")
        if error.errno == errno.ENOENT:
            return NotFound(f"there is no folder of {here}")
        return Unavailable(f"{here} cannot be reached ({error.strerror}); see that its disk is there")


def _found(key: str, told: os.stat_result) -> Found | None:
    if not stat.S_ISREG(told.st_mode):
        return None
    version = f"{told.st_size}-{told.st_mtime_ns}-{told.st_ino}"
    return Found(key, version, told.st_size, told.st_mtime, _owner(told.st_uid))


def _owner(uid: int) -> str:
    """Who put it there; what this user wrote itself, on behalf of whomever, says nothing."""
    if uid == os.getuid():
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_there(name: str, at: int) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _appear(temporary: str, name: str, at: int, *, once: bool) -> bool:
    """Give a file that is written its name; False if `once` and the name was taken."""
    if not once:
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        return True
    try:
        os.link(temporary, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if _is_there(name, at):  # not in one step: this file system has no links
            return False
        os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
        return True
    _tell_of(name, at)
    return True


def _nameless(source: Path, name: str, at: int) -> bool | None:
    """Write a file that has no name until it is whole, so that a killed process leaves nothing.

    Returns:
        Whether it was written; False if the name was taken; None if this file system cannot.
    """
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        handle = os.open(".", os.O_WRONLY | os.O_TMPFILE, 0o644, dir_fd=at)
    except OSError:
        return None
    with os.fdopen(handle, "wb") as stream:
        _copy(source, stream)
        try:
            os.link(f"/proc/self/fd/{handle}", name, dst_dir_fd=at, follow_symlinks=True)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (*_NO_LINKS, errno.ENOENT):
                return None
            raise
    _tell_of(name, at)
    return True


def _named(source: Path, name: str, at: int, *, once: bool) -> bool:
    """Write a hidden file and give it its name when it is whole; False if `once` and the name was taken."""
    temporary = f"{INCOMING}{uuid.uuid4().hex[:16]}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=at)
    try:
        with os.fdopen(handle, "wb") as stream:
            _copy(source, stream)
        return _appear(temporary, name, at, once=once)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=at)


def _copy(source: Path, stream: BinaryIO) -> None:
    with source.open("rb") as read:
        shutil.copyfileobj(read, stream, 1 << 20)
    stream.flush()
    os.fsync(stream.fileno())


def _tell_of(name: str, at: int) -> None:
    """Whoever watches the folder learns of a link only that something has begun; of this, that it is complete."""
    with contextlib.suppress(OSError):
        os.close(os.open(name, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=at))
