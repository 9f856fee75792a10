"""Small folders of labelled images, made in the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from volvox.data.folder import listed
from volvox.data.options import Options
from volvox.data.prepare import prepare
from volvox.records import Dataset
from volvox.store import FolderStore, Store


def write_image(path: Path, number: int) -> Path:
    """An image that no other number gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = bytes((number * 7 + place * (number + 1)) % 256 for place in range(48)) + number.to_bytes(4, "big") * 4
    Image.frombytes("L", (8, 8), pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`cat` and `dog`, ten images each."""
    root = tmp_path / "pets"
    for start, label in enumerate(("cat", "dog")):
        for number in range(10):
            write_image(root / label / f"{number:02}.png", start * 1000 + number)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def prepared(store: Store) -> Callable[..., Dataset]:
    """Prepare a folder: `prepared(root, label_column="group")`."""

    def run(root: Path, **options) -> Dataset:
        return prepare(listed(root), Options(**options), store, name="pets", source=str(root))

    return run


@pytest.fixture
def reasons() -> Callable[[Dataset], dict[str, str]]:
    return lambda made: {left_out.file: left_out.reason for left_out in made.rejected}


class Web:
    """A web server on this machine that can lose its validators, break off and count."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etags = True
        self.redirects: dict[str, str] = {}
        self.status: dict[str, int] = {}
        self.break_after: list[int] = []
        self.asked: list[tuple[str, str]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.asked.append((self.path, self.headers.get("Range", "")))
                path = self.path.partition("?")[0]
                data = web.files.get(path)
                if path in web.redirects:
                    self.send_response(302)
                    self.send_header("Location", web.redirects[path])
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if data is None or path in web.status:
                    self.send_error(web.status.get(path, 404))
                    return
                etag, start = f'"{hash(data)}"', 0
                if web.etags and self.headers.get("If-Range") == etag:
                    start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if start else 200)
                if web.etags:
                    self.send_header("ETag", etag)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                body = data[start:]
                if web.break_after:
                    body = body[: web.break_after.pop(0)]
                    self.close_connection = True
                self.wfile.write(body)
                self.wfile.flush()

            def log_message(self, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # whoever asks may go away at any time
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()
