"""Signatures of requests to Amazon's services (Signature Version 4), and whose keys they are made with.

The standard library only: this runs in images that bring no client of Amazon's. What is signed here is compared with
what botocore signs in a test.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Mapping
from urllib.parse import quote, urlsplit

UNSIGNED = "UNSIGNED-PAYLOAD"
_CONTAINER_HOST = "http://169.254.170.2"  # where ECS and Batch give a task the keys of its role
_SOON_SECONDS = 300.0


@dataclass(frozen=True)
class Keys:
    """What requests are signed with.

    Attributes:
        key: The access key's id.
        secret: The secret.
        token: The session token of keys that expire, or empty.
        expires: Seconds since the epoch; 0: never.
    """

    key: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    expires: float = 0.0


class NoKeys(Exception):
    """There are no keys to sign with."""


def found_keys() -> Keys:
    """The keys of the environment, else those of the role of this task.

    Raises:
        NoKeys: If there are neither.
    """
    said = os.environ.get
    if said("AWS_ACCESS_KEY_ID") and said("AWS_SECRET_ACCESS_KEY"):
        return Keys(
            os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], said("AWS_SESSION_TOKEN") or ""
        )
    address = said("AWS_CONTAINER_CREDENTIALS_FULL_URI") or ""
    if relative := said("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        address = _CONTAINER_HOST + relative
    if not address:
        raise NoKeys("no keys of AWS are in the environment, and this container has no role")
    headers = {"Authorization": said("AWS_CONTAINER_AUTHORIZATION_TOKEN") or ""}
    asked = urllib.request.Request(address, headers={name: text for name, text in headers.items() if text})  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=5.0) as answer:  # noqa: S310 - the address that ECS itself told
            told = json.load(answer)
    except (OSError, ValueError) as error:
        raise NoKeys(f"the keys of this container's role cannot be had ({error})") from None
    when = datetime.strptime(told["Expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return Keys(told["AccessKeyId"], told["SecretAccessKey"], told.get("Token", ""), when.timestamp())


class KeyRing:
    """The keys of this process; asked for again before they expire."""

    def __init__(self, keys: Keys | None = None) -> None:
        """`keys`: these; none: `found_keys`."""
        self._keys = keys

    def keys(self) -> Keys:
        """Keys that count for some minutes more."""
        if self._keys is None or (self._keys.expires and self._keys.expires < time.time() + _SOON_SECONDS):
            self._keys = found_keys()
        return self._keys


def signed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    keys: Keys,
    region: str,
    *,
    payload: str = UNSIGNED,
    service: str = "s3",
    now: datetime | None = None,
) -> dict[str, str]:
    """The headers of a request, its signature among them.

    Args:
        method: In capitals.
        url: Its path and query quoted as they are sent.
        headers: What else is sent; all of it is signed.
        keys: Whose request it is.
        region: Of the service.
        payload: SHA-256 of the body in hexadecimal digits.
        service: Its name.
        now: When it is made.
    """
    parts = urlsplit(url)
    stamp = (now or datetime.now(timezone.utc)).strftime("%Y%m%dT%H%M%SZ")
    told = {name.lower(): " ".join(text.split()) for name, text in headers.items()}
    told.update({"host": parts.netloc, "x-amz-date": stamp, "x-amz-content-sha256": payload})
    if keys.token:
        told["x-amz-security-token"] = keys.token
    names = ";".join(sorted(told))
    query = "&".join(sorted(one if "=" in one else one + "=" for one in parts.query.split("&") if one))
    lines = [method, parts.path or "/", query, *(f"{name}:{told[name]}" for name in sorted(told)), "", names, payload]
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    secret = f"AWS4{keys.secret}".encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    told["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return told


def quoted(key: str) -> str:
    """A key as it stands in a path."""
    return quote(key, safe="/-_.~")
