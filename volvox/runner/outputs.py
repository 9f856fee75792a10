"""What a script wrote: plain files below its output folder, and which of them belong where."""

from __future__ import annotations

import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Written:
    """A file that was written.

    Attributes:
        path: Where it is.
        relative: Its path below the output folder, with `/`.
        size: Bytes.
    """

    path: Path
    relative: str
    size: int


def collect(folder: Path) -> tuple[list[Written], list[str]]:
    """The files below `folder` in order, sub-folders too, and for what was left out a sentence each.

    A link is followed only to a plain file inside of the folder; what is no file (a pipe, a socket, a device) is left
    out.
    """
    found, refused = [], []
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(folder):  # links to folders are not walked into
        for name in folders:
            if os.path.islink(os.path.join(place, name)):  # noqa: PTH114, PTH118 - called for each of many files
                refused.append(f"{_relative(place, name, folder)} is a link to a folder, which is not followed")
        for name in files:
            path = os.path.join(place, name)  # noqa: PTH118
            relative = _relative(place, name, folder)
            try:
                told = os.lstat(path)
                if stat.S_ISLNK(told.st_mode):
                    target = os.path.realpath(path)
                    if target != root and not target.startswith(root + os.sep):
                        refused.append(f"{relative} is a link that leaves the output folder")
                        continue
                    path, told = target, os.stat(target)  # noqa: PTH116
            except OSError as error:
                refused.append(f"{relative} cannot be read ({error.strerror})")
                continue
            if stat.S_ISREG(told.st_mode):
                found.append(Written(Path(path), relative, told.st_size))
            else:
                refused.append(f"{relative} is no file")
    return sorted(found, key=lambda one: one.relative), refused


def fits(relative: str, prefix: Iterable[str], suffix: Iterable[str]) -> bool:
    """Whether a path begins with one of `prefix` and ends with one of `suffix`; an empty list takes any."""
    prefix, suffix = tuple(prefix), tuple(suffix)
    return (not prefix or relative.startswith(prefix)) and (not suffix or relative.endswith(suffix))


def answer(folder: Path, printed: bytes, target: Path) -> tuple[Path, str]:
    """What somebody who waits for a call gets: one file as it is, several as a zip, none: what was printed.

    Args:
        folder: The output folder.
        printed: What the script wrote to standard output.
        target: File that is written if the answer is no file yet.

    Returns:
        The file, and the name it has for people; empty for what was printed.
    """
    found, _ = collect(folder)
    if len(found) == 1:
        return found[0].path, Path(found[0].relative).name
    if not found:
        target.write_bytes(printed)
        return target, ""
    with zipfile.ZipFile(target, "w") as archive:  # as theirs: not compressed, folders kept
        for one in found:
            entry = zipfile.ZipInfo(one.relative, _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            with one.path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as stream:
                while piece := source.read(1 << 20):
                    stream.write(piece)
    return target, "outputs.zip"


def _relative(place: str, name: str, folder: Path) -> str:
    return os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/")  # noqa: PTH118
