"""URLs of the places that definitions name: made from paths, from buckets and from others' storage providers.

A URL here is `file:///folder`, `s3://bucket/folder`, `webdavs://host/folder`, `onedata://host/space/folder` or
`rucio://host/path`. Names stand in it as they are, never URL-quoted; there is no `/` at its end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

SCHEMES = ("file", "s3", "webdav", "webdavs", "onedata", "rucio")
PROVIDERS = ("s3", "minio", "onedata", "webdav", "rucio")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:]+\](:\d{1,5})?")


class Parts(NamedTuple):
    """A URL taken apart.

    Attributes:
        scheme: One of `SCHEMES`.
        root: The bucket, the host, host and space; empty for files.
        folder: Below it, without `/` at its ends; of files the absolute path.
    """

    scheme: str
    root: str
    folder: str


def url_of(text: str, base: Path) -> str:
    """The URL of a place that is written as a URL or as a path.

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
    if not divider:
        return f"file://{_path(given, base)}"
    scheme = {"http": "webdav", "https": "webdavs"}.get(scheme.lower(), scheme.lower())
    if scheme not in SCHEMES:
        raise ValueError(f"there are no places of the kind {scheme}://; there are paths, {', '.join(SCHEMES)}")
    if scheme == "file":
        if not rest.startswith("/"):
            raise ValueError("a file:// URL goes on with an absolute path: file:///data/in")
        return f"file://{_path(rest, base)}"
    return joined(scheme, *rest.partition("/")[::2])


def joined(scheme: str, root: str, folder: str) -> str:
    """The URL of a folder in a bucket, on a host or in a space.

    Raises:
        ValueError: If one of them cannot be.
    """
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("a folder of a place may not hold '..'")
    _ends_well(folder.strip("/"))
    if scheme == "s3" and not _BUCKET.fullmatch(root):
        raise ValueError(f"{root!r} cannot name a bucket: use 3 to 63 letters, digits, '-' and '.'")
    if scheme != "s3" and not _HOST.fullmatch(root):
        raise ValueError(f"{root!r} cannot name a host; write {scheme}://HOST/FOLDER, the credentials elsewhere")
    if scheme == "onedata" and not parts:
        raise ValueError("write onedata://HOST/SPACE/FOLDER")
    return "/".join([f"{scheme}://{root if scheme == 's3' else root.lower()}", *parts])


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
        ValueError: If there is no such place.
    """
    kind = provider.partition(".")[0]
    trimmed = path.strip(" \t/")
    if not trimmed:
        raise ValueError("it names nothing; write bucket/folder")
    if kind in ("s3", "minio"):
        if service and "/" not in trimmed:
            trimmed = f"{service}/{trimmed}"
        return joined("s3", *trimmed.partition("/")[::2])
    host_key = {"onedata": "oneprovider_host", "webdav": "hostname", "rucio": "host"}[kind]
    host = str(described.get(host_key) or "").strip().rstrip("/")
    if not host:
        raise ValueError(f"it needs {host_key} of {provider}, which does not stand under storage_providers")
    plain = host.lower().startswith("http://")
    host, _, above = host.split("://")[-1].partition("/")
    if kind == "onedata":
        return joined("onedata", host, f"{described.get('space') or ''}/{trimmed}")
    return joined("rucio" if kind == "rucio" else "webdav" if plain else "webdavs", host, f"{above}/{trimmed}")


def parts_of(url: str) -> Parts:
    """A URL that one of these functions made, taken apart."""
    scheme, _, rest = url.partition("://")
    if scheme == "file":
        return Parts(scheme, "", rest)
    root, _, folder = rest.partition("/")
    if scheme == "onedata":
        space, _, folder = folder.partition("/")
        root = f"{root}/{space}"
    return Parts(scheme, root, folder)


def place_of(url: str) -> str:
    """The bucket, space or host itself; of files the folder."""
    parts = parts_of(url)
    return url if parts.scheme == "file" else f"{parts.scheme}://{parts.root}"


def _ends_well(folder: str) -> None:
    if folder != folder.strip():
        raise ValueError("the name of a place may not begin or end with a space")


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
