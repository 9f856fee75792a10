"""A real S3 server that really notifies: Ceph, end to end, and a bucket of somebody else."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines import engine_environment
from tests.volvox.events.recording import Inbox, listening
from tests.volvox.places.conftest import s3_client
from volvox.errors import InvalidInput, Unavailable
from volvox.events import Sender, webhooks
from volvox.events.senders import hashed
from volvox.places import open_place

pytestmark = [pytest.mark.ceph, pytest.mark.soak]  # it takes a minute or two to start
TOKEN = "volvox_" + uuid.uuid4().hex


@dataclass
class Ceph:
    endpoint: str
    alice: tuple[str, str]
    bob: tuple[str, str]

    def client(self, user: tuple[str, str]) -> Any:
        return s3_client(self.endpoint, *user)

    def place(self, user: tuple[str, str], bucket: str, **more: Any) -> Any:
        given = {"endpoint": self.endpoint, "access_key": user[0], "secret_key": user[1], **more}
        return open_place(f"s3://{bucket}", given)

    def sns(self) -> Any:
        import boto3

        return boto3.client(
            "sns", endpoint_url=self.endpoint, region_name="default",
            aws_access_key_id=self.alice[0], aws_secret_access_key=self.alice[1],
        )  # fmt: skip


@pytest.fixture(scope="module")
def ceph() -> Ceph:
    found = engine_environment(["ceph"])
    alice, bob = (tuple(found[name].split(":")) for name in ("S3_ALICE", "S3_BOB"))
    return Ceph(found["S3_ENDPOINT_URL"], alice, bob)


@pytest.fixture
def bucket(ceph: Ceph) -> Iterator[str]:
    client, name = ceph.client(ceph.alice), f"volvox-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    yield name
    for one in client.list_objects_v2(Bucket=name).get("Contents", []):
        client.delete_object(Bucket=name, Key=one["Key"])
    client.delete_bucket(Bucket=name)


@pytest.fixture
def hooks(bucket: str) -> Iterator[tuple[str, Inbox]]:
    """Where the webhook listens, and what it was told."""
    inbox = Inbox()
    sender = Sender("ceph", places=(f"s3://{bucket}/in",), trusted=True, token=hashed(TOKEN))
    with listening(webhooks.create(inbox.record, lambda: [sender])) as url:
        yield url, inbox


def notifying(ceph: Ceph, bucket: str, endpoint: str, **more: str) -> str:
    topic = ceph.sns().create_topic(Name=bucket, Attributes={"push-endpoint": endpoint, **more})["TopicArn"]
    configuration = {"TopicConfigurations": [{"Id": "1", "TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
    ceph.client(ceph.alice).put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration
    )
    return topic


def _until(true: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def test_an_upload_is_told_by_the_server_itself(
    ceph: Ceph, bucket: str, hooks: tuple[str, Inbox], tmp_path: Path
) -> None:
    url, inbox = hooks
    topic = notifying(ceph, bucket, f"{url}/events/{TOKEN}")
    place = ceph.place(ceph.alice, bucket)
    (tmp_path / "a").write_bytes(b"1")
    keys = ["in/a b.png", "in/a+b", "in/a%2Fb", "in/ü ß", "in/deep/er/x"]
    for key in [*keys, "elsewhere/a"]:
        assert place.put(key, tmp_path / "a")
    _until(lambda: len(inbox.arrivals) >= len(keys))
    ceph.sns().delete_topic(TopicArn=topic)
    assert inbox.keys == keys, "neither those elsewhere, nor by which the server was found out"
    assert {(one.place, one.source, one.user) for one in inbox.arrivals} == {(f"s3://{bucket}", "webhook", "alice")}
    for one in inbox.arrivals:
        assert place.find(one.key, one.version) is not None


def test_a_persistent_topic_tells_again_until_it_was_kept(
    ceph: Ceph, bucket: str, hooks: tuple[str, Inbox], tmp_path: Path
) -> None:
    url, inbox = hooks
    topic = notifying(ceph, bucket, f"{url}/events/{TOKEN}", persistent="true")
    inbox.failures = [Unavailable("locked")] * 2
    (tmp_path / "a").write_bytes(b"1")
    ceph.place(ceph.alice, bucket).put("in/a", tmp_path / "a")
    _until(lambda: inbox.keys == ["in/a"], 60)
    ceph.sns().delete_topic(TopicArn=topic)
    assert inbox.calls >= 3


def test_a_notification_that_was_not_kept_is_found_by_a_sweep(
    ceph: Ceph, bucket: str, hooks: tuple[str, Inbox], tmp_path: Path
) -> None:
    from volvox.events.sweep import Sweep

    url, inbox = hooks
    topic = notifying(ceph, bucket, f"{url}/events/{TOKEN}")
    place = ceph.place(ceph.alice, bucket)
    (tmp_path / "a").write_bytes(b"1")
    place.put("in/told", tmp_path / "a")
    _until(lambda: len(inbox.arrivals) == 1)
    inbox.failures = [Unavailable("locked")] * 10
    place.put("in/lost", tmp_path / "a")
    ceph.sns().delete_topic(TopicArn=topic)
    inbox.failures = []
    told = set(inbox.keys)
    assert inbox.calls >= 2
    assert told == {"in/told"}

    async def unknown(place: str, found: Any) -> Any:
        return [one for one in found if one.key not in told]

    swept = asyncio.run(Sweep(place, "in/", unknown=unknown, mark=tmp_path / "mark").once(inbox.record))
    assert inbox.keys == ["in/told", "in/lost"]
    assert (swept.listed, swept.told) == (2, 1)


def test_a_bucket_of_somebody_else_is_refused_with_a_sentence(ceph: Ceph, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    ceph.place(ceph.alice, bucket).put("in/a", tmp_path / "a")
    place = ceph.place(ceph.bob, bucket)
    for ask in (
        lambda: place.find("in/a"),
        lambda: list(place.list()),
        lambda: place.fetch("in/a", tmp_path / "target"),
        lambda: place.put("in/b", tmp_path / "a"),
        lambda: place.remove("in/a"),
    ):
        with pytest.raises(InvalidInput, match=f"the credentials for the place at s3://{bucket} are refused") as told:
            ask()
        assert ceph.bob[1] not in str(told.value)
    assert not (tmp_path / "target").exists()
    assert [one.key for one in ceph.place(ceph.alice, bucket).list()] == ["in/a"]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (
            {"secret_key": "wrong"},
            "the secret key .* is not the access key's; correct .* in the credentials of the place",
        ),
        ({"access_key": "nobody"}, "does not know the access key"),
    ],
)
def test_wrong_credentials_are_told(ceph: Ceph, bucket: str, given: dict[str, str], what: str) -> None:
    place = ceph.place(ceph.alice, bucket, **given)
    for ask in (lambda: place.find("in/a"), lambda: list(place.list())):
        with pytest.raises(InvalidInput, match=what):
            ask()
