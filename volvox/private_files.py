"""Small files that only their owner reads, changed by one process at a time and never half written."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from volvox.errors import InvalidInput


@contextmanager
def rewriting(path: Path, what: str) -> Iterator[Callable[[str], None]]:
    """Keep every other process from changing `path` while the block lasts; what it gives replaces the file (mode 600).

    Args:
        path: The file, which need not be there; its folder is made.
        what: What it holds, for messages: `tokens`.

    Raises:
        InvalidInput: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise _refused(path, what, error) from error

    def write(text: str) -> None:
        try:
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        except OSError as error:
            raise _refused(path, what, error) from error
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)

    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield write
    finally:
        os.close(lock)


def _refused(path: Path, what: str, error: OSError) -> InvalidInput:
    return InvalidInput(f"{what} cannot be kept in {path} ({error.strerror}); name another file")
