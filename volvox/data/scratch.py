"""Room on the disk of the cache: folders that do not outlive the process, and what is said when it is full."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from volvox.errors import InvalidInput, VolvoxError


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder below `parent`, removed at the end; those that killed processes left are removed first."""
    with telling_full_disks(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.iterdir():
            with contextlib.suppress(OSError), _locked(left):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            with _locked(folder):  # the lock ends with the process, however it ends
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def telling_full_disks(place: Path) -> Iterator[None]:
    """Turn "no space left" and "permission denied" below `place` into a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise VolvoxError(
                f"the disk of {place} is full; free some space or set VOLVOX_HOME to another disk, "
                "then run the same command again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InvalidInput(f"{error.filename or place} cannot be written ({error.strerror})") from error
        raise


def require_space(place: Path, size: int, what: str) -> None:
    """Raise VolvoxError unless the disk of `place` has `size` bytes free for `what`."""
    free = shutil.disk_usage(place).free
    if size > free:
        raise VolvoxError(
            f"{what} takes {size:,} bytes, but the disk of {place} has {free:,} left; "
            "free some space or set VOLVOX_HOME to another disk"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, or raise BlockingIOError where another process does."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
