"""The nodes of one training: they meet before it begins, hear from each other while it runs, and end together.

Node 0 listens; the others connect. Each second each side says that it is there; who has not been heard of for six is
taken for gone. Whoever fails tells node 0, which has all others end, asks what they saw, and tells all of them which
failure was the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from volvox.distributed import channel as channels
from volvox.distributed.channel import Channel, Refused
from volvox.distributed.failures import Failure, first
from volvox.errors import InvalidInput, Unavailable

_BEAT_SECONDS = 1.0
_SILENT_SECONDS = 6.0
_VERDICT_SECONDS = 6.0
_RETRY_SECONDS = 0.5
_NOTE_SECONDS = 15.0
_STRANGE = (ValueError, TypeError, KeyError)  # a message that no program of ours has sent
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Group:
    """What the nodes have in common, and which of them this one is.

    Attributes:
        nodes: How many there are.
        node: Number of this one, from 0.
        processes: How many processes each of them starts.
        host: Where the others reach node 0.
        port: Where node 0 listens.
        master_port: Where the first process will listen for the others; 0: any port that is free.
        token: The secret that they share.
        wait_seconds: How long they wait for each other.
    """

    nodes: int = 1
    node: int = 0
    processes: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    master_port: int = 0
    token: str = ""
    wait_seconds: float = 300.0


class Alone:
    """The only node."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.trouble = asyncio.Event()

    async def meet(self) -> int:
        """Wait until all nodes are there; the port of the first process.

        Raises:
            Unavailable: If they are not there in time.
            InvalidInput: If one is refused.
        """
        return self.group.master_port or _free_port()

    async def done(self) -> Failure | None:
        """All processes of this node have ended well: wait for those of the others; a failure of theirs."""
        return None

    async def settle(self, failures: list[Failure]) -> Failure:
        """The processes of this node have ended, these by themselves: the failure that was the first of all."""
        return first(failures)

    async def close(self) -> None:
        """End all connections."""


class First(Alone):
    """Node 0 of several."""

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._channels: dict[int, Channel] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: list[Failure] = []
        self._done: set[int] = set()
        self._ended: set[int] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._met = False

    async def meet(self) -> int:
        group = self.group
        host = group.host if group.host in LOOPBACK else None
        try:
            self._server = await asyncio.start_server(self._accept, host, group.port)
        except OSError as error:
            raise Unavailable(f"port {group.port} cannot be listened on ({error.strerror}); give another") from error
        _note(f"node 0 waits for {group.nodes - 1} more at port {group.port}")
        try:
            async with asyncio.timeout(group.wait_seconds), self._changed:
                await self._changed.wait_for(lambda: len(self._channels) == group.nodes - 1)
        except TimeoutError:
            missing = ", ".join(str(node) for node in range(1, group.nodes) if node not in self._channels)
            message = f"waited {group.wait_seconds:g} s for node {missing} of {group.nodes}, which did not come"
            await self._verdict(Failure(f"gave up: {message}", 0))
            raise Unavailable(f"{message}; see whether it was started and reaches this one") from None
        self._met = True
        port = group.master_port or _free_port()
        self._tell({"start": port})
        self._task(self._beat())
        return port

    async def done(self) -> Failure | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.trouble.is_set() or len(self._done) == self.group.nodes - 1)
        if self.trouble.is_set():
            return await self.settle([])
        await self._verdict(None)
        return None

    async def settle(self, failures: list[Failure]) -> Failure:
        self._failures += failures
        self._tell({"end": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_VERDICT_SECONDS), self._changed:
                await self._changed.wait_for(lambda: len(self._ended) == self.group.nodes - 1)
        found = first(self._failures)
        await self._verdict(found)
        return found

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for channel in self._channels.values():
            await channel.close()

    def _tell(self, message: dict[str, Any]) -> None:
        for channel in self._channels.values():
            channel.send(message)

    async def _verdict(self, failure: Failure | None) -> None:
        """Tell all how it ended, and have that sent."""
        self._tell({"verdict": failure.to_json() if failure else None})
        for channel in self._channels.values():
            await channel.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            channel, told = await channels.accept(reader, writer, self.group.token)
        except (ConnectionError, Refused, OSError) as error:
            if isinstance(error, Refused):
                _note(f"refused {_address(writer)}: {error}")
            await channels.close(writer)
            return
        if reason := self._unfit(told):
            _note(f"refused node {told.get('node')} at {_address(writer)}: {reason}")
            channel.send({"refused": reason})
            await channel.close()
            return
        node = told["node"]
        async with self._changed:
            self._channels[node] = channel
            self._changed.notify_all()
        _note(f"node {node} is here ({len(self._channels) + 1} of {self.group.nodes})")
        self._task(self._listen(node, channel))

    def _unfit(self, told: dict[str, Any]) -> str:
        node, group = told.get("node"), self.group
        if (told.get("nodes"), told.get("processes")) != (group.nodes, group.processes):
            return (
                f"it was started for {told.get('nodes')} nodes of {told.get('processes')} processes, "
                f"node 0 for {group.nodes} of {group.processes}"
            )
        if not isinstance(node, int) or not 0 < node < group.nodes:
            return f"there is no place for a node {node} of {group.nodes}"
        return f"there is a node {node} already" if node in self._channels else ""

    async def _listen(self, node: int, channel: Channel) -> None:
        try:
            while True:
                async with asyncio.timeout(_SILENT_SECONDS):
                    told = await channel.receive()
                async with self._changed:
                    if "ended" in told:
                        self._failures += [Failure.from_json(failure) for failure in told["ended"]]
                        self._ended.add(node)
                        self.trouble.set()
                    if "done" in told:
                        self._done.add(node)
                    self._changed.notify_all()
        except (OSError, Refused, TimeoutError, *_STRANGE) as error:
            if not self._met:  # it may come again
                _note(f"node {node} {_lost(error)}")
                del self._channels[node]
                await channel.close()
                return
            async with self._changed:
                if node not in self._ended:
                    self._failures.append(Failure(_lost(error), node))
                self._ended.add(node)
                self.trouble.set()
                self._changed.notify_all()

    async def _beat(self) -> None:
        while True:
            self._tell({})
            await asyncio.sleep(_BEAT_SECONDS)

    def _task(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Other(Alone):
    """Any node but node 0."""

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self._channel: Channel | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._verdict: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def meet(self) -> int:
        group, address = self.group, f"{self.group.host}:{self.group.port}"
        deadline, told, reason = time.monotonic() + group.wait_seconds, 0.0, ""
        while self._channel is None:
            try:
                greeting = {"node": group.node, "nodes": group.nodes, "processes": group.processes}
                self._channel = await channels.connect(group.host, group.port, group.token, greeting)
            except Refused as error:
                raise InvalidInput(f"node 0 at {address} refuses node {group.node}: {error}") from error
            except (ConnectionError, OSError) as error:
                reason = error.strerror or str(error) or type(error).__name__
            if self._channel is None and time.monotonic() > deadline:
                raise Unavailable(
                    f"node {group.node} did not reach node 0 at {address} in {group.wait_seconds:g} s ({reason}); "
                    "see whether it was started and reachable from here"
                )
            if self._channel is None and time.monotonic() - told > _NOTE_SECONDS:
                told = time.monotonic()
                _note(f"node {group.node} waits for node 0 at {address} ({reason})")
            if self._channel is None:
                await asyncio.sleep(_RETRY_SECONDS)
        self._tasks = [asyncio.create_task(work) for work in (self._listen(self._channel), self._beat(self._channel))]
        await asyncio.wait([self._started, self._verdict], return_when=asyncio.FIRST_COMPLETED)
        if self._started.done():
            return self._started.result()
        raise Unavailable(f"the nodes did not meet: {self._verdict.result()}")

    async def done(self) -> Failure | None:
        assert self._channel is not None
        self._channel.send({"done": True})
        trouble = asyncio.create_task(self.trouble.wait())
        await asyncio.wait([trouble, self._verdict], return_when=asyncio.FIRST_COMPLETED)
        trouble.cancel()
        return self._verdict.result() if self._verdict.done() else await self.settle([])

    async def settle(self, failures: list[Failure]) -> Failure:
        assert self._channel is not None
        self._channel.send({"ended": [failure.to_json() for failure in failures]})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * _VERDICT_SECONDS):
                if found := await asyncio.shield(self._verdict):
                    return found
        return first(failures) if failures else Failure("did not say how it ended", 0)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._channel:
            await self._channel.close()

    async def _listen(self, channel: Channel) -> None:
        try:
            while not self._verdict.done():
                async with asyncio.timeout(_SILENT_SECONDS if self._started.done() else self.group.wait_seconds + 10):
                    told = await channel.receive()
                if "refused" in told:
                    self._verdict.set_result(Failure(f"refuses node {self.group.node}: {told['refused']}", 0))
                if "start" in told:
                    self._started.set_result(told["start"])
                if "end" in told:
                    self.trouble.set()
                if "verdict" in told:
                    self._verdict.set_result(Failure.from_json(told["verdict"]) if told["verdict"] else None)
        except (OSError, Refused, TimeoutError, *_STRANGE) as error:
            self._verdict.set_result(Failure(_lost(error), 0))
        self.trouble.set()

    async def _beat(self, channel: Channel) -> None:
        while True:
            channel.send({})
            await asyncio.sleep(_BEAT_SECONDS)


def of(group: Group) -> Alone:
    """This node, by its place in the group."""
    return Alone(group) if group.nodes == 1 else First(group) if group.node == 0 else Other(group)


def _lost(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"has not been heard of for {_SILENT_SECONDS:g} s"
    if isinstance(error, OSError):
        return "is gone: its connection was closed"
    return f"is not to be trusted: {error!r}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def _address(writer: asyncio.StreamWriter) -> str:
    return str((writer.get_extra_info("peername") or ["?"])[0])


def _note(text: str) -> None:
    print(f"volvox.distributed: {text}", file=sys.stderr, flush=True)
