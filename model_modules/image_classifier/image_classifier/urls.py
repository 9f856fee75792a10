"""Pictures by address, fetched so that a caller cannot look into the network that the model stands in.

A name is resolved once, every address it has is checked, and the connection goes to a checked address: a second
look-up cannot lead elsewhere. Each redirect is checked anew. Proxies of the environment are not used, for they would
resolve names themselves.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import ipaddress
import os
import socket
import ssl
import time
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from webargs import ValidationError

MAX_BYTES = 50 * 2**20
MAX_URLS = 100
SECONDS = 20.0
_REDIRECTS = 5
_CHUNK = 2**16
_MOVED = {301, 302, 303, 307, 308}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class _Checked(http.client.HTTPConnection):
    """Connects to an address that was checked, whatever the name says by now."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext | None, seconds: float) -> None:
        super().__init__(host, port, timeout=seconds)
        self._address, self._context = address, context

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def listed(given: Any) -> list[str]:
    """The addresses of a request as a list.

    Raises:
        ValidationError: If there are more than 100.
    """
    found = [given] if isinstance(given, str) else list(given or [])
    if len(found) > MAX_URLS:
        raise _refused(f"{len(found)} addresses are too many; send at most {MAX_URLS} at once.")
    return found


def fetch(url: str, *, limit: int = MAX_BYTES, seconds: float = SECONDS) -> tuple[str, bytes]:
    """File name and content behind an address.

    Args:
        url: http, https, or `data:image/...;base64,...`.
        limit: Bytes that are taken at most.
        seconds: For everything together, redirects included.

    Raises:
        ValidationError: If the address is of another kind, leads to a private network, or does not answer in time with
            a file of allowed size.
    """
    if url.startswith("data:"):
        return "image", _inline(url, limit)
    deadline = time.monotonic() + seconds
    start = url
    for _ in range(_REDIRECTS + 1):
        try:
            answer, content = _get(url, limit, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _refused(f"{_short(url)} cannot be fetched ({error or type(error).__name__}).") from error
        if answer.status not in _MOVED:
            break
        url = urljoin(url, answer.getheader("Location") or "")
    else:
        raise _refused(f"{_short(start)} redirects more than {_REDIRECTS} times.")
    if answer.status != http.client.OK:
        raise _refused(f"{_short(url)} answers {answer.status} {answer.reason}.")
    return PurePosixPath(unquote(urlsplit(url).path)).name or "image", content


def _get(url: str, limit: int, deadline: float) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _refused(f"{_short(url)} is no address that is fetched; send http://, https:// or data:image/...;base64,")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = _public_address(parts.hostname, port)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    connection = _Checked(parts.hostname, port, address, context, _left(deadline))
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "image-classifier", "Accept": "image/*"})
        answer = connection.getresponse()
        if answer.status in _MOVED:
            return answer, b""
        if int(answer.getheader("Content-Length") or 0) > limit:
            raise _too_large(url, limit)
        content = bytearray()
        while True:
            if connection.sock:
                connection.sock.settimeout(_left(deadline))
            chunk = answer.read1(_CHUNK)
            if not chunk:
                return answer, bytes(content)
            content += chunk
            if len(content) > limit:
                raise _too_large(url, limit)
            _left(deadline)
    finally:
        connection.close()


def _public_address(host: str, port: int) -> str:
    """An address of `host`, all of whose addresses are public.

    Raises:
        ValidationError: If one of them is not, unless `VOLVOX_ALLOW_PRIVATE_URLS` is 1.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if os.environ.get("VOLVOX_ALLOW_PRIVATE_URLS") != "1":
        for address in found:
            if not is_public(address):
                raise _refused(f"{host} leads to {address}, which is no public address; only public ones are fetched.")
    return found[0]


def is_public(address: str) -> bool:
    """Whether an IP address is reachable for all: not private, loopback, link-local, shared, multicast or reserved.

    Addresses that carry another one inside (IPv4-mapped, 6to4, Teredo, NAT64) count as that one.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _inline(url: str, limit: int) -> bytes:
    head, _, body = url.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64")):
        raise _refused("An address that starts with data: has to go on image/...;base64,")
    if len(body) > limit * 4 // 3 + 4:
        raise _too_large("the address", limit)
    try:
        return base64.b64decode(unquote(body), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused(f"The address starts with data: but is no base64 ({error}).") from error


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it takes too long")
    return left


def _too_large(url: str, limit: int) -> ValidationError:
    return _refused(f"{_short(url)} is larger than {limit >> 20} MiB; send a smaller picture.")


def _short(url: str) -> str:
    """The address without query and password, which may be secret, as messages show it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"[:200]


def _refused(message: str) -> ValidationError:
    return ValidationError({"urls": [message]})
