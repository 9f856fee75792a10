"""Bring a remote object into the cache: streamed, hashed on the way, resumed after a break, whole or not there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.disks import require_space, telling_full_disks
from volvox.errors import InvalidInput, Unavailable
from volvox.identity import digest_of, file_digest

MOST_BYTES = 256 << 30
_ATTEMPTS = 4
_WAIT_SECONDS = 0.5
_TELL_SECONDS = 0.2
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Facts:
    """What a server says of an object before it is read.

    Attributes:
        size: In bytes, or None if it does not say.
        validator: What changes when the object does (an etag, a version, a date), or empty.
    """

    size: int | None = None
    validator: str = ""


class Remote(Protocol):
    """An object on a server."""

    @property
    def shown(self) -> str:
        """Its address, without secrets."""
        ...

    @property
    def address(self) -> str:
        """Its whole address; never shown."""
        ...

    def facts(self) -> Facts:
        """What the server says of it. Raises NotFound, InvalidInput (not allowed) or Unavailable."""
        ...

    def reading(self, start: int, facts: Facts) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        """Its bytes from `start` on if the server can do that and it is still the same, else from 0; and which."""
        ...


def download(remote: Remote, folder: Path, cancelled: threading.Event, sha256: str = "") -> Path:
    """The file in `folder` that holds the object, fetched if it is not there; named by its sha256 where that is given.

    A part that was fetched stays, so that a later call goes on from there if the object is still the same.

    Raises:
        InvalidInput: If it is too large, or its sha256 is not the one given.
        Unavailable: If the server stopped answering, after a few attempts.
        Cancelled: If `cancelled` was set meanwhile.
    """
    if sha256 and (folder / sha256).is_file():
        return folder / sha256
    facts = remote.facts()
    key = sha256 or digest_of([remote.address, facts.size, facts.validator])
    target = folder / key
    if facts.size is not None and facts.size > MOST_BYTES:
        raise InvalidInput(f"{remote.shown} has {facts.size:,} bytes; at most {MOST_BYTES:,} are fetched")
    with telling_full_disks(folder):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{digest_of([remote.address, facts.size, facts.validator])}.part"
        with _alone(part, cancelled):
            if target.is_file() and (sha256 or facts.validator):
                return target
            part.touch()
            found = _fetch(remote, facts, part, cancelled)
            if sha256 and found != sha256:
                part.unlink()
                raise InvalidInput(
                    f"{remote.shown} has the sha256 {found}, not {sha256} as asked; it was changed, or the sum is wrong"
                )
            if not sha256 and not facts.validator:
                target = folder / found
            part.replace(target)
    return target


def _fetch(remote: Remote, facts: Facts, part: Path, cancelled: threading.Event) -> str:
    """Fill `part`; return the sha256 of the whole."""
    if not facts.validator:  # nothing says that what is there is a part of the same
        part.write_bytes(b"")
    if facts.size is not None:
        require_space(part.parent, facts.size - part.stat().st_size, f"fetching {remote.shown}")
    attempt, reached = 0, -1
    while True:
        try:
            return _go_on(remote, facts, part, cancelled)
        except Unavailable:
            size = part.stat().st_size
            attempt, reached = (attempt + 1, reached) if size <= reached else (1, size)
            if attempt >= _ATTEMPTS:
                raise
            if cancelled.wait(_WAIT_SECONDS * 2**attempt):
                raise Cancelled from None


def _go_on(remote: Remote, facts: Facts, part: Path, cancelled: threading.Event) -> str:
    there = part.stat().st_size if facts.validator else 0
    if facts.size is not None and there == facts.size:
        return file_digest(part)
    if facts.size is not None and there > facts.size:
        there = 0
    with remote.reading(there, facts) as (start, blocks), part.open("r+b") as stream:
        digest = hashlib.sha256()
        while stream.tell() < start:
            digest.update(stream.read(min(_BLOCK, start - stream.tell())))
        stream.truncate()
        told = began = time.monotonic()
        for block in blocks:
            if cancelled.is_set():
                raise Cancelled
            digest.update(block)
            stream.write(block)
            if stream.tell() > MOST_BYTES:
                raise InvalidInput(f"{remote.shown} has more than {MOST_BYTES:,} bytes, the most that is fetched")
            now = time.monotonic()
            if now - told > _TELL_SECONDS:
                told, rate = now, (stream.tell() - start) / (now - began) / 1e6
                progress.advance(stream.tell() / 1e6, (facts.size or 0) / 1e6, "MB", **{"MB/s": round(rate, 1)})
        if facts.size is not None and stream.tell() != facts.size:
            raise Unavailable(f"{remote.shown} ended after {stream.tell():,} of {facts.size:,} bytes; try again")
        return digest.hexdigest()


@contextlib.contextmanager
def _alone(part: Path, cancelled: threading.Event) -> Iterator[None]:
    """Hold the lock of `part`; a second process waits and then finds the file."""
    with part.with_suffix(".lock").open("ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if cancelled.wait(0.1):
                    raise Cancelled from None
        yield
