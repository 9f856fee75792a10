"""The pictures of one request: uploads, addresses, archives."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from webargs import ValidationError

from image_classifier import urls
from image_classifier.data import SUFFIXES

MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 200 * 2**20
MAX_ARCHIVE_BYTES = 2 * 2**30
MAX_RATIO = 200
_SMALL = 2**20  # below a megabyte no ratio does harm


def pictures(asked: dict[str, Any]) -> Iterator[tuple[str, str, Path | bytes]]:
    """(argument, file name, path or content) of every picture that a request brings, one at a time.

    Raises:
        ValidationError: If it brings none, or one that cannot be had.
    """
    if not any(asked.get(name) for name in ("image", "data", "urls", "zip_data")):
        raise ValidationError({"image": ["Send a picture: one of image, data, urls or zip_data is needed."]})
    for argument in ("image", "data"):
        if asked.get(argument):
            yield argument, _name(asked[argument]), _path(asked[argument], argument)
    for url in urls.listed(asked.get("urls")):
        name, content = urls.fetch(url)
        yield "urls", name, content
    if asked.get("zip_data"):
        for name, content in _members(_path(asked["zip_data"], "zip_data")):
            yield "zip_data", name, content


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The pictures in a zip, in the order of their names; read in memory, so that no name in it leads anywhere."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = _checked(archive)
            for member in found:
                yield member.filename, archive.read(member)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, NotImplementedError) as error:
        raise _refused(f"The file is no zip that can be read ({error}).") from error
    except RuntimeError as error:  # how zipfile says that a member is encrypted
        raise _refused("The zip is encrypted; send it without a password.") from error


def _checked(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise _refused(f"The zip holds {len(members)} files; send at most {MAX_MEMBERS} at once.")
    pictures = sorted((member for member in members if _is_picture(member)), key=lambda member: member.filename)
    if not pictures:
        raise _refused(f"The zip holds no picture; it should hold files that end in {', '.join(sorted(SUFFIXES))}.")
    if sum(member.file_size for member in pictures) > MAX_ARCHIVE_BYTES:
        raise _refused(f"The zip holds more than {MAX_ARCHIVE_BYTES >> 30} GiB; send fewer pictures at once.")
    for member in pictures:
        if member.file_size > MAX_MEMBER_BYTES:
            raise _refused(f"{member.filename} holds more than {MAX_MEMBER_BYTES >> 20} MiB; send a smaller picture.")
        if member.file_size > _SMALL and member.file_size > MAX_RATIO * max(1, member.compress_size):
            raise _refused(f"{member.filename} grows more than {MAX_RATIO} times when unpacked, which no picture does.")
    return pictures


def _is_picture(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not member.is_dir() and not hidden and path.suffix.lower() in SUFFIXES


def _path(upload: Any, argument: str) -> Path:
    path = getattr(upload, "filename", None)
    if path is None:
        raise ValidationError({argument: ["This has to be an uploaded file, not text."]})
    return Path(path)


def _name(upload: Any) -> str:
    return str(getattr(upload, "original_filename", None) or getattr(upload, "filename", "") or "image")


def _refused(message: str) -> ValidationError:
    return ValidationError({"zip_data": [message]})
