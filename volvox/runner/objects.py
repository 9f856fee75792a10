"""Objects of a bucket, read and written by the job runner itself: where its image has no client of S3.

One request an object, streamed both ways; what heals by itself is tried again.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Iterator, Mapping
from urllib.parse import urlsplit

from volvox.runner.signing import KeyRing, NoKeys, quoted, signed

LARGEST = 5 << 30  # bytes that S3 takes in one request
_PIECE = 1 << 18
_TRIES = 4
_CONNECT_SECONDS, _SILENCE_SECONDS = 10.0, 60.0
_AGAIN = {408, 429, 500, 502, 503, 504}
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")


class Trouble(Exception):
    """What an object could not be read or written for.

    Attributes:
        kind: `transient`, `storage`, `missing` or `failed`, as outcomes of calls have it.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class Told:
    """What a bucket says of an object.

    Attributes:
        etag: Without its quotation marks.
        modified: Seconds since the epoch.
        version: The version id, or empty.
        size: Bytes.
    """

    etag: str
    modified: int
    version: str
    size: int

    @property
    def name(self) -> str:
        """How jobs name this version of the object: as `volvox.places` does."""
        return self.version if self.version not in ("", "null") else f"{self.etag}@{self.modified}"


class Bucket:
    """One bucket, as the role of this process may use it."""

    def __init__(self, name: str, ring: KeyRing, *, endpoint: str = "", region: str = "") -> None:
        """Name it; nothing is asked yet.

        Args:
            name: The bucket's.
            ring: Whose requests are made.
            endpoint: URL of the server; empty: the environment's, else Amazon's.
            region: The bucket's; empty: the environment's, else `us-east-1`.
        """
        said = os.environ.get
        self.name, self._ring = name, ring
        self.region = region or said("AWS_REGION") or said("AWS_DEFAULT_REGION") or "us-east-1"
        own = endpoint or said("AWS_ENDPOINT_URL_S3") or said("AWS_ENDPOINT_URL") or ""
        suffix = ".cn" if self.region.startswith("cn-") else ""
        if own:
            self._base = f"{own.rstrip('/')}/{name}"
        elif "." in name:
            self._base = f"https://s3.{self.region}.amazonaws.com{suffix}/{name}"
        else:
            self._base = f"https://{name}.s3.{self.region}.amazonaws.com{suffix}"

    def fetch(self, key: str, target: Path, version: str = "") -> Told:
        """Download an object, whole or not at all.

        Args:
            key: The object's.
            target: The file that is written.
            version: A version id; empty: the object as it is now.

        Raises:
            Trouble: If it is not there, the server does not answer, or the disk is full.
        """
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._asked("GET", key, query=_version(version)) as answer, target.open("wb") as stream:
                    while piece := answer.read(_PIECE):
                        stream.write(piece)
                    told = _told(answer)
                    if stream.tell() == told.size:
                        return told
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    target.unlink()
                    raise Trouble("storage", f"the disk has no room for {key!r}") from None
                if not tries_left:
                    raise Trouble("transient", f"{key!r} of bucket {self.name} broke off ({error})") from None
            except http.client.HTTPException as error:
                if not tries_left:
                    raise Trouble("transient", f"{key!r} of bucket {self.name} broke off ({error})") from None
            time.sleep(0.3 * (_TRIES - tries_left))
        raise Trouble("transient", f"{key!r} of bucket {self.name} broke off")

    def look(self, key: str) -> Told | None:
        """What the bucket says of an object; None if it is not there."""
        try:
            with self._asked("HEAD", key) as answer:
                return _told(answer)
        except Trouble as error:
            if error.kind == "missing":
                return None
            raise

    def put(self, key: str, source: Path, *, content_type: str = "", once: bool = False) -> bool:
        """Upload a file of at most 5 GiB.

        Args:
            key: The object's.
            source: The file.
            content_type: Its media type.
            once: Whether an object that is there already stays.

        Returns:
            Whether it was written: False if another one was there.

        Raises:
            Trouble: If the server refuses or does not answer.
        """
        size = source.stat().st_size
        if size > LARGEST:
            raise Trouble("storage", f"{source.name} has {size >> 20} MB, more than a bucket takes in one request")
        headers = {"content-length": str(size)}
        if content_type:
            headers["content-type"] = content_type
        if once:
            headers["if-none-match"] = "*"
        try:
            with source.open("rb") as stream, self._asked("PUT", key, headers, stream):
                return True
        except _There:
            return False
        except _Unheeded:  # a server that knows no such condition: looked for just before
            if self.look(key) is not None:
                return False
            return self.put(key, source, content_type=content_type)

    def read(self, key: str) -> bytes:
        """A small object as a whole."""
        with self._asked("GET", key) as answer:
            return answer.read()

    def write(self, key: str, body: bytes) -> None:
        """Write a small object."""
        headers = {"content-length": str(len(body)), "content-type": "application/json"}
        with self._asked("PUT", key, headers, body):
            pass

    # -- inside --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _asked(
        self, method: str, key: str, headers: Mapping[str, str] | None = None, body: IO[bytes] | bytes | None = None,
        query: str = "",
    ) -> Iterator[http.client.HTTPResponse]:  # fmt: skip
        connection, answer = self._answered(method, key, headers or {}, body, query)
        try:
            yield answer
        finally:
            connection.close()

    def _answered(
        self, method: str, key: str, headers: Mapping[str, str], body: IO[bytes] | bytes | None, query: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """An answer that is no error; asked again while that may help."""
        what = f"{'writing' if method == 'PUT' else 'reading'} {key!r} in bucket {self.name}"
        for tries_left in reversed(range(_TRIES)):
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            connection = None
            try:
                connection, answer = self._sent(method, key, headers, body, query)
                if answer.status < 300:
                    kept, connection = connection, None
                    return kept, answer
                _refused(answer, what, tries_left)
            except NoKeys as error:
                raise Trouble("failed", f"{what}: {error}") from None
            except (OSError, http.client.HTTPException) as error:
                if not tries_left:
                    raise Trouble("transient", f"{what}: the server does not answer ({error})") from None
            finally:
                if connection is not None:
                    connection.close()
            time.sleep(0.2 * 2 ** (_TRIES - 1 - tries_left))
        raise Trouble("transient", f"{what}: the server does not answer")

    def _sent(
        self, method: str, key: str, headers: Mapping[str, str], body: IO[bytes] | bytes | None, query: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        url = f"{self._base}/{quoted(key)}" + (f"?{query}" if query else "")
        parts = urlsplit(url)
        told = signed(method, url, headers, self._ring.keys(), self.region)
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_CONNECT_SECONDS, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(_SILENCE_SECONDS)
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), body, told)
        return connection, connection.getresponse()


class _There(Exception):
    """An object is there already."""


class _Unheeded(Exception):
    """The server knows no conditions."""


def _refused(answer: http.client.HTTPResponse, what: str, tries_left: int) -> None:
    """Raise for an answer that is an error; return if it is worth another try."""
    code = _CODE.search(answer.read(4096).decode(errors="replace"))
    said = f"{answer.status}{f' {code[1]}' if code else ''}"  # not its words: these may quote a session token
    if answer.status == 412:
        raise _There
    if answer.status == 501:
        raise _Unheeded
    if answer.status == 404:
        raise Trouble("missing", f"{what}: it is not there ({said})")
    if answer.status not in _AGAIN and answer.status != 409:
        action = "s3:PutObject" if what.startswith("writing") else "s3:GetObject"
        raise Trouble("failed", f"{what} is refused ({said}); look at the rights of its role ({action})")
    if not tries_left:
        raise Trouble("transient", f"{what}: the server answers {said}")


def _told(answer: http.client.HTTPResponse) -> Told:
    given = answer.headers.get
    when = given("last-modified")
    modified = int(parsedate_to_datetime(when).timestamp()) if when else 0
    size = int(given("content-length") or 0)
    return Told((given("etag") or "").strip('"'), modified, given("x-amz-version-id") or "", size)


def _version(version: str) -> str:
    return f"versionId={quoted(version).replace('/', '%2F')}" if version else ""
