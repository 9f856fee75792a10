"""A server that is asked over HTTP: with patience, with credentials that no message and no other server gets."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from volvox.errors import AccessRefused, InvalidInput, Unavailable, VolvoxError
from volvox.places.addresses import LOOPBACK
from volvox.places.credentials import Login

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 307, 308})
_MOST_REDIRECTS = 5
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a server is waited for, in seconds, and how often it is asked again.

    Attributes:
        connect: Until it takes the connection.
        silence: Until the next bytes of its answer come, or it takes the next of ours.
        retries: How often what failed on the way is asked again.
        pause: Before the first of these; each later pause is twice as long.
    """

    connect: float = 5.0
    silence: float = 30.0
    retries: int = 3
    pause: float = 0.2


class Server:
    """One server."""

    def __init__(self, url: str, address: str, login: Login, waits: Waits | None = None, header: str = "") -> None:
        """Name it; nothing is asked yet.

        Args:
            url: `https://host:port`.
            address: What messages call it.
            login: The credentials.
            waits: How long it is waited for.
            header: The header that a token goes into; empty: `Authorization`, as a bearer token.
        """
        self.url, self.address, self.waits = url, address, waits or Waits()
        self._login, self._header = login, header
        self._kept: httpx.Client | None = None

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Callable[[], Iterator[bytes]] | bytes = b"",
        again: bool = True,
    ) -> httpx.Response:
        """The answer with its body, whatever is not raised here: 2xx, 404, 405, 409, 412 and the like.

        Args:
            method: Of HTTP.
            path: Quoted, with its query.
            headers: Beside those that every request has.
            body: Bytes, or what gives them anew for each try.
            again: Whether it may be asked again when it is not known if it was done.

        Raises:
            AccessRefused: If the credentials are refused.
            Unavailable: If the server does not answer.
        """
        answer = self._answer(method, path, headers or {}, body, again=again, whole=True)
        answer.close()
        return answer

    @contextlib.contextmanager
    def asked(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: Callable[[], Iterator[bytes]] | bytes = b"",
        again: bool = True,
    ) -> Iterator[httpx.Response]:
        """The answer whose body has not been read yet; raises as `ask` does."""
        answer = self._answer(method, path, headers or {}, body, again=again, whole=False)
        try:
            yield answer
        finally:
            answer.close()

    def fetch(self, path: str, target: Path, headers: dict[str, str] | None = None) -> int | None:
        """Write what lies at `path` into a file; return its size, or None if it is not there; raises as `ask` does."""
        for tries_left in reversed(range(self.waits.retries + 1)):
            try:
                with self.asked("GET", path, headers=headers) as answer:
                    if answer.status_code == 404:
                        return None
                    if answer.status_code != 200:
                        raise self.refused(answer)
                    return self._written(answer, target)
            except Unavailable:
                if not tries_left:
                    raise
                self._pause(self.waits.retries - tries_left)
        raise AssertionError

    def refused(self, answer: httpx.Response) -> VolvoxError:
        """The error for an answer that nobody expected; nothing of its body is quoted."""
        status = answer.status_code
        if status in (401, 403):
            return AccessRefused(
                f"the credentials for {self.address} are refused or have expired ({status}); give new ones, which "
                "must be allowed to list, read and write there"
            )
        if status == 507:
            return Unavailable(f"the disk of {self.address} is full (507); free some space there")
        if status in (400, 413, 414, 422, 431):
            return InvalidInput(f"{self.address} cannot hold this file or its name ({status})")
        if status in (405, 501):
            return InvalidInput(
                f"{self.address} does not offer what was asked for ({status}); is it the right address?"
            )
        return Unavailable(f"{self.address} does not answer as it should ({status}); see that it runs")

    # -- inside --------------------------------------------------------------------------------------------------

    def _written(self, answer: httpx.Response, target: Path) -> int:
        import httpx

        size = 0
        with target.open("wb") as stream:
            blocks = answer.iter_raw(_BLOCK)
            while True:
                try:
                    block = next(blocks, None)
                except httpx.HTTPError as error:
                    raise self._broken(error) from None
                if block is None:
                    return size
                size += stream.write(block)

    def _answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: Callable[[], Iterator[bytes]] | bytes,
        *,
        again: bool,
        whole: bool,
    ) -> httpx.Response:
        import httpx

        for number in range(self.waits.retries + 1):
            last = number == self.waits.retries
            try:
                answer = self._sent(method, self.url + path, headers, body)
                if answer.status_code in (401, 403, 507) or (answer.status_code in _AGAIN and (last or not again)):
                    answer.close()
                    raise self.refused(answer)
                if answer.status_code not in _AGAIN:
                    if whole:
                        answer.read()
                    return answer
                answer.close()
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # it was not done
                failed = self._broken(error)
                if last:
                    raise failed from None
            except httpx.HTTPError as error:
                failed = self._broken(error)
                if last or not again:
                    raise failed from None
            self._pause(number)
        raise AssertionError

    def _sent(
        self, method: str, url: str, headers: dict[str, str], body: Callable[[], Iterator[bytes]] | bytes
    ) -> httpx.Response:
        """The answer of the server, or of the one that it sends us to (dCache's doors do); that one gets no secret."""
        import httpx

        client, login = self._client(), self._login
        for _ in range(_MOST_REDIRECTS):
            own = url.startswith(self.url + "/")
            told = {"Accept-Encoding": "identity", "User-Agent": "volvox", **headers}
            if own and login.token:
                told |= {self._header: login.token} if self._header else {"Authorization": f"Bearer {login.token}"}
            request = client.build_request(
                method, url, headers=told, content=body if isinstance(body, bytes) else body()
            )
            auth = (login.user, login.password) if own and login.user else None
            answer = client.send(request, stream=True, auth=auth)
            where = answer.headers.get("location", "")
            if answer.status_code not in _REDIRECTS or not where:
                return answer
            answer.close()
            url = str(httpx.URL(url).join(where))
        raise Unavailable(f"{self.address} sends from one server to another, without an end")

    def _client(self) -> httpx.Client:
        import httpx

        if self._kept is None:
            waits = self.waits
            # Proxies of the environment are meant for the world, not for this machine.
            self._kept = httpx.Client(
                timeout=httpx.Timeout(waits.silence, connect=waits.connect),
                verify=self._login.verify,
                trust_env=urlsplit(self.url).hostname not in LOOPBACK,
            )
        return self._kept

    def _pause(self, number: int) -> None:
        time.sleep(self.waits.pause * 2**number * random.uniform(0.75, 1.25))  # noqa: S311 - so that many part

    def _broken(self, error: Any) -> Unavailable:
        import httpx

        told = "no answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or type(error).__name__
        return Unavailable(f"{self.address} does not answer ({told[:120]}); see that it runs and can be reached")


def blocks_of(source: Path) -> Callable[[], Iterator[bytes]]:
    """A file's bytes as a body that can be sent anew."""

    def blocks() -> Iterator[bytes]:
        with source.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block

    return blocks
