"""A disk that is full: found behind whatever it made fail, and told as a sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from volvox.errors import InvalidInput, VolvoxError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_LEAST_BYTES = 1 << 20  # with less left, whatever failed has most likely failed for it


@contextlib.contextmanager
def telling_full_disks(place: Path) -> Iterator[None]:
    """Turn "no space left" and "permission denied" below `place` into a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full(place) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InvalidInput(f"{error.filename or place} cannot be written ({error.strerror})") from error
        raise


def replace_text(path: Path, text: str) -> None:
    """Make `text` the content of a file, which appears whole, is on the disk then, or stays as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".incoming-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def full(place: Path) -> VolvoxError:
    """The error that says that the disk of `place` is full."""
    return VolvoxError(
        f"the disk of {place} is full; free some space or set VOLVOX_HOME to another disk, "
        "then run the same command again: what is done is kept"
    )


def is_full(place: Path) -> bool:
    """Whether the disk of `place`, a folder, has no room left; False where that cannot be found out."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(place).free < _LEAST_BYTES
    return False


def full_behind(error: BaseException | None) -> OSError | None:
    """The "no space left" that led to `error`, or None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def require_space(place: Path, size: int, what: str) -> None:
    """Raise VolvoxError unless the disk of `place` has `size` bytes free for `what`."""
    free = shutil.disk_usage(place).free
    if size > free:
        raise VolvoxError(
            f"{what} takes {size:,} bytes, but the disk of {place} has {free:,} left; "
            "free some space or set VOLVOX_HOME to another disk"
        )
