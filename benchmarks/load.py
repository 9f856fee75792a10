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
_STUCK_SECONDS = 60.0


@dataclass
class Connection:
    """One keep-alive connection and the request that is under way on it."""

    port: int
    number: int
    asked: int = 0
    began: float = 0.0
    left: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytes = b""

    def open(self) -> int:
        """Connect; the file descriptor."""
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        return self.socket.fileno()

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


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job; see the head of this file."""
    requests = [base64.b64decode(request) for request in job["requests"]]
    concurrency, count = int(job["concurrency"]), int(job.get("count") or 0)
    poll = select.epoll()
    connections: dict[int, Connection] = {}
    waits: list[float] = []
    statuses: dict[int, int] = {}
    bodies: dict[tuple[int, bytes], int] = {}
    broken = everything = turn = 0

    def start(connection: Connection, number: int) -> None:
        connection.asked, connection.left = number, memoryview(requests[number])
        connection.began = time.perf_counter()
        whole = connection.send()
        poll.modify(connection.socket.fileno(), select.EPOLLIN if whole else select.EPOLLIN | select.EPOLLOUT)

    def connect(number: int) -> Connection:
        connection = Connection(int(job["port"]), number)
        descriptor = connection.open()
        connections[descriptor] = connection
        poll.register(descriptor, select.EPOLLIN)
        return connection

    for number in range(concurrency):
        start(connect(number), (turn := turn + 1) % len(requests))
    began = time.perf_counter()
    measured_from, used = began + float(job["warm_seconds"]), 0.0
    warm, ends = True, measured_from + float(job["seconds"])
    gc.disable()
    now = heard = began
    while now < ends and not (count and len(waits) >= count):
        events = poll.poll(min(1.0, max(0.0, ends - now)))
        now = time.perf_counter()
        if warm and now >= measured_from:
            warm, measured_from, used = False, now, time.process_time()
            waits, statuses, bodies, broken = [], {}, {}, 0
        if now - heard > _STUCK_SECONDS:
            break
        for descriptor, event in events:
            connection = connections[descriptor]
            try:
                if event & select.EPOLLOUT and connection.send():
                    poll.modify(descriptor, select.EPOLLIN)
                if not event & ~select.EPOLLOUT or (answer := connection.answer()) is None:
                    continue
            except (ConnectionError, OSError):
                broken += 1
                poll.unregister(descriptor)
                connection.socket.close()
                del connections[descriptor]
                if broken > 100:
                    raise
                start(connect(connection.number), (turn := turn + 1) % len(requests))
                continue
            heard = time.perf_counter()
            everything += 1
            status, body = answer
            if status == 200:
                if connection.began >= measured_from:
                    waits.append(heard - connection.began)
                key = (connection.asked, body)
                bodies[key] = bodies.get(key, 0) + 1
            statuses[status] = statuses.get(status, 0) + 1
            start(connection, (turn := turn + 1) % len(requests))
        now = time.perf_counter()
    seconds = now - measured_from
    share = (time.process_time() - used) / seconds
    for connection in connections.values():
        connection.socket.close()
    waits.sort()
    return {
        "seconds": seconds, "all": everything, "share": share, "broken": broken, "statuses": statuses,
        "p50": _quantile(waits, 0.5), "p99": _quantile(waits, 0.99), "measured": len(waits),
        "bodies": [[asked, base64.b64encode(body).decode(), times] for (asked, body), times in bodies.items()],
    }  # fmt: skip


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("inf")


if __name__ == "__main__":
    print(json.dumps(measure(json.load(sys.stdin))))
