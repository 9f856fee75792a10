"""Predictions at the level of the connection: what uvicorn's own way does for others has to hold here too."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.volvox.serving.running_server import RunningServer

PATH = "/v2/models/tiny/predict/"
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n12345\r\n'
    b'--b\r\nContent-Disposition: form-data; name="mode"\r\n\r\nMODE\r\n--b--\r\n'
)


@pytest.fixture
def line(shared: RunningServer) -> Iterator[socket.socket]:
    with _line(shared) as connection:
        yield connection


def _line(server: RunningServer) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _request(body: bytes, *headers: str, version: str = "1.1", path: str = PATH) -> bytes:
    told = [f"POST {path} HTTP/{version}", "host: here", "content-type: multipart/form-data; boundary=b", *headers]
    return ("\r\n".join(told) + "\r\n\r\n").encode() + body


def _asked(mode: str = "answer", *headers: str, version: str = "1.1") -> bytes:
    body = FORM.replace(b"MODE", mode.encode())
    return _request(body, f"content-length: {len(body)}", *headers, version=version)


def _answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer, chunked or not."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, data = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (told.partition(": ") for told in lines)}
    while len(data) < int(headers["content-length"]):
        data += _more(connection)
    assert len(data) == int(headers["content-length"]), "more than one answer came"
    return int(first.split()[1]), headers, data


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(1 << 16)
    assert piece, "the connection was closed"
    return piece


def test_one_connection_asks_again_and_again(line: socket.socket) -> None:
    for _ in range(3):
        line.sendall(_asked())
        status, headers, body = _answer(line)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert b'"bytes": 5' in body
        assert "connection" not in headers


def test_a_request_in_single_bytes_is_answered(line: socket.socket) -> None:
    for byte in _asked():
        line.sendall(bytes([byte]))
    assert _answer(line)[0] == 200


def test_a_chunked_body_is_read(line: socket.socket) -> None:
    body = FORM.replace(b"MODE", b"answer")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:20], body[20:21], body[21:]))
    line.sendall(_request(chunks + b"0\r\n\r\n", "transfer-encoding: chunked"))
    assert _answer(line)[0] == 200


def test_pipelined_requests_are_answered_in_order(line: socket.socket) -> None:
    health = b"GET /health/live HTTP/1.1\r\nhost: here\r\n\r\n"
    line.sendall(_asked("pause") + health + _asked() + _asked("bytes", "connection: close"))
    data = b""
    while piece := line.recv(1 << 16):
        data += piece
    found = re.findall(rb'HTTP/1.1 200|"live"|"labels"|\x89raw', data)
    assert found == [
        b"HTTP/1.1 200", b'"labels"', b"HTTP/1.1 200", b'"live"', b"HTTP/1.1 200", b'"labels"', b"HTTP/1.1 200",
        b"\x89raw",
    ]  # fmt: skip


def test_who_waits_to_be_told_to_go_on_is_told(line: socket.socket) -> None:
    head, _, body = _asked("answer", "expect: 100-continue").partition(b"\r\n\r\n")
    line.sendall(head + b"\r\n\r\n")
    assert line.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.sendall(body)
    assert _answer(line)[0] == 200


def test_http_1_0_is_answered_and_the_connection_ends(line: socket.socket) -> None:
    line.sendall(_asked(version="1.0"))
    data = b""
    while piece := line.recv(1 << 16):
        data += piece
    assert b" 200 OK\r\n" in data
    assert b'"bytes": 5' in data


@pytest.mark.parametrize("left_after", ["the header", "half the body"])
def test_who_leaves_before_the_end_of_the_request_leaves_nothing(shared: RunningServer, left_after: str) -> None:
    with _line(shared) as connection:
        asked = _asked()
        connection.sendall(asked[: asked.index(b"12345") + 2] if "body" in left_after else asked[: asked.index(b"--b")])
        time.sleep(0.2)
    end = time.monotonic() + 5
    while shared.uploads() and time.monotonic() < end:
        time.sleep(0.05)
    assert shared.uploads() == []
    assert shared.ask().status_code == 200


def test_who_leaves_while_the_module_works_has_its_work_interrupted(shared: RunningServer) -> None:
    pid = shared.ask().json()["predictions"]["pid"]
    with _line(shared) as connection:
        connection.sendall(_asked("sleep"))  # three seconds
        time.sleep(0.3)
    began = time.monotonic()
    again = shared.ask().json()["predictions"]
    assert time.monotonic() - began < 2.5
    assert again["pid"] == pid
    assert shared.uploads() == []


def test_an_id_is_kept_if_it_is_one_and_made_if_not(line: socket.socket) -> None:
    line.sendall(_asked("answer", "x-request-id: mine-7"))
    assert _answer(line)[1]["x-request-id"] == "mine-7"
    line.sendall(_asked("answer", "x-request-id: " + "long" * 99))
    assert len(_answer(line)[1]["x-request-id"]) < 30


def test_what_is_too_large_is_refused_while_it_comes(line: socket.socket) -> None:
    line.sendall(_request(b"", f"content-length: {1 << 40}"))
    status, headers, body = _answer(line)
    assert (status, headers["connection"]) == (413, "close")
    assert body == b"Maximum request body size 268435456 exceeded."


def test_what_a_module_streams_is_chunked_and_the_connection_goes_on(line: socket.socket) -> None:
    line.sendall(_asked("stream") + _asked("bytes", "connection: close"))
    data = b""
    while piece := line.recv(1 << 16):
        data += piece
    assert b"transfer-encoding: chunked\r\n\r\n4\r\none,\r\n3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 200" in data


def test_a_stream_that_breaks_off_cannot_be_taken_for_whole(line: socket.socket) -> None:
    line.sendall(_asked("torn"))
    data = b""
    while piece := line.recv(1 << 16):
        data += piece
    assert data.endswith(b"\r\n\r\n4\r\none,\r\n")
