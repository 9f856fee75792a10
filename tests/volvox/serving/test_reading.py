"""Requests as they come over the wire: whole, in pieces, too large, cut off."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from volvox.errors import Unavailable
from volvox.serving.limits import Limits
from volvox.serving.reading import received
from volvox.serving.refusals import Malformed, TooLarge

FORM = "multipart/form-data; boundary=b"


def _part(name: str, content: bytes, filename: str | None = None, kind: str = "") -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    typed = f"Content-Type: {kind}\r\n" if kind else ""
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{typed}\r\n'.encode() + content + b"\r\n"


def _read(uploads: Path, body: bytes, kind: str = FORM, piece: int = 7, cut: bool = False, **limits: int) -> Any:
    """What was read, with each file's bytes in place of its path."""
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]

    async def receive() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or cut}
        return {"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False}

    async def read() -> Any:
        headers = [(b"content-type", kind.encode()), (b"accept", b"text/html")]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b"a=1&a=2&b="}
        async with received(Request(scope, receive), uploads, Limits(**limits)) as asked:
            for files in asked.get("files", {}).values():
                for file in files:
                    file["path"] = Path(file["path"]).read_bytes()
            return asked

    try:
        return asyncio.run(read())
    finally:
        assert list(uploads.iterdir()) == []


@pytest.mark.parametrize("piece", [1, 3, 64, 1 << 20])
def test_fields_and_files_are_read_however_they_are_cut(tmp_path: Path, piece: int) -> None:
    content = bytes(range(256)) * 20 + b"\r\n--bogus\r\n"
    body = (
        _part("top", b"3")
        + _part("image", content, "\u00e9t\u00e9.png", "image/png")
        + _part("top", b"4")
        + b"--b--\r\n"
    )
    asked = _read(tmp_path, body, piece=piece)
    assert asked["form"] == {"top": ["3", "4"]}
    assert asked["files"] == {"image": [{"path": content, "content_type": "image/png", "name": "\u00e9t\u00e9.png"}]}
    assert asked["query"] == {"a": ["1", "2"], "b": [""]}
    assert asked["headers"] == {"accept": "text/html"}


def test_a_file_field_where_none_was_chosen_was_not_sent(tmp_path: Path) -> None:
    assert _read(tmp_path, _part("image", b"", "") + b"--b--\r\n")["files"] == {}


def test_an_empty_file_with_a_name_was_sent(tmp_path: Path) -> None:
    assert _read(tmp_path, _part("image", b"", "a.png") + b"--b--\r\n")["files"]["image"][0]["path"] == b""


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b.png", "..", "a.p/ng", "x." + "y" * 300])
def test_a_file_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    asked = _read(uploads, _part("image", b"1", name) + b"--b--\r\n")
    assert asked["files"]["image"][0]["name"] == name
    assert [path.name for path in tmp_path.iterdir()] == ["uploads"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (_part("image", b"123", "a.png"), FORM),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--\r\n", FORM),
        (b"nothing of the kind", FORM),
        (_part("image", b"123", "a.png") + b"--b--", "multipart/form-data"),
        (_part("top", b"1") * 5 + b"--b--\r\n", FORM),
        (b"{", "application/json"),
        (b"[" * 100_000, "application/json"),
    ],
    ids=["cut", "nameless", "no form", "no boundary", "too many parts", "half json", "deep json"],
)
def test_a_body_that_cannot_be_read_is_refused_with_a_message(tmp_path: Path, body: bytes, kind: str) -> None:
    with pytest.raises(Malformed) as refused:
        _read(tmp_path, body, kind, piece=1 << 20, fields=4)
    assert refused.value.status == 400
    assert refused.value.messages


def test_a_client_that_leaves_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="ended before"):
        _read(tmp_path, _part("image", b"123", "a.png"), cut=True)


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        ({"upload_bytes": 100}, _part("image", b"1" * 200, "a.png") + b"--b--\r\n"),
        ({"text_bytes": 100}, _part("text", b"1" * 200) + b"--b--\r\n"),
        ({"text_bytes": 100}, (_part("text", b"1" * 60) + _part("more", b"1" * 60)) + b"--b--\r\n"),
    ],
    ids=["file", "field", "fields together"],
)
def test_what_is_too_large_is_refused(tmp_path: Path, limits: dict, body: bytes) -> None:
    with pytest.raises(TooLarge, match="Maximum request body size 100 exceeded"):
        _read(tmp_path, body, **limits)


def test_an_announced_length_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    async def read() -> None:
        async def receive() -> dict[str, Any]:
            raise AssertionError("the body was read")

        headers = [(b"content-type", FORM.encode()), (b"content-length", b"101")]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
        async with received(Request(scope, receive), tmp_path, Limits(upload_bytes=100)):
            pass

    with pytest.raises(TooLarge):
        asyncio.run(read())


def test_json_and_urlencoded_bodies_are_read(tmp_path: Path) -> None:
    assert _read(tmp_path, b'{"a": [1]}', "application/json; charset=utf-8")["json"] == {"a": [1]}
    assert _read(tmp_path, b"a=1&a=%C3%A9&b=", "application/x-www-form-urlencoded")["form"] == {
        "a": ["1", "\u00e9"],
        "b": [""],
    }


def test_a_full_disk_is_told(small_disk: Path) -> None:
    uploads = small_disk / "uploads"
    uploads.mkdir()
    with pytest.raises(Unavailable, match="disk is full"):
        _read(uploads, _part("image", b"1" * (5 << 20), "a.png") + b"--b--\r\n", piece=1 << 16)
