"""A proxy on loopback that does to requests what networks and servers do."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["500", "503", "slow", "cut", "done, then cut", "done, then silent", "half an answer"]
FAULTS: tuple[Fault, ...] = ("500", "503", "slow", "cut", "done, then cut", "done, then silent", "half an answer")
SLOW_SECONDS = 0.3


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a server.

    Attributes:
        faults: What happens to the next requests whose method is in `methods`, the first to the first.
        methods: See there; empty: all.
        passed: Method and path of each request that the server got.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.faults: list[Fault] = []
        self.methods: tuple[str, ...] = ()
        self.passed: list[str] = []
        self.ended = threading.Event()
        self.mutex = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_fault(self, method: str) -> Fault | None:
        with self.mutex:
            if self.faults and (not self.methods or method in self.methods):
                return self.faults.pop(0)
        return None

    def close(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        pass  # who is cut off is cut off


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: object) -> None:
        pass

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.next_fault(self.command)
        if fault in ("500", "503"):
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "cut":
            self.close_connection = True
            return
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        connection = http.client.HTTPConnection(self.server.upstream, timeout=60)
        with contextlib.closing(connection):
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            with self.server.mutex:
                self.server.passed.append(f"{self.command} {self.path}")
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
        if fault == "done, then silent":
            self.server.ended.wait(30)
        if fault in ("done, then cut", "done, then silent"):
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        if answer.status != 204:
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
            self.send_header("Content-Length", length or "0")
        if fault == "half an answer":
            if not data:  # half of the headers, then
                self.wfile.write(b"".join(self._headers_buffer)[:-6])
            else:
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
            self._headers_buffer = []
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)  # it goes on listening
            self.close_connection = True
            return
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one
    do_PROPFIND = do_MKCOL = do_MOVE = handle_one
