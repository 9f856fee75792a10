"""What goes wrong with a bucket, and what its store does about it."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable

import pytest

from tests.volvox.store.places import Place
from tests.volvox.store.standin import StandIn, error
from volvox.buckets import Access
from volvox.errors import InvalidInput, Unavailable, VolvoxError
from volvox.store import Store

EXPIRED = "<Token-0>IQoJb3JpZ2luX2VjEB4aCXVzLWVhc3QtMSJH</Token-0><RequestId>R</RequestId><HostId>H</HostId>"
ASKED: list[Callable[[Store], object]] = [
    lambda store: store.has("0" * 64),
    lambda store: store.path("0" * 64),
    lambda store: store.put_bytes(b"data"),
    lambda store: store.record("training", "key"),
    lambda store: store.put_record("training", "key", {}),
    lambda store: store.keys("training"),
    lambda store: store.try_lock("training", "key"),
    lambda store: store.checkpoints("key").__enter__(),
    lambda store: store.drop_checkpoints("key"),
]


def _refused(place: Place, kind: type[VolvoxError], words: str, within: float = 5) -> None:
    """Every question is refused so, soon, and nothing that is said holds a secret or stays behind."""
    for number, ask in enumerate(ASKED):
        store, began = place.open(f"machine {number}"), time.monotonic()
        with pytest.raises(kind, match=words) as told:
            ask(store)
        assert time.monotonic() - began < within
        shown = "".join(traceback.format_exception(told.value))
        assert "very-secret" not in shown and "IQoJ" not in shown
        assert told.value.__context__ is None, "what the library said may quote the server, and so a token"
        assert not [path for path in store.cache.rglob("*") if path.is_file()]
        assert not list(store.cache.glob("checkpoints/*/*"))


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (400, "ExpiredToken", InvalidInput, r"have expired \(ExpiredToken\); set new ones in AWS_ACCESS_KEY_ID"),
        (403, "AccessDenied", InvalidInput, r"are refused \(AccessDenied\); they must be allowed to list"),
        (403, "InvalidAccessKeyId", InvalidInput, "does not know the access key for the store at s3://bucket/some"),
        (403, "SignatureDoesNotMatch", InvalidInput, "the secret key for the store at .* is not the access key's"),
        (403, "RequestTimeTooSkewed", InvalidInput, "the clock of this machine differs"),
        (301, "PermanentRedirect", InvalidInput, "is not in region us-east-1; set its own in AWS_REGION"),
        (503, "SlowDown", Unavailable, "does not answer at http://127.0.0.1:.*; see that it runs"),
    ],
)
def test_what_the_server_says_becomes_one_sentence(
    bucket_place: Place, server: StandIn, status: int, code: str, kind: type[VolvoxError], words: str
) -> None:
    server.answer = (status, error(code, EXPIRED))
    _refused(bucket_place, kind, words)


@pytest.mark.ceph
@pytest.mark.soak
@pytest.mark.parametrize("place", ["ceph"], indirect=True)
@pytest.mark.parametrize(
    ("key", "secret", "words"),
    [
        ("bob", "bob-secret", "are refused"),
        ("nobody", "very-secret", "does not know the access key"),
        ("alice", "very-secret", "the secret key for .* is not the access key's"),
    ],
)
def test_a_real_server_refuses(place: Place, key: str, secret: str, words: str) -> None:
    assert place.access
    theirs = dataclasses.replace(place.access, access_key_id=key, secret_access_key=secret)
    _refused(Place(place.address, place.folder, theirs), InvalidInput, words)


def test_a_bucket_that_does_not_exist_is_named(bucket_place: Place) -> None:
    bucket_place.address = "s3://no-such-bucket/prefix"
    _refused(bucket_place, InvalidInput, "the bucket 'no-such-bucket' does not exist at http.*; create it, or correct")


def test_a_bucket_that_is_removed_meanwhile_is_named(bucket_place: Place, server: StandIn) -> None:
    store = bucket_place.open()
    assert store.record("training", "key") is None
    server.buckets.clear()
    with pytest.raises(InvalidInput, match="does not exist"):
        store.record("training", "key")


def test_a_server_that_refuses_connections_is_unavailable_at_once(bucket_place: Place) -> None:
    bucket_place.access = Access("http://127.0.0.1:9", access_key_id="k", secret_access_key="very-secret")
    _refused(bucket_place, Unavailable, r"does not answer at http://127.0.0.1:9 \(connection refused\)", within=3)


def test_a_server_that_takes_connections_and_says_nothing_is_unavailable_within_seconds(
    bucket_place: Place, server: StandIn
) -> None:
    server.silent.set()
    store, began = bucket_place.open(), time.monotonic()
    with pytest.raises(Unavailable, match="no answer in time"):
        store.put_bytes(b"data")
    assert time.monotonic() - began < 30


def test_a_host_that_nobody_knows_is_unavailable(bucket_place: Place) -> None:
    bucket_place.access = Access("http://no-such-host.invalid", access_key_id="k", secret_access_key="s")
    with pytest.raises(Unavailable, match=r"does not answer at http://no-such-host\.invalid"):
        bucket_place.open().has("0" * 64)


@pytest.mark.parametrize(
    ("address", "access", "words"),
    [
        ("s3://", Access(), "names no bucket; give s3://BUCKET/PREFIX"),
        ("s3://user:very-secret@bucket/x", Access(), "names no bucket"),
        ("s3://bucket/x", Access(access_key_id="a-key"), "an access key is given without its secret"),
        ("s3://bucket/x", Access(endpoint="ceph:5560"), "give a URL that begins with https://"),
        (
            "s3://bucket/x",
            Access(endpoint="http://u:very-secret@ceph"),
            "the endpoint at ceph holds a user or password",
        ),
        ("block:name", None, "names a Prefect block"),
        ("gs://bucket/x", None, "begins with gs://; give the path of a folder or s3://BUCKET/PREFIX"),
    ],
)
def test_an_address_or_access_that_cannot_be_used_is_refused_when_it_is_opened(
    tmp_path, address, access, words
) -> None:
    with pytest.raises(InvalidInput, match=words) as told:
        Store.open(address, tmp_path, access)
    assert "very-secret" not in str(told.value)


def test_secrets_are_not_shown() -> None:
    access = Access(access_key_id="AKIA", secret_access_key="very-secret", session_token="a-token")
    assert "very-secret" not in repr(access) and "a-token" not in repr(access) and "AKIA" not in repr(access)


def test_the_environment_says_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://general:1", "AWS_ENDPOINT_URL_S3": "http://s3:1", "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert Access().completed() == Access("http://s3:1", "eu-west-1", None, "k", "s", "t")
    given = Access("http://own:1", "us-west-2", None, "mine", "my-secret")
    assert given.completed() == given, "no token of other credentials is mixed in"


def test_credentials_of_the_environment_are_not_mixed_with_those_given(
    bucket_place: Place, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other-token")
    bucket_place.open().put_bytes(b"data")
    assert server.headers_seen["authorization"].startswith("AWS4-HMAC-SHA256 Credential=a-key/")
    assert "x-amz-security-token" not in server.headers_seen


def test_an_object_is_uploaded_once_and_fetched_once(bucket_place: Place, server: StandIn, tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    store = bucket_place.open()
    digest = store.put_file(tmp_path / "file")
    server.requests.clear()
    assert store.path(digest).read_bytes() == b"data"
    assert server.requests == [], "what was put lies in the cache"
    assert store.put_file(tmp_path / "file") == digest
    assert [request.split()[0] for request in server.requests] == ["HEAD"]
    there = bucket_place.open("another machine")
    there.path(digest)
    server.requests.clear()
    there.path(digest)
    assert server.requests == []


def test_a_fetch_that_breaks_off_leaves_nothing(bucket_place: Place, server: StandIn) -> None:
    digest = bucket_place.open().put_bytes(b"x" * (2 << 20))
    there = bucket_place.open("another machine")
    server.cut_after = 1 << 20
    with pytest.raises(Unavailable):
        there.path(digest)
    assert not [path for path in there.cache.rglob("*") if path.is_file()]
    server.cut_after = None
    assert there.path(digest).stat().st_size == 2 << 20


def test_the_address_of_a_store_can_be_shown(bucket_place: Place) -> None:
    assert bucket_place.open().address == "s3://bucket/some/prefix"


def test_nothing_is_asked_before_it_is_needed(tmp_path) -> None:
    store = Store.open("s3://bucket/x", tmp_path, Access(region="eu-west-1"))
    assert store.bucket.server == "Amazon S3 (eu-west-1)"
