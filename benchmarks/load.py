"""An HTTP client that costs little: `python -m benchmarks.load < job.json` prints what it measured as JSON.

One process, one epoll loop, one keep-alive connection for each unit of concurrency; every connection sends its next
request as soon as its answer is there. Written for this: `wrk` is faster, but cannot tell which answer belongs to
which picture. Here every distinct answer to every request is kept and compared afterwards, so none goes unchecked. One
request costs the client some 20 µs; its share of its core is told, and near 100 % the figures are its own.

The job: `port`, `requests` (base64 of whole HTTP requests), `concurrency`, `warm_seconds`, `seconds`, `count` (end
after so many measured answers, for slow ones).
"""

from __future__ import annotations

import base64
import gc
import json
import re
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked")
_CHUNK = 1 << 18
_MOST_BROKEN = 100
_DRAIN_SECONDS = 10.0


@dataclass
class Connection:
    """One keep-alive connection and the request that is under way on it."""

    port: int
    asked: int = 0
    began: float = 0.0
    left: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytes = b""

    def __post_init__(self) -> None:
        """Connect."""
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.descriptor = self.socket.fileno()

    def send(self) -> bool:
        """Send what can be sent; whether all is."""
        while self.left:
            try:
                self.left = self.left[self.socket.send(self.left) :]
            except BlockingIOError:
                return False
        return True

    def answer(self) -> tuple[int, bytes] | None:
        """Status and body, once all of it is there.

        Raises:
            ConnectionError: If the server closes meanwhile.
        """
        try:
            data = self.socket.recv(_CHUNK)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionError("closed")
        self.received = self.received + data if self.received else data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        if found := _LENGTH.search(self.received, 0, end):
            body = self.received[end + 4 :]
            if len(body) < int(found[1]):
                return None
        elif _CHUNKED.search(self.received, 0, end):
            if not self.received.endswith(b"0\r\n\r\n"):
                return None
            body = _joined(self.received[end + 4 :])
        else:
            raise ConnectionError("an answer without a length")
        status = int(self.received[9:12])
        self.received = b""
        return status, body


def _joined(chunks: bytes) -> bytes:
    body = b""
    while True:
        size, _, chunks = chunks.partition(b"\r\n")
        if not (length := int(size, 16)):
            return body
        body, chunks = body + chunks[:length], chunks[length + 2 :]


class Client:
    """The connections of one job, and what came of their requests."""

    def __init__(self, port: int, requests: list[bytes], concurrency: int) -> None:
        """Connect, and send the first requests."""
        self.port, self.requests = port, requests
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}
        self.turn = self.everything = self.broken = 0
        self.measured_from, self.draining, self.open = 0.0, False, 0
        self.forget()
        for _ in range(concurrency):
            self._connect()

    def forget(self) -> None:
        """Measure from now on; what was asked before counts for nothing."""
        self.waits: list[float] = []
        self.statuses: dict[int, int] = {}
        self.bodies: dict[tuple[int, bytes], int] = {}
        self.broken = 0
        self.measured_from = time.perf_counter()

    def wait(self, seconds: float) -> None:
        """Take the answers that come within so many seconds at most, and ask again."""
        for descriptor, event in self.poll.poll(seconds):
            connection = self.connections[descriptor]
            try:
                if event & select.EPOLLOUT and connection.send():
                    self.poll.modify(descriptor, select.EPOLLIN)
                if event & ~select.EPOLLOUT and (answer := connection.answer()) is not None:
                    self._count(connection, *answer)
                    if not self.draining:
                        self._ask(connection)
            except OSError:
                self._replace(descriptor)

    def drain(self, seconds: float) -> None:
        """Wait for what is still under way, so that the server has nothing left to do; it counts for the CPU only."""
        self.draining, self.open = True, len(self.connections)
        ends = time.perf_counter() + seconds
        while self.open > 0 and (now := time.perf_counter()) < ends:
            self.wait(ends - now)

    def _count(self, connection: Connection, status: int, body: bytes) -> None:
        self.everything += 1
        if self.draining:
            self.open -= 1
            return
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            if connection.began >= self.measured_from:
                self.waits.append(time.perf_counter() - connection.began)
            key = (connection.asked, body)
            self.bodies[key] = self.bodies.get(key, 0) + 1

    def _ask(self, connection: Connection) -> None:
        self.turn = (self.turn + 1) % len(self.requests)
        connection.asked, connection.left = self.turn, memoryview(self.requests[self.turn])
        connection.began = time.perf_counter()
        if not connection.send():
            self.poll.modify(connection.descriptor, select.EPOLLIN | select.EPOLLOUT)

    def _connect(self) -> None:
        connection = Connection(self.port)
        self.connections[connection.descriptor] = connection
        self.poll.register(connection.descriptor, select.EPOLLIN)
        self._ask(connection)

    def _replace(self, descriptor: int) -> None:
        if self.draining:
            self.open -= 1
            self.poll.unregister(descriptor)
            return
        self.broken += 1
        if self.broken > _MOST_BROKEN:
            raise ConnectionError("the server closes its connections")
        self.poll.unregister(descriptor)
        self.connections.pop(descriptor).socket.close()
        self._connect()


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job; see the head of this file."""
    requests = [base64.b64decode(request) for request in job["requests"]]
    gc.disable()
    client = Client(int(job["port"]), requests, int(job["concurrency"]))
    warm = time.perf_counter() + float(job["warm_seconds"])
    while (now := time.perf_counter()) < warm:
        client.wait(warm - now)
    if job["warm_seconds"]:
        client.forget()
    began, used = client.measured_from, time.process_time()
    count, ends = int(job.get("count") or 0), began + float(job["seconds"])
    while (now := time.perf_counter()) < ends and not (count and len(client.waits) >= count):
        client.wait(ends - now)
    seconds = time.perf_counter() - began
    share = (time.process_time() - used) / seconds
    client.drain(_DRAIN_SECONDS)
    for connection in client.connections.values():
        connection.socket.close()
    client.waits.sort()
    return {
        "seconds": seconds, "all": client.everything, "share": share, "broken": client.broken,
        "statuses": client.statuses, "p50": _quantile(client.waits, 0.5), "p99": _quantile(client.waits, 0.99),
        "bodies": [[asked, base64.b64encode(body).decode(), times] for (asked, body), times in client.bodies.items()],
    }  # fmt: skip


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("inf")


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
