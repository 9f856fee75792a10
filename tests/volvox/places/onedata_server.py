"""An Oneprovider on loopback: the routes that `onedatafilerestclient` 25.2 uses, with its answers."""

from __future__ import annotations

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "a-very-secret-token"
_API = "/api/v3/oneprovider"
_SNAKE = {"fileId": "file_id"}


class OnedataServer(ThreadingHTTPServer):
    """Keeps files of a space in memory.

    Attributes:
        files: Path in the space -> bytes, when they were written, and the file's id.
        folders: Path -> id; the space itself is the empty path.
        version: Of Oneprovider: since 21.02.5 attributes are named and asked for otherwise.
        page: How many children one answer has.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, space: str = "my space") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.space = space
        self.files: dict[str, tuple[bytes, int, str]] = {}
        self.folders = {"": "space"}
        self.version = "25.0"
        self.page = 2
        self.numbers = itertools.count(1)
        self.mutex = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def write(self, path: str, data: bytes) -> str:
        parts = path.split("/")
        for number in range(1, len(parts)):
            self.folders.setdefault("/".join(parts[:number]), f"d{next(self.numbers)}")
        identifier = self.files[path][2] if path in self.files else f"f{next(self.numbers)}"
        self.files[path] = (data, int(time()), identifier)
        return identifier

    def path_of(self, identifier: str) -> str | None:
        for path, found in self.folders.items():
            if found == identifier:
                return path
        return next((path for path, found in self.files.items() if found[2] == identifier), None)

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: OnedataServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *arguments: object) -> None:
        pass

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("X-Auth-Token") != TOKEN:
            return self.reply(401, {"error": {"id": "unauthorized", "description": self.headers.get("X-Auth-Token")}})
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        query = parse_qs(parts.query)
        with self.server.mutex:
            if path.startswith("/cdmi/"):
                return self.moved(path.removeprefix("/cdmi/"), json.loads(body))
            path = path.removeprefix(_API).lstrip("/")
            word, _, rest = path.partition("/")
            if word == "configuration":
                return self.reply(200, {"version": self.server.version})
            if word == "lookup-file-id":
                return self.looked_up(rest)
            identifier, _, what = rest.partition("/")
            known = self.server.path_of(identifier)
            if known is None:
                return self.failed("enoent")
            if what.startswith("path/"):
                return self.made(what.removeprefix("path/"))
            if what == "children":
                return self.children(known, query, body)
            if what == "content":
                return self.content(known, body)
            if self.command == "DELETE":
                self.server.files.pop(known, None)
                return self.reply(204, None)
            self.reply(200, self.told(known))

    do_GET = do_PUT = do_POST = do_DELETE = handle_one

    def looked_up(self, path: str) -> None:
        space, _, path = path.partition("/")
        if space != self.server.space:
            return self.failed("enoent")
        if path in self.server.folders:
            return self.reply(200, {"fileId": self.server.folders[path]})
        if path not in self.server.files:
            return self.failed("enoent")
        self.reply(200, {"fileId": self.server.files[path][2]})

    def made(self, path: str) -> None:
        if path in self.server.files or path in self.server.folders:
            return self.failed("eexist")
        self.reply(201, {"fileId": self.server.write(path, b"")})

    def content(self, path: str, body: bytes) -> None:
        if self.command == "PUT":
            self.server.write(path, body)
            return self.reply(204, None)
        self.reply(200, self.server.files[path][0])

    def children(self, folder: str, query: dict[str, list[str]], body: bytes) -> None:
        if [int(one) for one in self.server.version.split(".")] >= [21, 2, 5]:
            assert "fileId" in json.loads(body)["attributes"]
            assert "attribute" not in query
        else:
            assert "file_id" in query["attribute"]
            assert not body
        inside = f"{folder}/" if folder else ""
        names = sorted(
            one[len(inside) :]
            for one in (*self.server.files, *self.server.folders)
            if one.startswith(inside) and one != folder and "/" not in one[len(inside) :]
        )
        start = int(query.get("token", ["0"])[0])
        end = start + self.server.page
        self.reply(
            200,
            {
                "children": [self.told(inside + name) for name in names[start:end]],
                "isLast": end >= len(names),
                "nextPageToken": str(end) if end < len(names) else None,
            },
        )

    def moved(self, target: str, told: dict[str, str]) -> None:
        assert self.headers["X-CDMI-Specification-Version"] == "1.1.1"
        source = told["move"].partition("/")[2]
        if source not in self.server.files:
            return self.failed("enoent")
        self.server.files[target.partition("/")[2]] = self.server.files.pop(source)
        self.reply(201, None)

    def told(self, path: str) -> dict[str, Any]:
        told: dict[str, Any] = {"name": path.rpartition("/")[2], "type": "DIR", "size": 0, "mtime": 0}
        if path in self.server.files:
            data, at, identifier = self.server.files[path]
            told |= {"type": "REG", "size": len(data), "mtime": at, "fileId": identifier}
        else:
            told["fileId"] = self.server.folders[path]
        if [int(one) for one in self.server.version.split(".")] < [21, 2, 5]:
            told = {_SNAKE.get(name, name): value for name, value in told.items()}
        return told

    def failed(self, errno: str) -> None:
        self.reply(400, {"error": {"id": "posix", "details": {"errno": errno}, "description": errno}})

    def reply(self, status: int, body: dict[str, Any] | bytes | None) -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
