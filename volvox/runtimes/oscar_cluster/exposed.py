"""The exposed service of one version of a model: made, started, stopped, asked over HTTP, told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.runtimes import asking
from volvox.runtimes.oscar_cluster import services
from volvox.runtimes.oscar_cluster.client import OscarCluster
from volvox.runtimes.servers import Server

_LOOK_SECONDS = 0.3
_READY_SECONDS = 5.0
_STOPS_SECONDS = 30.0
_READY = "/health/ready"
_NOBODY = 503
_BROKEN = 502  # what stands between says so when an instance ended beneath a call


class Exposed:
    """One service; its instances are the cluster's, and are asked at one address.

    Attributes:
        name: Of the service.
        body: What it should be, made by `services.of_model`.
    """

    def __init__(self, cluster: OscarCluster, body: dict[str, Any], start_seconds: float) -> None:
        """Nothing is made yet."""
        self.name, self.body = str(body["name"]), body
        self._cluster, self._seconds = cluster, start_seconds
        self._path = services.path_of(self.name)
        self._http: httpx.AsyncClient | None = None
        self.token = ""
        self._started = 0
        self._turn = asyncio.Lock()

    async def http(self) -> httpx.AsyncClient:
        """The client that its instances are asked with."""
        if self._http is None:
            access = await self._cluster.access()
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self._http = httpx.AsyncClient(
                verify=access.verify, auth=_ServiceAuth(self), limits=limits, event_hooks={"response": [_whole]},
                timeout=httpx.Timeout(asking.DEADLINE_SECONDS, connect=10.0),
            )  # fmt: skip
        return self._http

    async def close(self) -> None:
        """Let go of its connections."""
        if self._http is not None:
            await self._http.aclose()

    async def start(self) -> Server:
        """Have it there and running; wait until an instance answers.

        Raises:
            ModuleFailed: If none does.
            InvalidInput, Unavailable: If the cluster does not make it, or does not answer.
        """
        self._started += 1
        async with self._turn:
            await self.agree()
            if (await self.deployment()).get("state") == "stopped":
                await self._cluster.ask("POST", f"{self._path}/start")
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._seconds
        state: dict[str, Any] = {}
        while clock() < deadline:
            state = await self.deployment()
            if state.get("state") == "failed":
                raise ModuleFailed(f"the service {self.name} does not start: {await self._why(state)}")
            if await self._ready():
                return await self.server()
            await asyncio.sleep(_LOOK_SECONDS)
        why = await self._why(state)
        raise ModuleFailed(f"the service {self.name} was not ready within {self._seconds:g} s (start_seconds): {why}")

    async def server(self) -> Server:
        """Where its instances are asked."""
        return Server(
            f"{self.name}#{self._started}", f"{(await self._cluster.access()).endpoint}{self._path}/exposed", self.name
        )

    async def agree(self) -> str:
        """Make it, or make it what it should be; what differed, or empty. Nothing is written where nothing does."""
        there = await self._cluster.find(self._path)
        if there is None:
            if await self._cluster.create(services.SERVICES, self.body):
                self.token = ""
                return ""
            there = await self._cluster.get(self._path)
        if found := services.differs(self.body, there):
            await self._cluster.write("PUT", services.SERVICES, self.body)
            self.token = ""
        return found

    async def stop(self, server: Server) -> None:
        """End its instances, wait until they are gone, and keep the service; nothing if it was started since then."""
        async with self._turn:
            if server.id == f"{self.name}#{self._started}":
                await self._stopped()

    async def _stopped(self) -> None:
        with contextlib.suppress(NotFound):
            await self._cluster.ask("POST", f"{self._path}/stop")
            clock = asyncio.get_running_loop().time
            deadline = clock() + _STOPS_SECONDS
            while (await self.deployment()).get("active_instances") and clock() < deadline:
                await asyncio.sleep(_LOOK_SECONDS)

    async def delete(self) -> None:
        """Remove it; it has no place of its own, so no data goes with it."""
        await self._cluster.write("DELETE", self._path)
        await self.close()
        self._http = None

    async def deployment(self) -> dict[str, Any]:
        """What the cluster says of its instances; empty if there is no such service."""
        try:
            told = await self._cluster.find(f"{self._path}/deployment")
        except InvalidInput:  # what is not there is refused too
            if await self._cluster.find(self._path) is not None:
                raise
            told = None
        return told if isinstance(told, dict) else {}

    async def said(self) -> str:
        """What its instances have printed, as far as the cluster tells."""
        with contextlib.suppress(VolvoxError):
            told = await self._cluster.find(f"{self._path}/deployment/logs")
            entries = told.get("entries") if isinstance(told, dict) else None
            return "".join(f"{_line(one)}\n" for one in entries or ())
        return ""

    async def new_token(self) -> str:
        """The service's token, which another one takes the place of whenever it is changed."""
        self.token = str((await self._cluster.get(self._path)).get("token") or "")
        return self.token

    async def ready_again(self) -> bool:
        """Wait until an instance answers again; False if none does, or is to."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._seconds
        while clock() < deadline:
            if await self._ready():
                return True
            if (await self.deployment()).get("state", "stopped") in ("stopped", "failed", "unavailable"):
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    async def _ready(self) -> bool:
        http, url = await self.http(), (await self.server()).url
        with contextlib.suppress(httpx.HTTPError, VolvoxError):
            return (await http.get(f"{url}{_READY}", timeout=_READY_SECONDS)).status_code == 200
        return False

    async def _why(self, state: dict[str, Any]) -> str:
        reason = str(state.get("reason") or state.get("state") or "the cluster says nothing")
        said = (await self.said()).strip()[-1500:]
        return f"{reason}; it said: {said}" if said else reason


class _ServiceAuth(httpx.Auth):
    """Basic as the service; its token is read again when it is refused, and instances that start are waited for."""

    def __init__(self, service: Exposed) -> None:
        self._service = service

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        await request.aread()  # it may be sent again
        try:
            used = self._service.token or await self._service.new_token()
            _sign(request, self._service.name, used)
            response = yield request
            if response.status_code in (401, 403) and (fresh := await self._service.new_token()) != used:
                _sign(request, self._service.name, fresh)
                response = yield request
            waits = request.url.path.endswith("/predict/")
            while waits and await _nobody(response) and await self._service.ready_again():
                _sign(request, self._service.name, self._service.token)
                response = yield request
            if response.status_code == httpx.codes.NOT_FOUND and not await self._service.deployment():
                raise httpx.ConnectError(f"there is no service {self._service.name} any more")
        except (Unavailable, NotFound) as error:
            raise httpx.ConnectError(str(error)) from error


def _sign(request: httpx.Request, user: str, password: str) -> None:
    signed = httpx.Request("GET", request.url)
    next(httpx.BasicAuth(user, password).auth_flow(signed))
    request.headers["Authorization"] = signed.headers["Authorization"]


async def _nobody(answer: httpx.Response) -> bool:
    """Whether no instance took it, as what stands before them says; what our server says is text with its status."""
    return answer.status_code == _NOBODY and not (await answer.aread()).startswith(f"{_NOBODY}:".encode())


async def _whole(answer: httpx.Response) -> None:
    if answer.status_code == _BROKEN:
        raise httpx.RemoteProtocolError("its instance ended before it had answered")


def _line(entry: Any) -> str:
    return (
        str(entry.get("message") or entry.get("raw") or entry.get("line") or "")
        if isinstance(entry, dict)
        else str(entry)
    )
