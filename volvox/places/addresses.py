"""Addresses of places: a URL is the root that a kind of place has, and a key below it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from volvox.errors import InvalidInput
from volvox.places.keys import checked, shown

Kind = Literal["directory", "s3", "webdav", "onedata"]

FORMS = (
    "a path or file:///PATH, s3://BUCKET/FOLDER, s3+https://SERVER/BUCKET/FOLDER, webdavs://SERVER/PATH, "
    "onedata://ONEPROVIDER/SPACE/PATH"
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]|[A-Za-z0-9]{1,255}")
_S3 = ("s3", "minio", "s3+http", "s3+https")


@dataclass(frozen=True, slots=True)
class Address:
    """An address in its parts.

    Attributes:
        kind: Which kind of place.
        root: URL of the place, normalised; what jobs and definitions name it by.
        key: What stands below the root, as it is, without a `/` at either end; empty: the root itself.
        server: `https://host:port` of what is asked, where the address says so.
        name: Bucket or space, or the path of a folder on this machine.
    """

    kind: Kind
    root: str
    key: str
    server: str = ""
    name: str = ""

    @property
    def url(self) -> str:
        """The whole of it."""
        if not self.key:
            return self.root
        return f"{self.root}/{self.key if self.kind == 's3' else quote(self.key)}"


def parsed(url: str) -> Address:
    """The parts of an address.

    A folder of this machine is a place itself. In a bucket, on a WebDAV server and in a space of Onedata the folder is
    the beginning of a key, so that all who tell of a file tell of it by one name. The key of a bucket is taken as it
    stands (`%20` is three characters); in the others it is quoted as in any URL.

    Raises:
        InvalidInput: If it is no address of a place, or holds a user or password.
    """
    scheme, colon, rest = url.partition("://")
    if not colon or scheme == "file":
        return _folder(rest if colon else url, quoted=bool(colon))
    scheme = scheme.lower()
    netloc, _, path = rest.partition("/")
    if "@" in netloc:
        raise InvalidInput(
            f"the address of {shown(netloc.rpartition('@')[2])} holds a user or password; give them as credentials"
        )
    if scheme in _S3:
        return _bucket(scheme, netloc, path, url)
    if scheme in ("webdav", "webdavs", "onedata"):
        return _on_a_server(scheme, netloc, path, url)
    raise InvalidInput(f"{shown(url)} is no address of a place; give {FORMS}")


def split(url: str) -> tuple[str, str]:
    """URL of the place, normalised, and the key below it; raises as `parsed` does."""
    address = parsed(url)
    return address.root, address.key


def joined(root: str, key: str) -> str:
    """URL of an object: the place's URL and its key; `split` takes it apart again, but for folders."""
    address = parsed(root)
    return f"{address.url}/{key if address.kind == 's3' else quote(key)}"


def relative(url: str, place: str, key: str) -> str | None:
    """The path of an object below the folder `url`, or None if it is not in there.

    Args:
        url: A function's input, say.
        place: URL of the place that the object is in, normalised.
        key: The object's key.
    """
    outer, inner = parsed(url), parsed(place)
    whole = f"{inner.key}/{key}" if inner.key else key
    if outer.kind == inner.kind == "directory":
        whole, above = f"{inner.name}/{whole}", outer.name
        return whole[len(above) :].lstrip("/") if whole.startswith(above.rstrip("/") + "/") else None
    if outer.root != inner.root:
        return None
    if not outer.key:
        return whole
    return whole[len(outer.key) + 1 :] if whole.startswith(outer.key + "/") else None


def _folder(path: str, *, quoted: bool) -> Address:
    if quoted:
        host, _, path = path.partition("/")
        if host not in ("", "localhost"):
            raise InvalidInput(f"the folder would be on another machine, {shown(host)}; give file:///PATH")
        path = "/" + unquote(path, errors="surrogateescape")
    if not path or "\0" in path:
        raise InvalidInput(f"the path {shown(path)} names no folder")
    whole = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - links stay as they were named
    return Address("directory", "file://" + quote(os.fsencode(whole)), "", "", whole)


def _bucket(scheme: str, netloc: str, path: str, url: str) -> Address:
    server = ""
    if "+" in scheme:
        server = _server(scheme.removeprefix("s3+"), netloc, url)
        netloc, _, path = path.partition("/")
    if not _BUCKET.fullmatch(netloc):
        raise InvalidInput(f"the address {shown(url)} names no bucket; give s3://BUCKET/FOLDER")
    root = f"s3+{server}/{netloc}" if server else f"s3://{netloc}"
    return Address("s3", root, _key(path), server, netloc)


def _on_a_server(scheme: str, netloc: str, path: str, url: str) -> Address:
    if "?" in path or "#" in path:
        raise InvalidInput(
            f"the address {shown(re.split('[?#]', url)[0])} has a query or fragment; write %3F and %23 in a path"
        )
    secure = scheme != "webdav"
    server = _server("https" if secure else "http", netloc, url)
    if scheme != "onedata":
        return Address("webdav", f"{scheme}://{urlsplit(server).netloc}", _key(unquote(path)), server)
    space, _, path = path.strip("/").partition("/")
    if not space:
        raise InvalidInput(f"the address {shown(url)} names no space; give onedata://ONEPROVIDER/SPACE/PATH")
    if urlsplit(server).hostname in LOOPBACK:
        server = server.replace("https://", "http://", 1)
    space = unquote(space)
    return Address("onedata", f"onedata://{urlsplit(server).netloc}/{quote(space)}", _key(unquote(path)), server, space)


LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _server(scheme: str, netloc: str, url: str) -> str:
    try:
        parts = urlsplit(f"{scheme}://{netloc}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or re.search(r"[\s?#\\]", netloc):
        raise InvalidInput(f"the address {shown(url)} names no server")
    if ":" in host:
        host = f"[{host}]"
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if port in (None, usual) else f"{scheme}://{host}:{port}"


def _key(path: str) -> str:
    key = path.strip("/")
    return checked(key) if key else ""
