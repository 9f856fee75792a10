"""From an address to a place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.places import credentials
from volvox.places.addresses import parsed
from volvox.places.interface import Place


def open_place(url: str, given: Mapping[str, Any] | None = None) -> Place:
    """The place that `url` is in; nothing is asked yet.

    Args:
        url: As definitions name it; what stands below the place's root is left aside (`volvox.places.split` gives it).
        given: Credentials, as definitions of SCAR and OSCAR name them: `access_key`, `secret_key`, `session_token`,
            `region`, `endpoint`, `verify` of a bucket; `user` (or `login`), `password` or `token` of a WebDAV server;
            `token` of Onedata. Without those of a bucket the environment's AWS variables count.

    Raises:
        InvalidInput: If the address is none, or credentials are unknown, incomplete or meant for another server.
    """
    address = parsed(url)
    given = given or {}
    if address.kind == "s3":
        from volvox.places.s3 import S3Place

        return S3Place(address, credentials.access(address, given))
    if address.kind == "directory":
        from volvox.places.directory import Directory

        credentials.none(address, given)
        return Directory(address)
    login = credentials.login(address, given)
    if address.kind == "webdav":
        from volvox.places.webdav import WebDav

        return WebDav(address, login)
    from volvox.places.onedata import Onedata

    return Onedata(address, login)
