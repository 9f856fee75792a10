from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.errors import InvalidInput
from volvox.places import joined, open_place, relative, split


@pytest.mark.parametrize(
    ("url", "root", "key"),
    [
        ("/data/in/", "file:///data/in", ""),
        ("file:///data/in%20here", "file:///data/in%20here", ""),
        ("file://localhost/data/../in", "file:///in", ""),
        ("/data/ü in", "file:///data/%C3%BC%20in", ""),
        ("s3://bucket", "s3://bucket", ""),
        ("s3://bucket/in/deep/", "s3://bucket", "in/deep"),
        ("S3://bucket/a%20b+c?", "s3://bucket", "a%20b+c?"),
        ("minio://bucket/in", "s3://bucket", "in"),
        ("s3+https://Minio.Example.org:443/bucket/in", "s3+https://minio.example.org/bucket", "in"),
        ("s3+http://127.0.0.1:9000/bucket", "s3+http://127.0.0.1:9000/bucket", ""),
        ("webdavs://Host.org:2880/pnfs/a%20b/", "webdavs://host.org:2880", "pnfs/a b"),
        ("webdavs://host.org:443", "webdavs://host.org", ""),
        ("webdav://[::1]:80/in", "webdav://[::1]", "in"),
        ("onedata://host/my%20space/in", "onedata://host/my%20space", "in"),
    ],
)
def test_an_address_is_a_place_and_a_key(url: str, root: str, key: str) -> None:
    assert split(url) == (root, key)
    assert split(root) == (root, ""), "normalised already"
    if key:
        assert split(joined(root, key)) == (root, key)


def test_a_path_may_be_relative_or_of_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert split("in") == split("~/in") == split(f"file://{tmp_path}/in")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "names no folder"),
        ("file://other/data", "another machine"),
        ("ftp://host/x", "no address of a place; give a path or file:///PATH, s3://"),
        ("s3://", "names no bucket"),
        ("s3://a_b/../x", "lead elsewhere"),
        ("s3://-/x", "names no bucket"),
        ("s3+https://host/", "names no bucket"),
        ("s3+https:///bucket", "names no server"),
        ("webdavs:///x", "names no server"),
        ("webdavs://host:port/x", "names no server"),
        ("webdavs://host/x?token=hidden", "has a query"),
        ("onedata://host", "names no space"),
        ("webdavs://host/a%00b", "control character"),
        ("webdavs://host/a/%2e%2e/b", "lead elsewhere"),
        ("s3://key:hidden@bucket/x", "holds a user or password"),
        ("webdavs://user:hidden@host/x", "holds a user or password; give them as credentials"),
    ],
)
def test_what_is_no_address_is_refused_without_its_secret(url: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as told:
        open_place(url)
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "place", "key", "inside"),
    [
        ("s3://bucket/in", "s3://bucket", "in/a b/c", "a b/c"),
        ("s3://bucket", "s3://bucket", "in/a", "in/a"),
        ("s3://bucket/in", "s3://bucket", "inside/a", None),
        ("s3://bucket/in", "s3://bucket", "in", None),
        ("s3://bucket/in", "s3://other", "in/a", None),
        ("s3+https://a/bucket/in", "s3://bucket", "in/a", None),
        ("webdavs://host/in%20x", "webdavs://host", "in x/a", "a"),
        ("file:///data", "file:///data/in", "a/b", "in/a/b"),
        ("file:///data/in", "file:///data", "in/a/b", "a/b"),
        ("file:///data/in", "file:///data", "inside/a", None),
        ("file:///", "file:///data", "a", "data/a"),
        ("file:///data/in", "s3://data", "in/a", None),
    ],
)
def test_an_object_is_in_a_folder_or_not(url: str, place: str, key: str, inside: str | None) -> None:
    assert relative(url, place, key) == inside


@given(st.text())
def test_any_text_is_an_address_or_refused(url: str) -> None:
    for scheme in ("", "s3://", "s3+https://", "webdavs://", "onedata://h/", "file://"):
        try:
            root, _ = split(scheme + url)
        except InvalidInput as error:
            assert "\n" not in str(error)
            continue
        assert split(root) == (root, "")
