"""Bearer tokens of a server, in a file of `NAME: sha256:HEX` lines that only its owner may read.

A token is 32 random bytes. A plain SHA-256 of it is the right thing to keep: slow hashes such as scrypt are for
passwords, which can be guessed; nobody guesses 256 random bits, and a slow hash would be paid for with each request.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volvox.errors import InvalidInput, NotFound
from volvox.private_files import rewriting

_PREFIX = "volvox_"  # so that tools which look for secrets in code find it
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,99}):\s*sha256:([0-9a-f]{64})")
_LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class TokenFile:
    """The tokens that are accepted; a changed file counts within a second."""

    def __init__(self, path: Path) -> None:
        """Read `path`.

        Raises:
            InvalidInput: If it is missing, others may read it, or a line of it cannot be understood.
        """
        self._path = path
        self._hashes = read(path)
        self._stamp, self._looked = _stamp(path), time.monotonic()

    def holder(self, token: str) -> str | None:
        """Whose token it is; None if nobody's."""
        self._look()
        found, given = None, _hash(token)
        for name, kept in self._hashes.items():  # all of them, so that the time says nothing
            if hmac.compare_digest(given, kept):
                found = name
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if (stamp := _stamp(self._path)) == self._stamp:
            return
        self._stamp = stamp
        try:
            self._hashes = read(self._path)
        except InvalidInput as error:
            self._hashes = {}
            log.error("no token is accepted any more: %s", error)


def read(path: Path) -> dict[str, str]:
    """Name -> hash of every token in the file.

    Raises:
        InvalidInput: If it is missing, others may read it, or a line of it cannot be understood.
    """
    try:
        mode, lines = path.stat().st_mode, path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(
            f"the tokens in {path} cannot be read ({why}); `volvox tokens add NAME` makes one"
        ) from error
    if mode & 0o077:
        raise InvalidInput(f"others may read the tokens in {path} (mode {stat.filemode(mode)}); `chmod 600 {path}`")
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        told = _LINE.fullmatch(line.strip())
        if told is None or told[1] in found:
            what = "names a token again" if told else "is not `NAME: sha256:HEX`"
            raise InvalidInput(f"line {number} of {path} {what}; correct it, or make the token anew")
        found[told[1]] = told[2]
    return found


def add(path: Path, name: str) -> str:
    """Make a token for `name`; it is told here and never again.

    Raises:
        InvalidInput: If the name cannot be one, or has a token already.
    """
    if _LINE.fullmatch(f"{name}: sha256:{'0' * 64}") is None:
        raise InvalidInput(f"{name!r} cannot name a token; use letters, digits, '.', '_', '@' or '-'")
    token = _PREFIX + secrets.token_urlsafe(32)
    with _changing(path) as hashes:
        if name in hashes:
            raise InvalidInput(f"{name!r} has a token in {path}; `volvox tokens remove {name}` first")
        hashes[name] = _hash(token)
    return token


def remove(path: Path, name: str) -> None:
    """Accept the token of `name` no longer.

    Raises:
        NotFound: If it has none.
    """
    with _changing(path) as hashes:
        if hashes.pop(name, None) is None:
            raise NotFound(f"{name!r} has no token in {path}; there are: {', '.join(hashes) or 'none'}")


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, str]]:
    """The tokens, written back when the block ends without an error; one process at a time."""
    with rewriting(path, "tokens") as write:
        hashes = read(path) if path.exists() else {}
        yield hashes
        write("".join(f"{name}: sha256:{kept}\n" for name, kept in sorted(hashes.items())))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_mtime_ns, told.st_ino, told.st_size, told.st_mode
