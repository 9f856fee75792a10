"""What lies in a folder, without reading a byte of it."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from volvox.errors import InvalidInput, NotFound
from volvox.identity import digest_of

MOST_FILES = 2_000_000
_CLUTTER = {"__macosx", "thumbs.db", "desktop.ini", "lost+found"}


@dataclass(frozen=True, slots=True)
class Found:
    """One file below a folder.

    Attributes:
        path: Relative to the folder, with `/`, in Unicode normal form C.
        location: Where it lies.
        size: In bytes.
        identity: What changes when the file does: size, mtime (ns), inode, mode.
        problem: Why it cannot be used, or empty.
    """

    path: str
    location: str
    size: int = 0
    identity: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Folder:
    """The files below a folder, sorted by name; hidden files and file managers' own are left out.

    Attributes:
        root: The folder.
        files: All files, and subfolders that cannot be read, as problems.
        empty: Subfolders that hold nothing.
    """

    root: Path
    files: tuple[Found, ...]
    empty: tuple[str, ...] = ()

    @cached_property
    def by_path(self) -> dict[str, Found]:
        """Every file by its relative path."""
        return {found.path: found for found in self.files}

    @property
    def fingerprint(self) -> str:
        """Changes whenever a file is added, removed, renamed, written or made (un)readable; no file is read for it."""
        seen = [[found.path, found.problem, *found.identity] for found in self.files]
        return digest_of(["folder", seen, list(self.empty)])


def listed(root: Path) -> Folder:
    """List what lies below `root`.

    Links to files inside are followed; links that leave the folder and links to folders are problems.

    Raises:
        NotFound: If there is no such folder.
        InvalidInput: If it is no folder, cannot be read, or holds more than `MOST_FILES` files.
    """
    try:
        true_root = root.resolve(strict=True)
        os.scandir(true_root).close()
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no folder {root}; give a folder with one subfolder of images for each class"
        ) from error
    except NotADirectoryError as error:
        raise InvalidInput(f"{root} is a file, not a folder") from error
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"the folder {root} cannot be read ({reason}); make it readable for this user") from error
    files: dict[str, Found] = {}
    empty: list[str] = []
    for found in _walk(true_root, "", empty):
        if found.path in files:  # two names that differ only in how Unicode writes them
            twin = "another file has the same name, written in another Unicode form"
            files[f"{found.path} (2)"] = Found(f"{found.path} (2)", found.location, problem=twin)
        else:
            files[found.path] = found
        if len(files) > MOST_FILES:
            raise InvalidInput(
                f"{root} holds more than {MOST_FILES:,} files; give the folder that holds the images only"
            )
    return Folder(root, tuple(files[path] for path in sorted(files)), tuple(sorted(empty)))


def _walk(root: Path, below: str, empty: list[str]) -> Iterator[Found]:
    waiting = [below]
    while waiting:
        below = waiting.pop()
        try:
            entries = sorted(os.scandir(root / below), key=lambda entry: entry.name)
        except OSError as error:
            yield Found(f"{_shown(below)}/", str(root / below), problem=f"the folder cannot be read ({error.strerror})")
            continue
        if not entries and below:
            empty.append(_shown(below))
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
                continue
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                yield _found(root, path, entry)


def _found(root: Path, path: str, entry: os.DirEntry[str]) -> Found:
    shown, size, identity, problem = _shown(path), 0, (), ""
    try:
        if entry.is_symlink():
            target = Path(entry.path).resolve(strict=True)
            if not target.is_relative_to(root):
                problem = "it is a link that leaves the folder"
            elif target.is_dir():
                problem = "it is a link to a folder; such links are not followed"
        status = entry.stat(follow_symlinks=not problem)
        size = status.st_size
        identity = (size, status.st_mtime_ns, status.st_ino, status.st_mode)
        if not problem and not stat.S_ISREG(status.st_mode):
            problem = "it is not a regular file"
    except (OSError, RuntimeError) as error:  # a dangling link, a loop of links, a lost permission
        problem = f"it cannot be reached ({getattr(error, 'strerror', None) or error})"
    if not problem and any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in path):
        problem = "its name holds control characters or is not UTF-8"
    return Found(shown, entry.path, size, identity, problem)


def _shown(path: str) -> str:
    return unicodedata.normalize("NFC", path.encode("utf-8", "backslashreplace").decode())


def plain_path(value: str) -> str:
    """A path as tables and split files write it, in the form of `Found.path`; empty if it leaves the folder."""
    path = PurePosixPath(unicodedata.normalize("NFC", value.strip()).replace("\\", "/"))
    return "" if path.is_absolute() or ".." in path.parts else path.as_posix()
