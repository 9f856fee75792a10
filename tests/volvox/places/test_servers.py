"""What only one kind of server does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volvox.places.conftest import SHORT, s3_client
from tests.volvox.places.onedata_server import TOKEN, OnedataServer
from tests.volvox.places.webdav_server import PASSWORD, USER, WebDavServer
from tests.volvox.store.standin import StandIn
from volvox.buckets import Access, listing
from volvox.errors import InvalidInput, Unavailable
from volvox.places import open_place, s3
from volvox.places.addresses import parsed
from volvox.places.asking import Server
from volvox.places.credentials import Login
from volvox.places.s3 import S3Place


@pytest.fixture
def webdav() -> Iterator[WebDavServer]:
    with contextlib.closing(WebDavServer()) as made:
        yield made


def _webdav(server: WebDavServer):
    return open_place(server.url.replace("http", "webdav"), {"user": USER, "password": PASSWORD})


def test_a_door_that_sends_elsewhere_is_followed_without_the_secret(webdav: WebDavServer, tmp_path: Path) -> None:
    with contextlib.closing(WebDavServer()) as pool:
        pool.open = True
        pool.files, pool.folders = webdav.files, webdav.folders
        webdav.elsewhere = pool.url
        place = _webdav(webdav)
        (tmp_path / "a").write_bytes(b"data")
        assert place.put("in/a b", tmp_path / "a")
        place.fetch("in/a b", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == b"data"
        assert pool.seen
        assert "Authorization" not in pool.seen
        pool.elsewhere = webdav.url
        with pytest.raises(Unavailable, match="without an end"):
            place.fetch("in/a b", tmp_path / "target")


def test_a_server_that_speaks_no_webdav_is_told(tmp_path: Path) -> None:
    with contextlib.closing(StandIn("bucket")) as server:
        place = open_place(server.url.replace("http", "webdav"))
        server.answer = (207, "<html><p>welcome")
        with pytest.raises(Unavailable, match="does not answer as a WebDAV server does"):
            place.find("a")
        server.answer = (200, "welcome")
        with pytest.raises(Unavailable, match="does not answer as it should"):
            place.find("a")


def test_names_of_a_webdav_server_that_lead_elsewhere_are_left_out(webdav: WebDavServer) -> None:
    webdav.write("in/a", b"1")
    webdav.files["in/.."] = webdav.files["in/a"]
    webdav.files["in/b\n"] = webdav.files["in/a"]
    assert [one.key for one in _webdav(webdav).list("in/")] == ["in/a"]


@pytest.mark.parametrize("version", ["21.02.4", "21.02.5", "25.0"])
def test_an_oneprovider_is_asked_as_its_release_wants(version: str, tmp_path: Path) -> None:
    with contextlib.closing(OnedataServer()) as server:
        server.version = version
        place = open_place(server.url.replace("http", "onedata") + "/my%20space/in", {"token": TOKEN})
        (tmp_path / "a").write_bytes(b"data")
        keys = [f"in/{number}" for number in range(7)]
        for key in keys:
            assert place.put(key, tmp_path / "a")
        listed = list(place.list("in/"))
        assert [one.key for one in listed] == keys
        assert listed == [place.find(key) for key in keys]


def test_errors_of_an_oneprovider_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(StandIn("bucket")) as server:
        place = open_place(server.url.replace("http", "onedata") + "/space", {"token": "very-secret"})
        for errno, what, kind in (
            ("eacces", "does not allow this", InvalidInput),
            ("enospc", "is full", Unavailable),
            ("einval", "cannot hold this file or its name", InvalidInput),
        ):
            server.answer = (400, f'{{"error": {{"id": "posix", "details": {{"errno": "{errno}"}}}}}}')
            with pytest.raises(kind, match=what) as told:
                place.find("a")
            assert "very-secret" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (401, "refused or have expired"),
        (403, "refused"),
        (507, "is full"),
        (413, "cannot hold"),
        (405, "right address"),
    ],
)
def test_answers_are_told_in_sentences_without_their_bodies(status: int, what: str) -> None:
    with contextlib.closing(StandIn("bucket")) as server:
        server.answer = (status, "the token very-secret")
        asked = Server(server.url, "webdav://here", Login(token="very-secret"), SHORT)
        with pytest.raises((InvalidInput, Unavailable), match=what) as told:
            answer = asked.ask("PUT", "/a")
            raise asked.refused(answer)
        assert "very-secret" not in str(told.value)


def test_a_server_that_is_not_there_is_told() -> None:
    asked = Server("http://127.0.0.1:9", "webdav://here", Login(), SHORT)
    with pytest.raises(Unavailable, match="webdav://here does not answer"):
        asked.ask("GET", "/")


def test_a_server_that_ignores_conditions_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    for conditional in (True, False, None):
        with contextlib.closing(StandIn("bucket")) as server:
            server.conditional = conditional
            access = Access(server.url, access_key_id="a", secret_access_key="s")
            place = S3Place(parsed("s3://bucket"), access)
            assert place.put("in/a", tmp_path / "a") is True
            assert place.put("in/a", tmp_path / "a") is False
            assert s3._heeding[place.bucket.address, server.url] is bool(conditional)
            assert list(server.buckets["bucket"]) == ["in/a"], "nothing else stays"


def test_what_has_no_name_for_us_is_left_out_of_a_bucket() -> None:
    with contextlib.closing(StandIn("bucket")) as server:
        for key in ("in/", "in//a", "in/../a", "in/b", "in/.incoming-1"):
            server.buckets["bucket"][key] = (b"1", 1e9)
        place = S3Place(parsed("s3://bucket"), Access(server.url, access_key_id="a", secret_access_key="s"))
        assert [one.key for one in place.list("in/")] == ["in/b"]


@pytest.mark.aws
@pytest.mark.parametrize("versions", [False, True])
def test_a_bucket_of_many_pages_is_listed_whole(versions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import uuid

    from tests.engines import engine_environment

    monkeypatch.setattr(listing, "_PAGE", 7)
    endpoint = engine_environment(["aws"])["AWS_ENDPOINT_URL"]
    client, bucket = s3_client(endpoint, "testing", "testing"), f"volvox-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    keys = [f"in/{number:02}" for number in range(24)]
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"before")
    if versions:  # so that some have the version `null`
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        for key in keys[::2]:
            client.put_object(Bucket=bucket, Key=key, Body=b"after it")
        client.delete_object(Bucket=bucket, Key=keys.pop(5))
    place = open_place(f"s3://{bucket}", {"endpoint": endpoint, "access_key": "testing", "secret_key": "testing"})
    listed = list(place.list("in/"))
    assert [one.key for one in listed] == keys
    assert listed == [place.find(key) for key in keys], "an object that was there before versions, too"
    assert [one.key for one in place.list("in/", keys[9])] == keys[10:]
