"""Archives on a web server."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from volvox.data.download import Facts
from volvox.errors import InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 10.0
_MOST_REDIRECTS = 5


class WebObject:
    """What a web server gives at an address: `https://`, or `http://` of this machine."""

    def __init__(self, address: str) -> None:
        """Name the object; nothing is asked yet.

        Raises:
            InvalidInput: If the address is not one that may be fetched.
        """
        self.address = address
        self.shown = shown(address)
        _allow(address)

    def facts(self) -> Facts:
        """What the server says of it, from the head of an answer whose body is not read.

        Not by HEAD: addresses that are signed for GET refuse it.
        """
        with self._answer({}) as answer:
            return _facts(answer)

    @contextlib.contextmanager
    def reading(self, start: int, facts: Facts) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Its bytes from `start` on if it is still what `facts` says and the server can; else from 0."""
        headers = {"Range": f"bytes={start}-", "If-Range": facts.validator} if start else {}
        with self._answer(headers) as answer:
            resumed = answer.status_code == 206 and answer.headers.get("content-range", "").startswith(
                f"bytes {start}-"
            )
            if not resumed and _facts(answer) != facts:
                raise Unavailable(f"{self.shown} changed while it was fetched; run the same command again")
            yield (start if resumed else 0), self._blocks(answer)

    def _blocks(self, answer: httpx.Response) -> Iterator[bytes]:
        import httpx

        try:
            yield from answer.iter_raw(1 << 18)
        except httpx.TransportError as error:
            raise Unavailable(f"{self.shown} broke off ({error}); try again") from error

    @contextlib.contextmanager
    def _answer(self, headers: dict[str, str]) -> Iterator[httpx.Response]:
        import httpx

        timeout = httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
        headers = {"Accept-Encoding": "identity", "User-Agent": "volvox", **headers}
        address = self.address
        with contextlib.ExitStack() as stack:
            # Proxies of the environment are meant for the world, not for this machine.
            client = stack.enter_context(httpx.Client(timeout=timeout, trust_env=not _loopback(address)))
            for _ in range(_MOST_REDIRECTS):
                try:
                    answer = stack.enter_context(client.stream("GET", address, headers=headers))
                except (httpx.TransportError, httpx.InvalidURL) as error:
                    raise Unavailable(
                        f"{self.shown} does not answer ({error}); check the address and the network"
                    ) from error
                if answer.next_request is None:
                    self._check(answer)
                    yield answer
                    return
                following = str(answer.next_request.url)
                _allow(following)
                if urlsplit(address).scheme == "https" and urlsplit(following).scheme != "https":
                    raise InvalidInput(
                        f"{self.shown} leads to {shown(following)}, which is not https; it is not followed"
                    )
                address = following
        raise InvalidInput(f"{self.shown} leads on and on: more than {_MOST_REDIRECTS} redirects")

    def _check(self, answer: httpx.Response) -> None:
        code = answer.status_code
        if code in (200, 206):
            return
        if code in (404, 410):
            raise NotFound(f"{self.shown} is not there (the server says {code}); check the address")
        if code == 429 or code >= 500:
            raise Unavailable(f"{self.shown} cannot be fetched now (the server says {code}); try again later")
        raise InvalidInput(
            f"{self.shown} cannot be fetched (the server says {code}); check the address and the permission"
        )


def shown(address: str) -> str:
    """An address without what may be secret: user, password, query."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _facts(answer: httpx.Response) -> Facts:
    headers = answer.headers
    size = headers.get("content-length")
    etag = headers.get("etag", "")
    validator = etag if etag and not etag.startswith("W/") else headers.get("last-modified", "")
    return Facts(int(size) if size and size.isdecimal() else None, validator)


def _allow(address: str) -> None:
    parts = urlsplit(address)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise InvalidInput(f"{shown(address)} is not a web address; give https://host/path")
    if parts.scheme == "http" and not _loopback(address):
        raise InvalidInput(
            f"{shown(address)} is not encrypted; give its https:// address (http:// is for this machine only)"
        )


def _loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
