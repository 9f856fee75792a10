"""What every kind of place can do, whoever keeps the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Found:
    """One object as the place itself reports it.

    Attributes:
        key: Its name below the place's root, with `/` between its parts; as it is, never URL-quoted.
        version: Names these very bytes: the store's version id, else entity tag and time of change, for a folder size,
            time of change in ns and inode. Two notifications of one upload have the same, an overwrite has another.
        size: Bytes.
        modified: Seconds since the epoch at which it came to be.
        user: Who owns it as far as the place says so, or empty.
    """

    key: str
    version: str
    size: int
    modified: float
    user: str = ""


@runtime_checkable
class Place(Protocol):
    """Files under names.

    Every method may raise Unavailable where asking again may help (no answer, a time-out, an error of the server),
    PlaceGone where the bucket, folder or space itself is gone, AccessRefused where credentials are refused or expired,
    and another InvalidInput where it is the object that cannot be had (a name that the place cannot hold, a file that
    this user may not read). None of the messages holds a secret.

    Attributes:
        url: Where it is, without credentials; what a definition names it by, normalised.
    """

    url: str

    def find(self, key: str, version: str = "") -> Found | None:
        """The object under `key` now, or the stated version of it; None if there is none."""
        ...

    def list(self, prefix: str = "", after: str = "") -> Iterator[Found]:
        """Every object whose key begins with `prefix`, in the order of keys, those up to `after` left out.

        Listed page by page, so that a million of them fit in memory. What is being written is not listed.
        """
        ...

    def fetch(self, key: str, target: Path, version: str = "") -> Found:
        """Write the object into the file `target`, streamed; nothing is left there if it fails.

        Raises:
            NotFound: If there is no such object, or no longer that version.
        """
        ...

    def put(self, key: str, source: Path, *, content_type: str = "", once: bool = True) -> bool:
        """Write the file `source` under `key`; it appears whole or not at all.

        Args:
            key: Where; folders that it needs are made.
            source: A file of this machine.
            content_type: Its media type, where the place keeps one.
            once: Write only if nothing is there yet, in one step with looking, where the place can.

        Returns:
            Whether it was written; False if `once` and something was there.
        """
        ...

    def remove(self, key: str) -> bool:
        """Remove the object; False if there was none."""
        ...
