"""Names that are safe in URLs, folders, image tags and MLflow alike."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from volvox.errors import InvalidInput

_ARCHIVE = re.compile(r"\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


def model_name(source: str) -> str:
    """The name that a folder, an archive or a URL suggests: lower case letters, digits, `-`, `_` and `.`."""
    last = PurePosixPath(source.partition("?")[0].rstrip("/") or "/").name
    plain = unicodedata.normalize("NFKD", _ARCHIVE.sub("", last)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")[:64].strip("-._") or "model"


def checked_name(name: str) -> str:
    """`name` itself, if it can be a model's name.

    Raises:
        InvalidInput: If it cannot; the message suggests one that can.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot name a model: use 1 to 64 lower case letters, digits, '-', '_' or '.', "
            f"for example {model_name(name)!r}"
        )
    return name
