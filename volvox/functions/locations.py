"""URLs of the places that definitions name: made from paths, from URLs and from others' storage providers.

What a URL looks like, `volvox.places` decides: `file:///folder`, `s3://bucket/folder`, `webdavs://host/folder`,
`onedata://host/space/folder`, each in one form only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from volvox.errors import InvalidInput
from volvox.places.addresses import parsed

PROVIDERS = ("s3", "minio", "onedata", "webdav", "rucio")
ELSEWHERE = ("rucio",)  # an OSCAR cluster alone reads and writes these


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Parts(NamedTuple):
    """A URL taken apart.

    Attributes:
        kind: `directory`, `s3`, `webdav` or `onedata`.
        root: URL of the place itself: bucket, server or space; of files the folder.
        server: What is asked, where the URL says so.
        name: Of the bucket or space.
        folder: Below it, without `/` at its ends; of files the absolute path.
    """

    kind: str
    root: str
    server: str
    name: str
    folder: str


def url_of(text: str, base: Path) -> str:
    """The URL of a place that is written as a URL or as a path, in its one form.

    Args:
        text: `s3://bucket/folder`, `~/drop`, `data/in`, ...
        base: The folder that relative paths are below.

    Raises:
        ValueError: If it is none; the message says what would do.
    """
    given = text.strip()
    if not given:
        raise ValueError("a place is a path such as ~/drop, or a URL such as s3://bucket/folder")
    scheme, divider, rest = given.partition("://")
    if not divider or not _SCHEME.fullmatch(scheme):
        return _folder_url(_path(given, base))
    scheme = {"http": "webdav", "https": "webdavs"}.get(scheme.lower(), scheme.lower())
    if scheme == "file" and not rest.startswith(("/", "localhost/")):
        raise ValueError("a file:// URL goes on with an absolute path: file:///data/in")
    return _checked(f"{scheme}://{rest}")


def provider_name(text: str) -> str:
    """`type.id` of a reference to a storage provider, whose id is `default` unless it is stated.

    Raises:
        ValueError: If there is no such type.
    """
    kind, _, name = text.strip().partition(".")
    if kind.lower() not in PROVIDERS:
        raise ValueError(f"there are no storage providers of the type {kind!r}; there are {', '.join(PROVIDERS)}")
    return f"{kind.lower()}.{name.strip() or 'default'}"


def provided_url(provider: str, path: str, service: str, described: Mapping[str, Any]) -> str:
    """The URL of a path at a storage provider, by OSCAR's and SCAR's rules.

    Args:
        provider: As `provider_name` gives it.
        path: Bucket and folder; spaces and `/` around it do not count.
        service: The function's name; not empty where a path without `/` means a folder of the bucket of that name.
        described: What the file says of the provider, without its secrets.

    Raises:
        ValueError: If there is no such place; none of ours is one of Rucio.
    """
    kind = provider.partition(".")[0]
    trimmed = path.strip(" \t/")
    if not trimmed:
        raise ValueError("it names nothing; write bucket/folder")
    if kind in ("s3", "minio"):
        return _checked(f"s3://{service}/{trimmed}" if service and "/" not in trimmed else f"s3://{trimmed}")
    host_key = {"onedata": "oneprovider_host", "webdav": "hostname"}.get(kind)
    if host_key is None:
        raise ValueError(f"there are no places of the kind {kind}")
    host = str(described.get(host_key) or "").strip().rstrip("/")
    if not host:
        raise ValueError(f"it needs {host_key} of {provider}, which does not stand under storage_providers")
    plain = host.lower().startswith("http://")
    host, _, above = host.split("://")[-1].partition("/")
    if kind == "onedata":
        space = str(described.get("space") or "").strip("/") or trimmed.partition("/")[0]
        inside = trimmed if described.get("space") else trimmed.partition("/")[2]
        root = f"onedata://{host}/{quote(space)}"
    else:
        root, inside = f"{'webdav' if plain else 'webdavs'}://{host}", f"{above}/{trimmed}".strip("/")
    return _checked(f"{root}/{quote(inside)}" if inside else root)


def parts_of(url: str) -> Parts:
    """A URL that one of these functions made, taken apart."""
    address = parsed(url)
    folder = address.name if address.kind == "directory" else address.key
    return Parts(address.kind, address.root, address.server, address.name, folder)


def place_of(url: str) -> str:
    """URL of the bucket, space or server itself; of files the folder."""
    return parsed(url).root


def shown(url: str) -> str:
    """A place as people write it: a path as a path."""
    parts = parts_of(url)
    told = parts.folder
    readable = told.isprintable() and told == told.strip()
    return told if parts.kind == "directory" and readable else url


def _checked(url: str) -> str:
    try:
        address = parsed(url)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
    _ends_well(address.name if address.kind == "directory" else address.key)
    return address.url


def _folder_url(path: str) -> str:
    return "file://" + quote(os.fsencode(path))


def _path(text: str, base: Path) -> str:
    if "\0" in text:
        raise ValueError("a path may not hold a NUL")
    try:
        expanded = Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"nobody knows whose home {text.partition('/')[0]!r} is") from error
    _ends_well(text.rstrip("/"))
    # normpath and not resolve: where a link leads may change, and the definition says what it says.
    return os.path.normpath(os.path.abspath(base / expanded)).replace("//", "/")  # noqa: PTH100


def _ends_well(folder: str) -> None:
    if folder != folder.strip():
        raise ValueError("the name of a place may not begin or end with a space")
