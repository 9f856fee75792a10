from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployments.checks.registry import manifest, parts, told

BASIC = "Basic " + base64.b64encode(b"me:pw").decode()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("python", ("registry-1.docker.io", "library/python", "latest")),
        ("volvox/training:1", ("registry-1.docker.io", "volvox/training", "1")),
        ("localhost/x", ("localhost", "x", "latest")),
        ("127.0.0.1:5000/team/x:2", ("127.0.0.1:5000", "team/x", "2")),
        ("r.example.org/x@sha256:ab", ("r.example.org", "x", "sha256:ab")),
        ("r.example.org/x:1@sha256:ab", ("r.example.org", "x", "sha256:ab")),
    ],
)
def test_a_reference_is_taken_apart_as_docker_does(image: str, expected: tuple[str, str, str]) -> None:
    assert parts(image) == expected


class Handler(BaseHTTPRequestHandler):
    """A registry that wants a token, which only `me` with the password `pw` gets."""

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") == "Bearer good":
            self._end(200 if "/x/" in self.path else 404)
        else:
            realm = f"http://127.0.0.1:{self.server.server_port}/token"  # type: ignore[attr-defined]
            self._end(401, {"WWW-Authenticate": f'Bearer realm="{realm}",service="r",scope="repository:x:pull"'})

    def do_GET(self) -> None:
        body = json.dumps({"token": "good"}).encode()
        allowed = self.headers.get("Authorization") == BASIC
        self._end(200 if allowed else 401, body=body if allowed else b"")

    def _end(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def login(folder: Path, registry: str, user: str) -> None:
    auth = base64.b64encode(user.encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry: {"auth": auth}}}))


def test_whoever_is_not_logged_in_is_told_to(registry: str) -> None:
    check = asyncio.run(manifest(f"{registry}/x:1"))
    assert check.ok is False
    assert "asks for credentials" in check.said
    assert f"docker login {registry}" in check.mend


def test_credentials_that_are_refused_are_told_as_such(registry: str, tmp_path: Path) -> None:
    login(tmp_path, registry, "me:wrong")
    check = asyncio.run(manifest(f"{registry}/x:1"))
    assert check.ok is False
    assert "refuses these credentials" in check.said


def test_the_credentials_of_docker_login_are_used(registry: str, tmp_path: Path) -> None:
    login(tmp_path, registry, "me:pw")
    assert asyncio.run(manifest(f"{registry}/x:1")).ok is True
    missing = asyncio.run(manifest(f"{registry}/y:1"))
    assert missing.ok is False
    assert "has no" in missing.said


def test_a_registry_that_is_not_reached_from_here_is_unknown() -> None:
    check = asyncio.run(manifest("127.0.0.1:9/x:1"))
    assert check.ok is None
    assert "the engine may reach it all the same" in check.said


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (401, False), (403, False), (404, False), (429, None), (500, None)]
)
def test_each_answer_has_its_meaning(status: int, ok: bool | None) -> None:
    assert told("x", "r", status, logged_in=False).ok is ok
