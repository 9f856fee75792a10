"""Who may tell of files: senders of notifications, each with what it may speak of, in a file only its owner may read.

A sender's token is kept as its SHA-256, as `volvox.serving.tokens` keeps those of the server. A key for signatures has
to be kept as it is, since the receiver computes the signature, too.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from volvox.errors import InvalidInput, NotFound
from volvox.places import split
from volvox.private_files import rewriting

TOKEN = "volvox_"  # noqa: S105 - how tokens begin, so that tools which look for secrets find them
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends notifications, and how far it is believed.

    Attributes:
        name: For people, and the user of basic authentication.
        function: The function that its files are for; empty: every function whose input they are in.
        places: What it may speak of, as URLs with or without a folder; empty: of every bucket. Forms that do not name
            a place by a URL need it: Onedata (the Oneprovider of a space), dCache and Rucio (the WebDAV folder).
        trusted: Whether the user that its notifications name is believed.
        topics: ARNs of the SNS topics that may be subscribed to it, and that it may speak for; none: no subscription.
        token: SHA-256 of its token, in hexadecimal digits; empty: it has none.
        secret: The key that it signs with; empty: it does not.
    """

    name: str = ""
    function: str = ""
    places: tuple[str, ...] = ()
    trusted: bool = False
    topics: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)


def hashed(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def holder(senders: Iterable[Sender], token: str, name: str = "") -> Sender | None:
    """Whose token it is; None if nobody's, or of another than `name`."""
    found, given = None, hashed(token)
    for sender in senders:  # all of them, so that the time says nothing
        if sender.token and hmac.compare_digest(given, sender.token):
            found = sender
    return found if found and name in ("", found.name) else None


def signer(senders: Iterable[Sender], body: bytes, signature: str) -> Sender | None:
    """Who signed the body: `sha256=` and the HMAC-SHA256 of it in hexadecimal digits; None if nobody did."""
    found, given = None, signature.strip().lower().removeprefix("sha256=")
    for sender in senders:
        own = hmac.new(sender.secret.encode(), body, hashlib.sha256).hexdigest() if sender.secret else ""
        if own and hmac.compare_digest(own.encode(), given.encode("utf-8", "replace")):
            found = sender
    return found


class SenderFile:
    """The senders of a file; a changed file counts within a second."""

    def __init__(self, path: Path) -> None:
        """Read `path`.

        Raises:
            InvalidInput: If it is missing, others may read it, or something in it cannot be understood.
        """
        self._path = path
        self._senders = read(path)
        self._stamp, self._looked = _stamp(path), time.monotonic()

    def __call__(self) -> tuple[Sender, ...]:
        """Those it holds now; none once it cannot be read."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if (stamp := _stamp(self._path)) != self._stamp:
                self._stamp = stamp
                try:
                    self._senders = read(self._path)
                except InvalidInput as error:
                    self._senders = ()
                    log.error("no notification is accepted any more: %s", error)
        return self._senders


def read(path: Path) -> tuple[Sender, ...]:
    """The senders in the file.

    Raises:
        InvalidInput: If it is missing, others may read it, or something in it cannot be understood.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(f"the senders in {path} cannot be read ({why})") from error
    if mode & 0o077:
        raise InvalidInput(f"others may read the senders in {path} (mode {stat.filemode(mode)}); `chmod 600 {path}`")
    try:
        told = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise InvalidInput(f"line {line} of {path} is no YAML; correct it") from None  # the error quotes the line
    if not isinstance(told, dict):
        raise InvalidInput(f"{path} holds no senders; it should be `NAME: {{token: ..., places: [...]}}`")
    return tuple(_sender(path, name, given) for name, given in told.items())


def add(path: Path, sender: Sender) -> str:
    """Keep a sender and make a token for it; the token is told here and never again.

    Raises:
        InvalidInput: If there is one of that name, or it cannot be kept.
    """
    token = TOKEN + secrets.token_urlsafe(32)
    with _changing(path) as senders:
        if sender.name in senders:
            raise InvalidInput(f"{path} has a sender {sender.name!r}; remove it first")
        senders[sender.name] = _checked(path, replace(sender, token=hashed(token)))
    return token


def remove(path: Path, name: str) -> None:
    """Accept nothing of this sender any more.

    Raises:
        NotFound: If there is none of that name.
    """
    with _changing(path) as senders:
        if senders.pop(name, None) is None:
            raise NotFound(f"{path} has no sender {name!r}; there are: {', '.join(senders) or 'none'}")


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Sender]]:
    """The senders by name, written back when the block ends without an error; one process at a time."""
    with rewriting(path, "senders") as write:
        senders = {one.name: one for one in read(path)} if path.exists() else {}
        yield senders
        told = {name: _said(one) for name, one in sorted(senders.items())}
        write(yaml.safe_dump(told, sort_keys=False))


def _said(sender: Sender) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for one in fields(Sender):
        value = getattr(sender, one.name)
        if one.name != "name" and value != one.default:
            told[one.name] = list(value) if isinstance(value, tuple) else value
    if sender.token:
        told["token"] = f"sha256:{sender.token}"
    return told


def _sender(path: Path, name: Any, given: Any) -> Sender:
    known = {one.name for one in fields(Sender)} - {"name"}
    strange = sorted(str(key) for key in given.keys() - known) if isinstance(given, dict) else ["nothing"]
    if strange:
        what = f"has {strange[0]!r}, which is not known" if isinstance(given, dict) else "says nothing"
        raise InvalidInput(f"the sender {name!r} in {path} {what}; there may be: {', '.join(sorted(known))}")
    told = dict(given)
    for key in ("places", "topics"):
        value = told.get(key, ())
        told[key] = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    if "token" in told:
        told["token"] = str(told["token"]).removeprefix("sha256:")
    return _checked(path, Sender(name=str(name), **told))


def _checked(path: Path, sender: Sender) -> Sender:
    here = f"the sender {sender.name!r} in {path}"
    if not _NAME.fullmatch(sender.name):
        raise InvalidInput(f"{here} cannot be named so; use letters, digits, '.', '_', '@' or '-'")
    if sender.token and not _HASH.fullmatch(sender.token):
        raise InvalidInput(f"{here} has a token that is not `sha256:HEX`")
    if not sender.token and not sender.secret:
        raise InvalidInput(f"{here} has neither a token nor a secret, so that anybody could be it")
    for value in (sender.function, sender.secret, *(sender.places or ()), *(sender.topics or ())):
        if not isinstance(value, str):
            raise InvalidInput(f"{here} has something that is no text where a text belongs; put it in quotes")
    if sender.places is None or sender.topics is None or not isinstance(sender.trusted, bool):
        raise InvalidInput(f"{here}: places and topics are lists of texts, trusted is true or false")
    for place in sender.places:
        split(place)
    return sender


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        told = path.stat()
    except OSError:
        return ()
    return told.st_mtime_ns, told.st_ino, told.st_size, told.st_mode
