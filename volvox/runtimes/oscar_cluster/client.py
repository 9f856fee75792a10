"""The routes of an OSCAR cluster, with patience; what it refuses is a sentence that holds no credentials."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from volvox.errors import AccessRefused, InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.runtimes.oscar_cluster.access import Access, Cluster

_ANSWERS_SECONDS = 30.0
_WRITES_SECONDS = 120.0  # a service that is made has the cluster's store restart
_BODY_SECONDS = 300.0
_CONNECT_SECONDS = 5.0
_CONFIG_SECONDS = 300.0
_TRIES = 4
_FIRST_PAUSE_SECONDS = 0.2
_AGAIN = frozenset({429, 500, 502, 503, 504})
_SAID = 300
_PIECE = 1 << 18

log = logging.getLogger(__name__)


class Refusal(InvalidInput):
    """The cluster does not do what it was asked."""


class Lost(Unavailable):
    """It is not known whether the cluster did what it was asked: its answer did not come."""


class OscarCluster:
    """One cluster; nothing is asked before something is wanted of it."""

    def __init__(self, cluster: Cluster, read: Callable[[], Access] | None = None, *, pause: float = 0.0) -> None:
        """Name it.

        Args:
            cluster: Which one it is.
            read: Gives how it is asked, and is asked again when the cluster refuses that; none: as `cluster` says.
            pause: Seconds before something is tried a second time; each later pause is twice as long. 0: as usual.
        """
        self.cluster = cluster
        self._read = read or cluster.access
        self._pause = pause or _FIRST_PAUSE_SECONDS
        self._access: Access | None = None
        self._http: httpx.AsyncClient | None = None
        self._plain: httpx.AsyncClient | None = None
        self._config: tuple[float, dict[str, Any]] | None = None

    @property
    def called(self) -> str:
        """What people call it."""
        return self.cluster.called

    async def access(self) -> Access:
        """How it is asked now."""
        if self._access is None:
            self._access = await asyncio.to_thread(self._read)
        return self._access

    async def close(self) -> None:
        """Let go of its connections."""
        for http in (self._http, self._plain):
            if http is not None:
                await http.aclose()

    # -- routes ----------------------------------------------------------------------------------------------------

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """What a route answers, as JSON.

        Raises:
            NotFound: If there is no such thing.
            AccessRefused: If the credentials are refused, or do not suffice.
            Unavailable: If it does not answer, or not with JSON.
        """
        answer = await self.ask("GET", path, query=query)
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(
                f"{self.called} answers {path} with what is no JSON ({self._said(answer)}); is its endpoint OSCAR's?"
            ) from error

    async def config(self, *, now: bool = False) -> dict[str, Any]:
        """What the cluster says of itself to this user; `now`: not what it said some minutes ago."""
        if now or self._config is None or asyncio.get_running_loop().time() - self._config[0] > _CONFIG_SECONDS:
            told = await self.get("/system/config")
            inner = told.get("config")  # where older versions have none, everything stands beside it
            found = {**(inner if isinstance(inner, dict) else {}), **told}
            self._config = asyncio.get_running_loop().time(), found
        return self._config[1]

    async def find(self, path: str) -> Any | None:
        """As `get`; None if there is no such thing."""
        try:
            return await self.get(path)
        except NotFound:
            return None

    async def write(self, method: str, path: str, body: Any = None) -> bool:
        """Make, change or delete something; False if it is not there. All are such that a second time does no harm.

        Raises:
            Refusal: If the cluster does not want that.
            AccessRefused, Unavailable: As for `get`.
        """
        try:
            await self.ask(method, path, body=body, seconds=_WRITES_SECONDS)
        except NotFound:
            if method != "DELETE":
                raise
            return False
        return True

    async def create(self, path: str, body: Any) -> bool:
        """Make something; False if one of its name is there, perhaps by a request of ours whose answer was lost.

        Raises:
            Refusal, AccessRefused, Unavailable: As for `write`.
        """
        for tries_left in reversed(range(_TRIES)):
            try:
                await self.ask("POST", path, body=body, seconds=_WRITES_SECONDS)
                return True
            except Refusal as error:
                if "already exists" in str(error):
                    return False
                raise
            except Unavailable:
                if not tries_left:
                    raise
                await self._paused(tries_left)
        raise AssertionError

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: bytes | None = None,
        bearer: str = "",
        seconds: float = _ANSWERS_SECONDS,
    ) -> httpx.Response:
        """The answer of a route if it is a good one. What only reads, or may be said twice, is asked again by itself.

        Args:
            method: Of HTTP.
            path: With `/` first, quoted.
            query: Its parameters.
            body: Sent as JSON.
            content: Sent as it is instead.
            bearer: A service's token, instead of the credentials.
            seconds: How long the answer may take.

        Raises:
            As `get`, `write`; Lost for what may not be said twice, if nobody knows whether it was done.
        """
        told: dict[str, Any] = {
            "params": query,
            "json": body,
            "timeout": httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
        }
        if content is not None:  # as OSCAR's own client says, whatever it is
            told |= {"content": content, "headers": {"Content-Type": "application/json"}}
        again, renewed, tries_left = method in ("GET", "PUT", "DELETE"), False, _TRIES
        while True:
            tries_left -= 1
            access = await self.access()
            try:
                answer = await self._asked(access, bearer, method, access.endpoint + path, told)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:  # nothing was sent
                if not tries_left:
                    raise Unavailable(f"{self.called} does not answer at {access.endpoint} ({_how(error)})") from error
            except httpx.TransportError as error:
                if not again:
                    raise Lost(f"{self.called} did not say whether it did {method} {path} ({_how(error)})") from error
                if not tries_left:
                    raise Unavailable(f"{self.called} did not answer {method} {path} ({_how(error)})") from error
            else:
                if answer.status_code == 401 and not bearer and not renewed:
                    renewed, self._access = True, None  # what it is asked with may have been renewed meanwhile
                    tries_left += 1
                    continue
                if answer.status_code not in _AGAIN or not again or not tries_left:
                    return self._good(access, method, path, answer)
            await self._paused(tries_left)

    # -- objects by presigned addresses ------------------------------------------------------------------------------

    async def presigned(self, bucket: str, key: str, operation: str, seconds: int = 3600) -> dict[str, Any]:
        """An address by which an object of a bucket is put (`upload`) or fetched (`download`) for so long."""
        body = {"object_key": key, "operation": operation, "expires_in": seconds}
        path = f"/system/buckets/{quote(bucket)}/presign"
        for tries_left in reversed(range(_TRIES)):  # it makes nothing, so it may be asked again
            try:
                return (await self.ask("POST", path, body=body)).json()
            except Unavailable:
                if not tries_left:
                    raise
                await self._paused(tries_left)
            except ValueError as error:
                raise Unavailable(f"{self.called} gives no address for {bucket}/{key}") from error
        raise AssertionError

    async def put(self, bucket: str, key: str, size: int, pieces: Callable[[], AsyncIterator[bytes]]) -> None:
        """Put an object; `pieces` gives its bytes anew for each try.

        Raises:
            AccessRefused, NotFound, Unavailable: As for `get`.
        """
        told = await self.presigned(bucket, key, "upload")
        headers = {**_headers(told), "Content-Length": str(size)}
        for tries_left in reversed(range(_TRIES)):
            try:
                answer = await (await self._of_objects()).request(
                    told.get("method") or "PUT", told["url"], content=pieces(), headers=headers
                )
            except httpx.TransportError as error:
                if not tries_left:
                    raise Unavailable(f"{_host(told)} did not take {bucket}/{key} ({_how(error)})") from error
            else:
                if answer.status_code < 300:
                    return
                if answer.status_code not in _AGAIN or not tries_left:
                    raise self._of_object(told, bucket, key, answer.status_code)
            await self._paused(tries_left)

    async def fetch(self, bucket: str, key: str, target: Path, take: Callable[[int], None] = lambda _: None) -> bool:
        """Fetch an object into a file; False if it is not there, or empty. `take` is told of each piece's size.

        Raises:
            AccessRefused, Unavailable: As for `get`.
        """
        try:
            told = await self.presigned(bucket, key, "download")
        except NotFound:
            return False
        for tries_left in reversed(range(_TRIES)):
            try:
                http = await self._of_objects()
                async with http.stream("GET", told["url"], headers=_headers(told)) as answer:
                    if answer.status_code == 404:
                        return False
                    if answer.status_code == 200:
                        with target.open("wb") as stream:
                            async for piece in answer.aiter_bytes(_PIECE):
                                take(len(piece))
                                stream.write(piece)
                        return target.stat().st_size > 0
                    if answer.status_code not in _AGAIN or not tries_left:
                        raise self._of_object(told, bucket, key, answer.status_code)
            except httpx.TransportError as error:
                if not tries_left:
                    raise Unavailable(f"{_host(told)} did not give {bucket}/{key} ({_how(error)})") from error
            await self._paused(tries_left)
        raise AssertionError

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _asked(
        self, access: Access, bearer: str, method: str, url: str, told: Mapping[str, Any]
    ) -> httpx.Response:
        if self._http is None:
            self._http = _client(access.verify, _ANSWERS_SECONDS)
        token = bearer or await asyncio.to_thread(access.bearer)
        headers = {**told.get("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        auth = None if token else httpx.BasicAuth(access.user, access.password)
        return await self._http.request(method, url, **{**told, "headers": headers}, auth=auth)

    def _good(self, access: Access, method: str, path: str, answer: httpx.Response) -> httpx.Response:
        status, said = answer.status_code, self._said(answer)
        if status < 300:
            return answer
        raise self._error(access, f"{method} {path}", status, said, answer.headers.get("location", ""))

    def _error(self, access: Access, what: str, status: int, said: str, location: str) -> VolvoxError:
        who = f"user {access.user!r}" if access.user else "the token"
        told = f": {said}" if said else ""
        if status < 400:
            at = urlsplit(location)
            where = f"{at.scheme}://{at.netloc}" if at.netloc else "elsewhere"
            return Refusal(
                f"{self.called} leads {what} from {access.endpoint} to {where} (status {status}), "
                "where credentials are not sent; correct its endpoint"
            )
        if status == 401:
            renew = "" if access.user else "; it has expired, or was never good: renew it"
            return AccessRefused(f"{self.called} does not know {who} (401 for {what}{told}){renew}")
        if status == 403:
            return AccessRefused(f"{self.called} does not let {who} do that (403 for {what}{told})")
        if status == 404:
            return NotFound(f"{self.called} has no {what.partition(' ')[2]}{told}")
        if status == 409:
            return Refusal(f"something of that name is in the way in {self.called} (409 for {what}{told})")
        if status < 500 and status not in _AGAIN:
            return Refusal(f"{self.called} refuses {what} ({status}{told})")
        return Unavailable(f"{self.called} fails at {what} ({status}{told})")

    def _said(self, answer: httpx.Response) -> str:
        """The beginning of what it says, without what we sent it."""
        said = " ".join(answer.text[: 4 * _SAID].split())[:_SAID]
        hidden = [self._access.password, self._access.token] if self._access else []
        for one in filter(None, [*hidden, answer.request.headers.get("Authorization", "").partition(" ")[2]]):
            said = said.replace(one, "...")
        return said

    def _of_object(self, told: Mapping[str, Any], bucket: str, key: str, status: int) -> VolvoxError:
        what = f"{bucket}/{key} (status {status})"
        if status == 404:
            return NotFound(f"{_host(told)} has no {what}")
        if status in (401, 403):
            return AccessRefused(f"{_host(told)} does not take the address that {self.called} gave for {what}")
        return Unavailable(f"{_host(told)} fails at {what}")

    async def _of_objects(self) -> httpx.AsyncClient:
        """For addresses that carry their own permission: no credentials go there."""
        if self._plain is None:
            self._plain = _client((await self.access()).verify, _BODY_SECONDS)
        return self._plain

    async def _paused(self, tries_left: int) -> None:
        seconds = self._pause * 2 ** (_TRIES - 1 - tries_left)
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - so that many do not come at once


def _client(verify: bool, seconds: float) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    timeout = httpx.Timeout(seconds, connect=_CONNECT_SECONDS)
    return httpx.AsyncClient(verify=verify, timeout=timeout, limits=limits, follow_redirects=False)


def _headers(told: Mapping[str, Any]) -> dict[str, str]:
    """Those that an address was signed with."""
    found: dict[str, str] = {}
    given = told.get("headers")
    for name, value in given.items() if isinstance(given, dict) else ():
        if str(name).lower() not in ("host", "content-length"):
            found[str(name)] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def _host(told: Mapping[str, Any]) -> str:
    parts = urlsplit(str(told.get("url", "")))
    return f"{parts.scheme}://{parts.netloc}"


def _how(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error)[:200] or type(error).__name__
