"""Objects are read and written over lines that break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from volvox.runner import objects
from volvox.runner.objects import Bucket, Trouble
from volvox.runner.signing import KeyRing, Keys


class Server(ThreadingHTTPServer):
    """A bucket server that does what the test says: `trouble` is what the next requests get instead of an answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.trouble: list[object] = []
        self.asked: list[tuple[str, str]] = []
        self.heeds = True


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        told = {"content-length": str(len(body)), **headers}
        for name, text in told.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _handled(self) -> None:
        key = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("content-length") or 0)) if self.command == "PUT" else b""
        if self.server.trouble:
            trouble = self.server.trouble.pop(0)
            if trouble == "cut":
                self.connection.close()
                self.close_connection = True
                return
            if trouble == "short":
                self.send_response(200)
                self.send_header("content-length", "100")
                self.end_headers()
                self.wfile.write(b"half")
                self.close_connection = True
                return
            assert isinstance(trouble, int)
            self._answer(trouble, b"<Error><Code>SlowDown</Code><Message>token=SECRET</Message></Error>")
            return
        if self.command == "PUT":
            if self.headers.get("if-none-match") == "*":
                if not self.server.heeds:
                    self._answer(501, b"<Error><Code>NotImplemented</Code></Error>")
                    return
                if key in self.server.objects:
                    self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                    return
            self.server.objects[key] = body
            self._answer(200, etag='"e"')
        elif key in self.server.objects:
            found = self.server.objects[key]
            self._answer(200, found, etag='"abc"', last_modified="Thu, 26 Nov 2026 12:00:00 GMT")
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_GET = do_HEAD = do_PUT = _handled

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(objects.time, "sleep", lambda _: None)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def bucket(server: Server) -> Bucket:
    return Bucket("lake", KeyRing(Keys("k", "s")), endpoint=f"http://127.0.0.1:{server.server_address[1]}")


KEY = "in/ann/ü b+%2F.png"


def test_what_is_written_is_read_and_named_as_places_name_it(bucket: Bucket, server: Server, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 700_000)
    assert bucket.put(KEY, tmp_path / "source", content_type="image/png")
    assert server.objects == {f"/lake/{KEY}": b"x" * 700_000}
    told = bucket.fetch(KEY, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"x" * 700_000
    assert told.name == "abc@1795694400" and told.size == 700_000
    bucket.fetch(KEY, tmp_path / "target", "v/1")
    assert server.asked[-1][1].endswith("?versionId=v%2F1")
    assert bucket.look("nothing") is None and bucket.look(KEY) == told


@pytest.mark.parametrize("trouble", ["cut", "short", 500, 503, 429])
def test_what_heals_by_itself_is_tried_again(bucket: Bucket, server: Server, tmp_path: Path, trouble) -> None:
    server.objects[f"/lake/{KEY}"] = b"content"
    server.trouble = [trouble, trouble]
    bucket.fetch(KEY, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"content"
    (tmp_path / "source").write_bytes(b"new")
    server.trouble = [trouble] if trouble != "short" else []
    bucket.put(KEY, tmp_path / "source")
    assert server.objects[f"/lake/{KEY}"] == b"new"


def test_what_stays_wrong_is_told_without_the_server_s_words(bucket: Bucket, server: Server, tmp_path: Path) -> None:
    server.trouble = [503] * 40
    with pytest.raises(Trouble, match="503 SlowDown") as caught:
        bucket.read(KEY)
    assert caught.value.kind == "transient" and "SECRET" not in str(caught.value)
    server.trouble = [403]
    with pytest.raises(Trouble, match="refused") as caught:
        bucket.read(KEY)
    assert caught.value.kind == "failed"
    server.trouble = []
    with pytest.raises(Trouble, match="not there") as caught:
        bucket.fetch("nothing", tmp_path / "target")
    assert caught.value.kind == "missing"


@pytest.mark.parametrize("heeds", [True, False])
def test_what_is_there_already_stays(bucket: Bucket, server: Server, tmp_path: Path, heeds: bool) -> None:
    server.heeds = heeds
    (tmp_path / "first").write_bytes(b"first")
    (tmp_path / "second").write_bytes(b"second")
    assert bucket.put(KEY, tmp_path / "first", once=True)
    assert not bucket.put(KEY, tmp_path / "second", once=True)
    assert server.objects == {f"/lake/{KEY}": b"first"}
