"""A WebDAV server on loopback, after RFC 4918."""

from __future__ import annotations

import base64
import itertools
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

USER, PASSWORD = "alice", "very-secret"


class WebDavServer(ThreadingHTTPServer):
    """Keeps files in memory.

    Attributes:
        files: Path -> bytes, when they were written, and etag.
        folders: Paths of folders, without a `/` at the end; the root is there.
        elsewhere: Where GET and PUT are sent to, as dCache's doors do; empty: they are answered here.
        seen: Headers of the last request.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, tuple[bytes, float, str]] = {}
        self.folders = {""}
        self.elsewhere = ""
        self.open = False
        self.seen: dict[str, str] = {}
        self.mutex = threading.Lock()
        self.numbers = itertools.count(1)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def write(self, path: str, data: bytes) -> None:
        parts = path.split("/")
        self.folders |= {"/".join(parts[:number]) for number in range(1, len(parts))}
        self.files[path] = (data, time(), f'"{next(self.numbers)}"')

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: WebDavServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: object) -> None:
        pass

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen = dict(self.headers)
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if not self.server.open and self.headers.get("Authorization") != f"Basic {basic}":
            return self.reply(401, b"who are you? not " + (self.headers.get("Authorization") or "").encode())
        path = unquote(urlsplit(self.path).path).strip("/")
        if self.server.elsewhere and self.command in ("GET", "PUT"):
            return self.reply(307, b"", Location=self.server.elsewhere + quote("/" + path))
        with self.server.mutex:
            getattr(self, f"on_{self.command.lower()}")(path, body)

    do_GET = do_PUT = do_DELETE = do_PROPFIND = do_MKCOL = do_MOVE = handle_one

    def on_get(self, path: str, body: bytes) -> None:
        if path not in self.server.files:
            return self.reply(404)
        data, at, etag = self.server.files[path]
        self.reply(200, data, ETag=etag, **{"Last-Modified": formatdate(at, usegmt=True)})

    def on_put(self, path: str, body: bytes) -> None:
        if path.rpartition("/")[0] not in self.server.folders:
            return self.reply(409)
        if path in self.server.folders:
            return self.reply(405)
        there = path in self.server.files
        self.server.write(path, body)
        self.reply(204 if there else 201)

    def on_delete(self, path: str, body: bytes) -> None:
        if path in self.server.files:
            del self.server.files[path]
            return self.reply(204)
        self.reply(404)

    def on_mkcol(self, path: str, body: bytes) -> None:
        if path in self.server.folders or path in self.server.files:
            return self.reply(405)
        if path.rpartition("/")[0] not in self.server.folders:
            return self.reply(409)
        self.server.folders.add(path)
        self.reply(201)

    def on_move(self, path: str, body: bytes) -> None:
        target = unquote(urlsplit(self.headers["Destination"]).path).strip("/")
        if path not in self.server.files:
            return self.reply(404)
        there = target in self.server.files
        if there and self.headers.get("Overwrite") == "F":
            return self.reply(412)
        self.server.files[target] = self.server.files.pop(path)
        self.reply(204 if there else 201)

    def on_propfind(self, path: str, body: bytes) -> None:
        if path not in self.server.files and path not in self.server.folders:
            return self.reply(404)
        paths = [path]
        if self.headers["Depth"] == "1":
            inside = f"{path}/" if path else ""
            paths += [
                one
                for one in (*self.server.files, *self.server.folders)
                if one and one != path and one.startswith(inside) and "/" not in one[len(inside) :]
            ]
        parts = "".join(self.described(one) for one in paths)
        self.reply(207, f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{parts}</D:multistatus>'.encode())

    def described(self, path: str) -> str:
        if path in self.server.files:
            data, at, etag = self.server.files[path]
            told = (
                f"<D:resourcetype/><D:getcontentlength>{len(data)}</D:getcontentlength><D:getetag>{escape(etag)}"
                f"</D:getetag><D:getlastmodified>{formatdate(at, usegmt=True)}</D:getlastmodified>"
            )
        else:
            told, path = "<D:resourcetype><D:collection/></D:resourcetype>", path + "/"
        return (
            f"<D:response><D:href>{escape(quote('/' + path.lstrip('/')))}</D:href><D:propstat><D:prop>{told}</D:prop>"
            "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        )

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if status != 204 else b"")
