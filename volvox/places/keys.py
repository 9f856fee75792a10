"""Keys: what may be one, and which ones are nobody's business."""

from __future__ import annotations

import re

from volvox.errors import InvalidInput

INCOMING = ".incoming-"
"""How the name of a file begins that is being written: it is never listed, and no notification of it counts."""

_MOST_BYTES = 1024  # what S3 takes, and the others with it, so that a job's key fits wherever its answer goes
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def checked(key: str) -> str:
    """The key, if it can be one in every kind of place.

    Raises:
        InvalidInput: If it is empty, too long, absolute, no text, or has empty parts, `.`, `..` or control characters.
    """
    if not key:
        raise InvalidInput("the key of an object is empty; give it a name")
    told = shown(key)
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidInput(f"the key {told} is not valid Unicode; rename the file") from None
    if size > _MOST_BYTES:
        raise InvalidInput(f"the key {told} has {size:,} bytes, and at most {_MOST_BYTES:,} are possible; shorten it")
    if _CONTROL.search(key):
        raise InvalidInput(f"the key {told} has a control character in it; rename the file")
    if key.startswith("/"):
        raise InvalidInput(f"the key {told} begins with '/'; give the path below the place")
    parts = key.split("/")
    if "" in parts:
        raise InvalidInput(f"the key {told} has an empty part between, or after, its '/'; it can be no file's name")
    if "." in parts or ".." in parts:
        raise InvalidInput(f"the key {told} has a '.' or '..' in it, which would lead elsewhere; rename the file")
    return key


def hidden(key: str) -> bool:
    """Whether it is a file that is being written."""
    return key.rpartition("/")[2].startswith(INCOMING)


def shown(key: str) -> str:
    """A key for a message: on one line, and never longer than one."""
    told = ascii(key) if not key.isprintable() else repr(key)
    return told if len(told) <= 120 else f"{told[:100]}...{told[-16:]}"
