"""Every form of notification, what is believed of it, and that nothing else than a refusal comes of any JSON."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.errors import InvalidInput
from volvox.events import Sender, parse
from volvox.events.writing import notification
from volvox.inbox import Arrival

NAMES = ["in/a b.png", "in/a+b", "in/a%2Fb", "in/ü ß/é.txt", "in/日本", "in/'\"<&>", "in/a/../b", "in/" + "x" * 1000]


def _record(key: str, source: str = "aws:s3", name: str = "ObjectCreated:Put", **more: Any) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": source,
        "eventName": name,
        "eventTime": "2026-01-01T00:00:00.000Z",
        "userIdentity": {"principalId": "alice"},
        "requestParameters": {"sourceIPAddress": "10.0.0.1"},
        "s3": {"bucket": {"name": "bucket", "arn": "a"}, "object": {"key": key, "size": 1, "eTag": "e", **more}},
    }


def _keys(told: Any, sender: Sender | None = None) -> list[str]:
    return [one.key for one in parse(json.dumps(told), sender or Sender()).arrivals]


@pytest.mark.parametrize("key", NAMES)
@pytest.mark.parametrize(
    ("source", "quoted"),
    [("aws:s3", lambda key: quote_plus(key, safe="/")), ("aws:s3", lambda key: quote(key, safe="")),
     ("minio:s3", quote_plus), ("ceph:s3", lambda key: key)],
    ids=["S3", "moto", "MinIO", "Ceph"],
)  # fmt: skip
def test_the_key_is_the_objects_own_in_every_dialect(source: str, quoted: Any, key: str) -> None:
    assert _keys({"Records": [_record(quoted(key), source)]}) == [key]


def test_every_record_counts_and_has_a_notification_of_its_own() -> None:
    told = {"EventName": "s3:ObjectCreated:Put", "Key": "bucket/x", "Records": [_record("a"), _record("b")]}
    first, second = parse(json.dumps(told)).arrivals
    assert (first.place, first.key, first.source, first.version) == ("s3://bucket", "a", "webhook", "")
    assert [one["s3"]["object"]["key"] for one in json.loads(second.event)["Records"]] == ["b"]
    assert json.loads(second.event)["EventName"] == "s3:ObjectCreated:Put"


def test_a_version_id_is_kept_and_null_is_none() -> None:
    told = {"Records": [_record("a", versionId="v1"), _record("b", versionId="null"), _record("c", versionId="")]}
    assert [one.version for one in parse(json.dumps(told)).arrivals] == ["v1", "", ""]


@pytest.mark.parametrize(
    "told",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "t", "Bucket": "bucket", "RequestId": "1"},
        {"Records": [_record("a", name="ObjectRemoved:Delete"), _record("a", name="s3:ObjectAccessed:Get")]},
        {"Records": [_record("folder/")]},
        {"Records": [_record("in/.incoming-0123")]},
        {"Records": []},
        {"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}},
        [],
        {"Type": "UnsubscribeConfirmation", "TopicArn": "t"},
    ],
)
def test_what_tells_of_no_new_file_is_acknowledged_and_empty(told: Any) -> None:
    assert _keys(told) == []


def test_eventbridge_names_keys_as_they_are() -> None:
    told = {
        "version": "0", "source": "aws.s3", "detail-type": "Object Created",
        "detail": {"bucket": {"name": "bucket"}, "object": {"key": "in/a+b%20", "version-id": "v"}, "requester": "1"},
    }  # fmt: skip
    (found,) = parse(json.dumps(told), source="sqs").arrivals
    assert (found.place, found.key, found.version, found.source, found.user) == (
        "s3://bucket",
        "in/a+b%20",
        "v",
        "sqs",
        "",
    )


def test_envelopes_are_opened() -> None:
    inner = {"Records": [_record("a")]}
    text = json.dumps(inner)
    sns = {"Type": "Notification", "TopicArn": "t", "Message": text}
    for told in (
        sns,
        [inner],
        {"event": inner, "storage_provider": "minio.other"},
        {"event": text, "storage_provider": "minio.other"},
        {"httpMethod": "POST", "body": text, "headers": {}, "queryStringParameters": None},
        {"httpMethod": "POST", "body": base64.b64encode(text.encode()).decode(), "isBase64Encoded": True},
        {"requestContext": {"http": {}}, "body": text},
        {"Records": [{"EventSource": "aws:sns", "Sns": sns}]},
        {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(sns)}]},
    ):
        assert _keys(told) == ["a"], told


def test_a_file_that_an_api_gateway_passes_on_is_no_notification() -> None:
    told = {"httpMethod": "POST", "body": base64.b64encode(b"\x89PNG").decode(), "isBase64Encoded": True}
    with pytest.raises(InvalidInput, match="holds a file and no notification"):
        parse(json.dumps(told))


def test_a_subscription_is_confirmed_only_for_topics_that_are_named() -> None:
    address = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
    told = {"Type": "SubscriptionConfirmation", "TopicArn": "arn:t", "SubscribeURL": address, "Token": "t"}
    assert parse(json.dumps(told), Sender("one", topics=("arn:t",))).confirm == address
    for sender in (Sender("one"), Sender("one", topics=("arn:other",))):
        with pytest.raises(InvalidInput, match="topic"):
            parse(json.dumps(told), sender)
    host = "sns.eu-west-1.amazonaws.com"
    for wrong in (
        f"http://{host}/",
        f"https://e.com/{host}",
        f"https://{host}.e.com/",
        f"https://{host}@e.com/",
        "https://[",
        "x",
    ):
        with pytest.raises(InvalidInput, match="none of Amazon SNS"):
            parse(json.dumps({**told, "SubscribeURL": wrong}), Sender("one", topics=("arn:t",)))


def test_onedata_needs_to_be_told_its_provider() -> None:
    told = {
        "Key": "/my space/in/a+b %20",
        "Records": [{"eventSource": "OneTrigger", "objectKey": "a", "objectId": "1"}],
    }
    sender = Sender("one", places=("onedata://plg.example.org/my%20space/in",))
    (found,) = parse(json.dumps(told), sender).arrivals
    assert (found.place, found.key) == ("onedata://plg.example.org/my%20space", "in/a+b %20")
    with pytest.raises(InvalidInput, match="may not speak of the space 'my space'; its places are: none"):
        parse(json.dumps(told))


def test_dcache_tells_names_in_a_folder_that_the_sender_is_given() -> None:
    sender = Sender("one", places=("webdavs://dcache.example.org:2880/pnfs/x/in",))

    def told(*masks: str) -> dict[str, Any]:
        return {"event": {"name": "image2.jpg", "mask": list(masks)}, "subscription": "https://d/api/v1/s/AACvM"}

    (found,) = parse(json.dumps(told("IN_CLOSE_WRITE")), sender).arrivals
    assert (found.place, found.key) == ("webdavs://dcache.example.org:2880", "pnfs/x/in/image2.jpg")
    assert _keys(told("IN_CREATE"), sender) == ["pnfs/x/in/image2.jpg"]
    for masks in (("IN_DELETE",), ("IN_CREATE", "IN_ISDIR"), ()):
        assert _keys(told(*masks), sender) == []
    with pytest.raises(InvalidInput, match="does not say where its files are"):
        parse(json.dumps(told("IN_CREATE")))


def test_rucio_files_are_where_it_says_or_where_it_puts_them() -> None:
    sender = Sender("one", places=("webdavs://se.example.org/rucio",))
    said = {"scope": "user.jdoe", "name": "f.root", "dst-url": "davs://se.example.org:443/rucio/x/f.root"}
    assert _keys({"event_type": "transfer-done", "payload": said}, sender) == ["rucio/x/f.root"]
    elsewhere = {**said, "dst-url": "davs://other.example.org/rucio/x/f.root"}
    hashed = "rucio/user/jdoe/34/d1/f.root"
    assert _keys({"event_type": "transfer-done", "payload": elsewhere}, sender)[0].startswith("rucio/user/jdoe/")
    assert len(_keys({"event": {"scope": "user.jdoe", "name": "f.root"}}, sender)[0]) == len(hashed)
    for kind in ("deletion-done", "transfer-failed", "transfer-submitted", "lost"):
        assert _keys({"event_type": kind, "payload": said}, sender) == []


def test_a_sender_speaks_only_of_its_places() -> None:
    sender = Sender("one", places=("s3+https://minio.example.org:9000/bucket/in",))
    found = parse(json.dumps({"Records": [_record("in/a"), _record("other/a")]}), sender).arrivals
    assert [(one.place, one.key) for one in found] == [("s3+https://minio.example.org:9000/bucket", "in/a")]
    strange = {"Records": [{**_record("in/a"), "s3": {"bucket": {"name": "strange"}, "object": {"key": "in/a"}}}]}
    with pytest.raises(InvalidInput, match="sender 'one' may not speak of the bucket 'strange'"):
        parse(json.dumps(strange), sender)


def test_a_user_is_believed_only_from_a_sender_that_is_trusted() -> None:
    told = json.dumps({"Records": [_record("in/a")]})
    assert parse(told).arrivals[0].user == ""
    assert parse(told, Sender("one", trusted=True)).arrivals[0].user == "alice"
    oscar = {"Records": [{**_record("in/a"), "requestParameters": {"principalId": "bob"}}]}
    assert parse(json.dumps(oscar), Sender("one", trusted=True)).arrivals[0].user == "bob"


def test_arrivals_are_for_the_function_of_the_sender() -> None:
    told = json.dumps({"Records": [_record("in/a")]})
    assert parse(told, Sender("one", function="plants")).arrivals[0].function == "plants"


@pytest.mark.parametrize(
    ("told", "what"),
    [
        ("", "no JSON"), ("{", "no JSON"), ("[" * 100_000, "no JSON"), ("[" * 50 + "]" * 50, "too many envelopes"),
        ("1", "is a number, in no known form"), ("{}", "an object with nothing, in no known form"),
        ('{"hello": 1, "world": 2}', "an object with 'hello', 'world', in no known form"),
        ('{"Records": [1]}', "in no known form"), ('{"Records": [{}]}', "comes from 'None'"),
        ('{"Records": [{"eventSource": "aws:dynamodb"}]}', "comes from 'aws:dynamodb'"),
        ('{"Records": [{"eventSource": "aws:s3"}]}', "no 's3' where"),
        ('{"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": 1}}}]}', "no text 'key' where"),
        (json.dumps({"Records": [_record("a", "ceph:s3")]}).replace('"name": "bucket"', '"name": "a/b"'),
         "'a/b' is the name of no bucket"),
        (json.dumps({"Records": [_record("a\0", "ceph:s3")]}), "has a NUL"),
    ],
)  # fmt: skip
def test_what_is_none_of_the_forms_is_refused_with_a_sentence(told: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        parse(told)


def test_the_notification_that_is_made_for_scripts_can_be_read_again() -> None:
    for key in NAMES:
        (found,) = parse(notification("s3://bucket", key, size=3, user="alice"), Sender("o", trusted=True)).arrivals
        assert (found.place, found.key, found.user) == ("s3://bucket", key, "alice")
    told = notification("onedata://host/space", "in/a b")
    assert parse(told, Sender("o", places=("onedata://host/space",))).arrivals[0].key == "in/a b"
    assert json.loads(notification("file:///data/in", "a"))["Key"] == "in/a"


_WORDS = st.sampled_from(
    ["Records", "eventSource", "aws:s3", "ceph:s3", "s3", "bucket", "object", "key", "name", "OneTrigger", "Key",
     "event", "mask", "scope", "event_type", "payload", "Type", "Notification", "TopicArn", "Message", "httpMethod",
     "body", "storage_provider", "source", "aws.s3", "detail-type", "Object Created", "detail", "IN_CREATE", "aws:sns",
     "Sns", "EventSource", "isBase64Encoded", "requestContext", "transfer-done", "eventName", "versionId", "b" * 3]
)  # fmt: skip
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(max_size=8)
_ANY = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
_S3 = st.fixed_dictionaries(
    {"eventSource": st.sampled_from(["aws:s3", "minio:s3", "ceph:s3", "OneTrigger"])},
    optional={
        "eventName": _ANY,
        "userIdentity": _ANY,
        "requestParameters": _ANY,
        "s3": st.fixed_dictionaries(
            {
                "bucket": st.fixed_dictionaries({"name": st.just("bucket") | _LEAVES}),
                "object": st.fixed_dictionaries({"key": st.text() | _LEAVES}, optional={"versionId": _LEAVES}),
            }
        ),
    },
)
_SENDERS = st.sampled_from(
    [
        Sender(),
        Sender("one", trusted=True, topics=("t",)),
        Sender("one", places=("webdavs://host/in", "onedata://host/space/in", "s3://bucket/in"), function="f"),
    ]
)


@given(st.one_of(_ANY, st.fixed_dictionaries({"Records": st.lists(_S3, max_size=3)}, optional={"Key": _ANY})), _SENDERS)
def test_any_json_gives_arrivals_or_a_refusal(told: Any, sender: Sender) -> None:
    try:
        found = parse(json.dumps(told), sender).arrivals
    except InvalidInput as error:
        assert "\n" not in str(error)
        return
    for one in found:
        assert isinstance(one, Arrival)
        assert one.key and one.place
        assert "\0" not in one.key + one.user + one.version
        (one.key + one.user + one.version + one.event).encode()
        assert sender.trusted or not one.user


@given(st.binary(max_size=50))
def test_any_bytes_are_arrivals_or_a_refusal(body: bytes) -> None:
    try:
        parse(body)
    except InvalidInput:
        return
