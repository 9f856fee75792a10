from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.functions.locations import parts_of, place_of, provided_url, provider_name, url_of

BASE = Path("/data/definitions")
NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("in", "file:///data/definitions/in"), ("../in/", "file:///data/in"), ("/a//b/./c", "file:///a/b/c"),
        ("file:///a/b/", "file:///a/b"), ("with space/ä%", "file:///data/definitions/with%20space/%C3%A4%25"),
        ("s3://bucket",
         "s3://bucket"), ("s3://bucket/a b/", "s3://bucket/a b"), ("S3://bucket/a%2Fb", "s3://bucket/a%2Fb"),
        ("webdavs://Host.org:8443/in/", "webdavs://host.org:8443/in"), ("https://host/in", "webdavs://host/in"),
        ("onedata://op.org/space/in", "onedata://op.org/space/in"), ("file:///a%20b", "file:///a%20b"),
        ("s3+https://Ceph:443/bucket/in", "s3+https://ceph/bucket/in"),
    ],
)  # fmt: skip
def test_paths_and_urls_have_one_form(text: str, url: str) -> None:
    assert url_of(text, BASE) == url
    assert url_of(url, BASE) == url


def test_a_home_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert url_of("~/drop", BASE) == "file:///home/ada/drop"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a place is a path"), ("ftp://host/in", "is no address of a place; give a path or"),
        ("s3://", "names no bucket"),
        ("s3://-a", "names no bucket"), ("s3://bucket/../other", "'..'"), ("webdavs:///in", "names no server"),
        ("webdavs://user:secret@host/in", "holds a user or password"), ("onedata://host", "names no space"),
        ("file://in", "absolute path"), ("~nobody-of-this-name/in", "nobody knows"),
    ],
)  # fmt: skip
def test_what_is_no_place_is_told(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        url_of(text, BASE)


@pytest.mark.parametrize(
    ("provider", "path", "service", "url"),
    [
        ("minio.default", " /plants/in/ ",
         "plants", "s3://plants/in"), ("minio.default", "in", "plants", "s3://plants/in"),
        ("s3.default", "bucket", "", "s3://bucket"), ("s3.default", "bucket/a/b", "", "s3://bucket/a/b"),
        ("webdav.x", "/in", "plants", "webdavs://dcache.org:2880/vo/in"),
        ("onedata.x",
         "in", "plants", "onedata://op.org/lab/in"),
    ],
)  # fmt: skip
def test_paths_at_storage_providers_follow_their_rules(provider: str, path: str, service: str, url: str) -> None:
    described = {
        "hostname": "https://dcache.org:2880/vo/",
        "oneprovider_host": "op.org",
        "space": "lab",
        "host": "rucio.org",
    }
    assert provided_url(provider, path, service, described) == url


def test_a_host_that_nothing_names_is_told() -> None:
    with pytest.raises(ValueError, match=r"it needs hostname of webdav\.x"):
        provided_url("webdav.x", "in", "plants", {})


def test_a_provider_without_an_id_is_the_default_one() -> None:
    assert provider_name(" MinIO ") == "minio.default"
    assert provider_name("s3.my.dotted") == "s3.my.dotted"
    with pytest.raises(ValueError, match="no storage providers of the type 'gcs'"):
        provider_name("gcs.default")


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_a_normal_form_stays_as_it_is(names: list[str]) -> None:
    for text in ("/".join(["", *names]), "/".join(["s3://bucket", *names])):
        try:
            url = url_of(text, BASE)
        except ValueError:
            assert any(name in (".", "..") or name != name.strip() for name in names)
            continue
        assert url_of(url, BASE) == url
        assert parts_of(url).kind == ("s3" if text.startswith("s3") else "directory")
        assert url.startswith(place_of(url))


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_told(text: str) -> None:
    try:
        url = url_of(text, BASE)
    except ValueError as error:
        assert str(error)
    else:
        assert not url.endswith("/") or url == "file:///"
