from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from image_classifier import urls
from webargs import ValidationError


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/secret.png")
            self.end_headers()
        elif self.path == "/round":
            self.send_response(302)
            self.send_header("Location", "/round")
            self.end_headers()
        elif self.path == "/there":
            self.send_response(301)
            self.send_header("Location", "/folder/a%20cat.png?size=1")
            self.end_headers()
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(bytes(10_000))
        elif self.path.startswith("/folder/"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"picture")
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # the client hangs up on purpose
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def here() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setenv("VOLVOX_ALLOW_PRIVATE_URLS", "1")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_not_all_can_reach_are_not_public(address):
    assert not urls.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_all_can_reach_are_public(address):
    assert urls.is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]"])
def test_this_machine_is_refused_however_it_is_written(here, host):
    with pytest.raises(ValidationError) as refused:
        urls.fetch(f"http://{host}:{here.rpartition(':')[2]}/folder/cat.png")
    assert "public" in refused.value.messages["urls"][0] or "cannot be fetched" in refused.value.messages["urls"][0]


def test_a_public_name_with_one_private_address_is_refused(monkeypatch):
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(ValidationError, match=r"10\.0\.0\.1"):
        urls.fetch("http://pictures.example/cat.png")


def test_a_file_is_fetched_through_a_redirect(here, allowed):
    assert urls.fetch(f"{here}/there") == ("a cat.png", b"picture")


def test_a_redirect_to_a_private_address_is_refused(here, monkeypatch):
    public = urls.is_public
    monkeypatch.setattr(urls, "is_public", lambda address: address == "127.0.0.1" or public(address))
    with pytest.raises(ValidationError, match=r"169\.254\.169\.254"):
        urls.fetch(f"{here}/away")


@pytest.mark.parametrize(
    ("path", "said"), [("/round", "redirects more than"), ("/none", "404"), ("/endless", "larger than")]
)
def test_what_does_not_end_well_is_refused(here, allowed, path, said):
    with pytest.raises(ValidationError, match=said):
        urls.fetch(here + path, limit=100_000)


def test_a_slow_server_is_given_up_in_time(here, allowed):
    started = time.monotonic()
    with pytest.raises(ValidationError, match="cannot be fetched"):
        urls.fetch(f"{here}/slow", seconds=0.5)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "gopher://a", "cat.png", "http://", "data:text/html;base64,aa"]
)
def test_other_kinds_of_address_are_refused(url):
    with pytest.raises(ValidationError):
        urls.fetch(url)


def test_a_password_does_not_show_in_a_message(allowed):
    with pytest.raises(ValidationError) as refused:
        urls.fetch("http://me:secret@127.0.0.1:1/a.png?token=secret")
    assert "secret" not in str(refused.value.messages)


def test_too_many_addresses_are_refused():
    with pytest.raises(ValidationError, match="at most 100"):
        urls.listed(["http://a"] * 101)
