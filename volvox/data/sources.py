"""Where labelled data comes from: a folder or an archive, here, on a web server or in a bucket."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from volvox.data.archives import is_archive, unpack
from volvox.data.download import Facts, Remote, download
from volvox.data.folder import Folder, listed
from volvox.data.http import WebObject
from volvox.data.options import checked_sha256
from volvox.data.s3 import BucketFolder, BucketObject
from volvox.data.scratch import scratch_folder
from volvox.disks import telling_full_disks
from volvox.errors import InvalidInput, NotFound
from volvox.identity import digest_of, file_digest
from volvox.naming import model_name
from volvox.settings import Home

_INNER = ("data", "images", "dataset_files")


class Source(Protocol):
    """Labelled data somewhere.

    Attributes:
        shown: Its address, without secrets.
        name: The name that the address suggests, safe in URLs.
    """

    shown: str
    name: str

    def fingerprint(self, cancelled: threading.Event, /) -> str:
        """Changes when the data does; found without reading it, where its place can say so."""
        ...

    def opened(self, cancelled: threading.Event, /) -> AbstractContextManager[Folder]:
        """The data as a folder of this machine, for as long as the block lasts."""
        ...


def find_source(address: str, home: Home, sha256: str = "") -> Source:
    """The source at `address`: a path, `file://`, `https://` (`http://` for this machine) or `s3://`.

    Args:
        address: Of a folder or an archive; `s3://bucket/prefix/` with a slash at its end is a folder, and
            `s3://bucket/key?versionId=...` is one version of an archive.
        home: Its cache holds what is fetched.
        sha256: What the archive must have, or empty.

    Raises:
        NotFound: If nothing is there.
        InvalidInput: If it is none of these, or a sum is given for a folder.
    """
    wanted = checked_sha256(sha256)
    scheme = urlsplit(address).scheme if "://" in address else ""
    if scheme in ("http", "https"):
        return RemoteArchive(WebObject(address), home, wanted)
    if scheme == "s3" and not address.endswith("/"):
        return RemoteArchive(BucketObject(address), home, wanted)
    if scheme not in ("", "file", "s3"):
        raise InvalidInput(f"{scheme}:// is not known; give a path, or an address with file://, https:// or s3://")
    path = None if scheme == "s3" else _local(address)
    if path is not None and path.is_file():
        return LocalArchive(path, home, wanted)
    if wanted:
        raise InvalidInput(f"a sha256 was given for {address}, which is a folder; sums are those of archives")
    return BucketPrefix(address, home) if path is None else LocalFolder(path)


class LocalFolder:
    """A folder of this machine, read in place."""

    def __init__(self, path: Path) -> None:
        """Name the folder; nothing is read yet."""
        self.path, self.shown, self.name = path, str(path), model_name(str(path.resolve()))
        self._listed: Folder | None = None

    def fingerprint(self, _cancelled: threading.Event, /) -> str:
        """Digest of names, sizes, times, inodes and modes."""
        self._listed = listed(self.path)
        return self._listed.fingerprint

    @contextlib.contextmanager
    def opened(self, _cancelled: threading.Event, /) -> Iterator[Folder]:
        """The folder, as it was when its fingerprint was taken."""
        yield self._listed or listed(self.path)


class LocalArchive:
    """An archive of this machine."""

    def __init__(self, path: Path, home: Home, sha256: str) -> None:
        """Name the archive; nothing is read yet."""
        self.path, self.shown, self.name = path, str(path), model_name(str(path))
        self.home, self.sha256 = home, sha256

    def fingerprint(self, _cancelled: threading.Event, /) -> str:
        """Digest of place, size, time and inode."""
        status = self.path.stat()
        return digest_of(["archive", self.sha256, status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode])

    @contextlib.contextmanager
    def opened(self, cancelled: threading.Event, /) -> Iterator[Folder]:
        """What it holds, unpacked."""
        try:
            found = file_digest(self.path) if self.sha256 else ""
        except OSError as error:
            raise InvalidInput(f"{self.path} cannot be read ({error.strerror})") from error
        if found != self.sha256:
            raise InvalidInput(
                f"{self.path} has the sha256 {found}, not {self.sha256} as asked; it was changed, or the sum is wrong"
            )
        with _unpacked(self.path, self.shown, self.home, cancelled) as folder:
            yield folder


class RemoteArchive:
    """An archive on a server, kept in the cache."""

    def __init__(self, remote: Remote, home: Home, sha256: str) -> None:
        """Name the archive; nothing is asked yet."""
        self.remote, self.shown, self.name = remote, remote.shown, model_name(remote.shown)
        self.home, self.sha256 = home, sha256

    def fingerprint(self, cancelled: threading.Event, /) -> str:
        """Its sha256 where that is given; else what the server says of it; else, if that is nothing, its bytes."""
        if self.sha256:
            return digest_of(["archive", self.sha256])
        facts: Facts = self.remote.facts()
        if facts.validator:
            return digest_of(["archive", self.remote.address, facts.size, facts.validator])
        self.sha256 = file_digest(self._fetched(cancelled))
        return digest_of(["archive", self.sha256])

    @contextlib.contextmanager
    def opened(self, cancelled: threading.Event, /) -> Iterator[Folder]:
        """What it holds, fetched and unpacked."""
        with _unpacked(self._fetched(cancelled), self.shown, self.home, cancelled) as folder:
            yield folder

    def _fetched(self, cancelled: threading.Event) -> Path:
        return download(self.remote, self.home.cache / "downloads", cancelled, self.sha256)


class BucketPrefix:
    """A folder of a bucket, kept in the cache."""

    def __init__(self, address: str, home: Home) -> None:
        """Name the folder; nothing is asked yet."""
        self.remote, self.shown, self.name, self.home = BucketFolder(address), address, model_name(address), home

    def fingerprint(self, _cancelled: threading.Event, /) -> str:
        """Digest of its listing."""
        return self.remote.fingerprint()

    @contextlib.contextmanager
    def opened(self, cancelled: threading.Event, /) -> Iterator[Folder]:
        """What it holds, fetched."""
        folder = self.home.cache / "downloads" / f"{self.remote.fingerprint()}.folder"
        with telling_full_disks(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.remote.fetch(folder, cancelled)
        yield listed(folder)


@contextlib.contextmanager
def _unpacked(archive: Path, shown: str, home: Home, cancelled: threading.Event) -> Iterator[Folder]:
    if not os.access(archive, os.R_OK):
        raise InvalidInput(f"{shown} cannot be read (Permission denied); make it readable for this user")
    if not is_archive(archive):
        raise InvalidInput(f"{shown} is neither a folder nor an archive (zip, tar, tar.gz, tar.bz2, tar.xz)")
    with scratch_folder(home.cache / "unpacked") as scratch:
        with telling_full_disks(scratch):
            unpack(archive, scratch, cancelled, shown=shown)
        yield listed(_inner(scratch))


def _inner(folder: Path) -> Path:
    """The folder that an archive wraps around its content, where it does."""
    while True:
        visible = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        if len(visible) != 1 or not visible[0].is_dir() or visible[0].name in _INNER:
            return folder
        if not any(path.is_dir() or path.suffix == ".csv" for path in visible[0].iterdir()):
            return folder
        folder = visible[0]


def _local(address: str) -> Path:
    parts = urlsplit(address)
    if parts.scheme == "file" and "://" in address:
        if parts.netloc not in ("", "localhost"):
            raise InvalidInput(f"{address} names another machine; file:// addresses have three slashes: file:///path")
        path = Path(unquote(parts.path))
    else:
        path = Path(address).expanduser().absolute()
    try:
        path.stat()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is nothing at {path}; give a folder with one subfolder of images for each class"
        ) from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be reached ({error.strerror})") from error
    return path
