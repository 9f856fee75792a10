"""Credentials of a place, under the names that definitions of SCAR and OSCAR, AWS and others give them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from volvox.buckets import Access
from volvox.errors import InvalidInput
from volvox.places.addresses import LOOPBACK, Address

_NAMES = {
    "access_key": ("access_key", "access_key_id", "aws_access_key_id"),
    "secret_key": ("secret_key", "secret_access_key", "aws_secret_access_key"),
    "session_token": ("session_token", "aws_session_token"),
    "region": ("region", "region_name"),
    "endpoint": ("endpoint", "endpoint_url"),
    "path_style": ("path_style",),
    "verify": ("verify", "ssl_verify"),
    "user": ("user", "login", "username"),
    "password": ("password",),
    "token": ("token", "access_token"),
    "host": ("host", "hostname", "oneprovider_host"),
    "space": ("space",),
}
_NAMED = {one.replace("_", ""): name for name, names in _NAMES.items() for one in names}
_TAKES = {
    "directory": (),
    "s3": ("access_key", "secret_key", "session_token", "region", "endpoint", "path_style", "verify"),
    "webdav": ("user", "password", "token", "host", "verify"),
    "onedata": ("token", "host", "space", "verify"),
}


@dataclass(frozen=True, slots=True)
class Login:
    """How a server is asked that speaks HTTP.

    Attributes:
        user, password: For basic authentication.
        token: Instead of those, a bearer token; for Onedata an access token.
        verify: Whether the server's certificate is checked.
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    verify: bool = True


def access(address: Address, given: Mapping[str, Any]) -> Access:
    """How a bucket is reached; without credentials in `given` the environment's AWS variables say so.

    Raises:
        InvalidInput: If something of it is unknown, or missing.
    """
    told = _told(address, given)
    if bool(told.get("access_key")) != bool(told.get("secret_key")):
        raise InvalidInput(f"the credentials for {address.root} are an access key or a secret key alone; give both")
    endpoint = address.server or _text(told, "endpoint")
    if endpoint and "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    return Access(
        endpoint=endpoint,
        region=_text(told, "region"),
        path_style=_truth(told["path_style"], "path_style") if "path_style" in told else None,
        access_key_id=_text(told, "access_key"),
        secret_access_key=_text(told, "secret_key"),
        session_token=_text(told, "session_token"),
        verify=_truth(told.get("verify", True), "verify"),
    )


def login(address: Address, given: Mapping[str, Any]) -> Login:
    """How a WebDAV server or an Oneprovider is asked.

    A token is sent as it is, so one of the environment (`ONECLIENT_ACCESS_TOKEN`) goes only to the server that stands
    beside it (`ONECLIENT_PROVIDER_HOST`): whoever may define a function could name any server.

    Raises:
        InvalidInput: If something of it is unknown or missing, is meant for another server, or would be sent readable.
    """
    told = _told(address, given)
    host = urlsplit(address.server).netloc
    if (meant := _text(told, "host")) and urlsplit(f"//{meant.rpartition('//')[2]}").netloc.lower() != host.lower():
        raise InvalidInput(f"the credentials given for {address.root} are those of {meant}; give those of {host}")
    if (space := _text(told, "space")) and space != address.name:
        raise InvalidInput(f"the credentials given for {address.root} are those of the space {space!r}")
    token = _text(told, "token")
    if address.kind == "onedata" and not token and os.environ.get("ONECLIENT_PROVIDER_HOST", "").lower() == host:
        token = os.environ.get("ONECLIENT_ACCESS_TOKEN", "")
    if address.kind == "onedata" and not token:
        raise InvalidInput(
            f"there is no access token for {address.root}; give one as `token`, or set ONECLIENT_ACCESS_TOKEN and "
            f"ONECLIENT_PROVIDER_HOST={host}"
        )
    found = Login(
        _text(told, "user"), _text(told, "password"), token, verify=_truth(told.get("verify", True), "verify")
    )
    if bool(found.user) != bool(found.password):
        raise InvalidInput(f"the credentials for {address.root} are a user or a password alone; give both")
    secret = found.token or found.password
    if secret and address.server.startswith("http://") and urlsplit(address.server).hostname not in LOOPBACK:
        raise InvalidInput(f"the credentials for {address.root} could be read on the way; use webdavs://")
    return found


def none(address: Address, given: Mapping[str, Any]) -> None:
    """Refuse credentials for a folder, which needs none."""
    _told(address, given)


def _told(address: Address, given: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    takes = _TAKES[address.kind]
    for name, value in given.items():
        known = _NAMED.get(str(name).lower().replace("_", "").replace("-", ""))
        if known is None or known not in takes:
            raise InvalidInput(
                f"the credentials for {address.root} hold {str(name)!r}, which is of no use there; "
                f"there may be: {', '.join(takes) or 'none'}"
            )
        if value is not None and value != "":
            found[known] = value
    return found


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name, "")
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if not isinstance(value, str):
        raise InvalidInput(f"{name!r} of the credentials is no text; put it in quotes")
    return value.strip()


def _truth(value: Any, name: str) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "yes", "1", "false", "no", "0"):
        return value.strip().lower() in ("true", "yes", "1")
    if not isinstance(value, bool):
        raise InvalidInput(f"{name!r} of the credentials is {value!r}; give true or false")
    return value
