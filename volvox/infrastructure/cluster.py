"""A Kubernetes cluster by its REST API: objects as the JSON they are, logs as they come, programs run in containers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import httpx

from volvox.errors import InvalidInput, NotFound, Unavailable

ANSWERS_SECONDS = 10.0
_STDIN, _STDOUT, _STDERR, _STATUS = range(4)  # channels of a program's connection
_PIECE = 1 << 16
_RIGHTS = "; give the account the rights that docs/runtimes.md lists"


class Cluster:
    """One cluster, whose connection is made when it is first asked."""

    def __init__(
        self, config: dict[str, Any] | None = None, context: str | None = None, *, file: str = "", rights: str = _RIGHTS
    ) -> None:
        """None is asked yet.

        Args:
            config: A kubeconfig's content; none: the file's.
            context: Which of its contexts; none: the current one.
            file: A kubeconfig; empty: this pod's service account, else `KUBECONFIG` or `~/.kube/config`.
            rights: What is said beside a refusal.
        """
        self._config, self._context, self._file, self._rights = config, context, file, rights
        self._kept: Any = None
        self._http: httpx.AsyncClient | None = None

    # -- objects -------------------------------------------------------------------------------------------------

    async def get(self, path: str, query: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
        """The object at `path`; raises the client's `ApiException` as all of these do, see `errors`."""
        return json.loads(await self.text(path, query))

    async def find(self, path: str) -> dict[str, Any] | None:
        """The object at `path`, or None."""
        try:
            return await self.get(path)
        except self._refused() as error:
            if error.status == 404:
                return None
            raise

    async def items(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        """The objects at `path` whose labels fit."""
        return (await self.get(path, [("labelSelector", selector)] if selector else ()))["items"]

    async def has_namespace(self, name: str) -> bool:
        """Whether there is such a namespace; True where this account may not ask."""
        try:
            return await self.find(f"/api/v1/namespaces/{name}") is not None
        except self._refused() as error:
            if error.status == 403:
                return True
            raise

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Make an object; None if one of its name is there already."""
        try:
            return json.loads(await self._call("POST", path, (), body))
        except self._refused() as error:
            if error.status == 409 and "AlreadyExists" in (error.body or ""):
                return None
            raise

    async def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Put an object in the place of the one that is there."""
        return json.loads(await self._call("PUT", path, (), body))

    async def merge(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change the stated fields of an object."""
        return json.loads(await self._call("PATCH", path, (), body, kind="application/merge-patch+json"))

    async def delete(self, path: str, propagation: str = "Background", grace_seconds: int | None = None) -> bool:
        """Delete an object; False if there was none."""
        body: dict[str, Any] = {"propagationPolicy": propagation}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._call("DELETE", path, (), body)
        except self._refused() as error:
            if error.status == 404:
                return False
            raise
        return True

    async def text(self, path: str, query: Iterable[tuple[str, str]] = ()) -> str:
        """What is at `path`, as text."""
        return await self._call("GET", path, query, None)

    # -- what goes on --------------------------------------------------------------------------------------------

    async def stream(self, path: str, query: Iterable[tuple[str, str]] = ()) -> AsyncIterator[bytes]:
        """What comes from `path`, piece by piece, until it ends; it may be silent for as long as it likes."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=ANSWERS_SECONDS)
        response = await self._response("GET", path, query, None, timeout=timeout)
        async with response:
            async for piece in response.content.iter_any():
                yield piece

    async def execute(
        self,
        path: str,
        container: str,
        command: Iterable[str],
        *,
        given: AsyncIterator[bytes] | None = None,
        take: Callable[[bytes], None] = lambda _: None,
    ) -> tuple[int | None, str]:
        """Run a program in a container.

        Its standard input does not end before the program does: not every cluster can close it alone.

        Args:
            path: The pod.
            container: Which of its containers.
            command: Program and arguments.
            given: What is written to its standard input.
            take: Gets what it writes to its standard output.

        Returns:
            Its exit code, None if the connection ended before it did, and what it wrote to its standard error.
        """
        import aiohttp

        client = await self._client()
        headers: dict[str, str] = {}
        await client.update_params_for_auth(headers, [], ["BearerToken"])
        query = [("container", container), ("stdout", "true"), ("stderr", "true"), *(("command", w) for w in command)]
        query += [("stdin", "true")] if given is not None else []
        from urllib.parse import urlencode

        url = f"{client.configuration.host}{path}/exec?{urlencode(query)}"
        rest, said, code = client.rest_client, bytearray(), None
        try:
            connected = await asyncio.wait_for(
                rest.pool_manager.ws_connect(
                    url, headers=headers, protocols=("v4.channel.k8s.io",), max_msg_size=0, proxy=rest.proxy,
                    heartbeat=30.0,
                ),
                ANSWERS_SECONDS,
            )  # fmt: skip
        except TimeoutError as error:
            raise Unavailable(f"the Kubernetes cluster did not run {command_name(query)} in a pod in time") from error
        except aiohttp.WSServerHandshakeError as error:
            refused = self._refused()(status=error.status, reason=error.message)
            refused.body = ""
            raise refused from error
        async with connected as socket:
            writing = asyncio.create_task(_write(socket, given)) if given is not None else None
            try:
                async for message in socket:
                    if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                        continue
                    channel, data = message.data[0], message.data[1:]
                    if channel == _STDOUT:
                        take(data)
                    elif channel == _STDERR:
                        said = (said + data)[-4000:]
                    elif channel == _STATUS and data:
                        code = _exit_code(json.loads(data))
            finally:
                if writing is not None:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
        return code, said.decode(errors="replace").strip()

    async def http(self) -> tuple[str, httpx.AsyncClient]:
        """The API server's address, and a client that it answers, for what it passes on to pods; closed with this."""
        client = await self._client()
        told = client.configuration
        if self._http is None:
            context = ssl.create_default_context(cafile=told.ssl_ca_cert)
            if told.cert_file:
                context.load_cert_chain(told.cert_file, told.key_file)
            if not told.verify_ssl:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

            async def named(request: httpx.Request) -> None:
                headers: dict[str, str] = {}
                await client.update_params_for_auth(headers, [], ["BearerToken"])
                request.headers.update(headers)

            self._http = httpx.AsyncClient(
                verify=context, trust_env=False, event_hooks={"request": [named]},
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            )  # fmt: skip
        return told.host, self._http

    async def close(self) -> None:
        """Give back the connection."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        if self._kept is not None:
            await self._kept.close()
            self._kept = None

    @contextlib.asynccontextmanager
    async def errors(self, doing: str, where: str) -> AsyncIterator[None]:
        """The client's errors as ours.

        Raises:
            InvalidInput: If the cluster says that what it was given is wrong.
            NotFound: If there is no such object or namespace.
            Unavailable: If it does not answer, or refuses.
        """
        try:
            import aiohttp
            from kubernetes_asyncio.config import ConfigException
        except ModuleNotFoundError as error:
            raise Unavailable(f"no client of Kubernetes is installed ({error}): pip install 'volvox[cycle]'") from error
        try:
            yield
        except self._refused() as error:
            said = what_it_said(error)
            told = f"the Kubernetes cluster refused to {doing} in {where}: {said}"
            if error.status == 404:
                raise NotFound(told) from error
            if error.status in (400, 422):
                raise InvalidInput(told) from error
            quota = "quota" in said
            raise Unavailable(told + (self._rights if error.status in (401, 403) and not quota else "")) from error
        except ConfigException as error:
            raise Unavailable(f"no Kubernetes cluster is known here ({error}); set KUBECONFIG") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"the Kubernetes cluster did not {doing}: {reason}") from error

    # -- inside --------------------------------------------------------------------------------------------------

    def _refused(self) -> Any:
        from kubernetes_asyncio.client.exceptions import ApiException

        return ApiException

    async def _call(self, method: str, path: str, query: Any, body: Any, *, kind: str = "application/json") -> str:
        response = await self._response(method, path, query, body, timeout=ANSWERS_SECONDS, kind=kind)
        return (await response.read()).decode(errors="replace")

    async def _response(
        self, method: str, path: str, query: Any, body: Any, *, timeout: Any, kind: str = "application/json"
    ) -> Any:
        client = await self._client()
        # The client's own models take far longer to fill than JSON takes to parse, so it is not asked for them.
        response = await client.call_api(
            path, method, query_params=[*query], body=body,
            header_params={"Accept": "application/json, */*", "Content-Type": kind},
            auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True,
            _request_timeout=timeout,
        )  # fmt: skip
        if not 200 <= response.status < 300:
            error = self._refused()(status=response.status, reason=response.reason)
            error.body = (await response.read()).decode(errors="replace")
            raise error
        return response

    async def _client(self) -> Any:
        if self._kept is None:
            from kubernetes_asyncio import config
            from kubernetes_asyncio.client import ApiClient

            if self._config is not None:
                self._kept = await config.new_client_from_config_dict(self._config, context=self._context)
            elif self._file:
                file = str(Path(self._file).expanduser())
                self._kept = await config.new_client_from_config(config_file=file, context=self._context)
            else:
                try:
                    config.load_incluster_config()
                    self._kept = ApiClient()
                except config.ConfigException:
                    # The library reads KUBECONFIG when it is imported; it may have changed since.
                    file = os.environ.get("KUBECONFIG")
                    self._kept = await config.new_client_from_config(config_file=file, context=self._context)
        return self._kept


def command_name(query: Iterable[tuple[str, str]]) -> str:
    """The program of such a query."""
    return next((word for key, word in query if key == "command"), "a program")


async def _write(socket: Any, given: AsyncIterator[bytes]) -> None:
    async for piece in given:
        for at in range(0, len(piece), _PIECE):
            await socket.send_bytes(bytes([_STDIN]) + piece[at : at + _PIECE])


def _exit_code(told: dict[str, Any]) -> int | None:
    if told.get("status") == "Success":
        return 0
    for cause in (told.get("details") or {}).get("causes") or ():
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return None


def what_it_said(error: Any) -> str:
    """What the cluster said in a refusal."""
    try:
        return json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
