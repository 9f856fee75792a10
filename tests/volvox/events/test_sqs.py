from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import engine_environment
from tests.volvox.events.recording import Inbox, until
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.events import sqs
from volvox.events.aside import Aside
from volvox.events.sqs import SqsQueue

pytest.importorskip("boto3")


@pytest.fixture
def aws() -> dict[str, Any]:
    """boto3's clients of the AWS engine."""
    import boto3

    found = engine_environment(["aws"])
    return {
        name: boto3.client(
            name, endpoint_url=found["AWS_ENDPOINT_URL"], region_name="us-east-1",
            aws_access_key_id="testing", aws_secret_access_key="testing-secret",
        )
        for name in ("sqs", "s3", "sns", "events")
    }  # fmt: skip


@pytest.fixture
def queue(aws: dict[str, Any]) -> Iterator[str]:
    url = aws["sqs"].create_queue(QueueName=f"volvox-{uuid.uuid4().hex[:12]}")["QueueUrl"]
    yield url
    aws["sqs"].delete_queue(QueueUrl=url)


@pytest.fixture
def bucket(aws: dict[str, Any]) -> Iterator[str]:
    name = f"volvox-{uuid.uuid4().hex[:12]}"
    aws["s3"].create_bucket(Bucket=name)
    yield name
    for one in aws["s3"].list_objects_v2(Bucket=name).get("Contents", []):
        aws["s3"].delete_object(Bucket=name, Key=one["Key"])
    aws["s3"].delete_bucket(Bucket=name)


def _arn(aws: dict[str, Any], url: str) -> str:
    return aws["sqs"].get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def _left(aws: dict[str, Any], url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = aws["sqs"].get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(told[name]) for name in names)


def _read(source: SqsQueue, inbox: Inbox, enough: Any) -> None:
    async def read() -> None:
        task = asyncio.create_task(source.run(inbox.record))
        try:
            await until(lambda: enough() or task.done())
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(read())


@pytest.mark.aws
def test_objects_of_a_bucket_are_told_through_its_queue(
    aws: dict[str, Any], queue: str, bucket: str, tmp_path: Path
) -> None:
    configuration = {"QueueConfigurations": [{"QueueArn": _arn(aws, queue), "Events": ["s3:ObjectCreated:*"]}]}
    aws["s3"].put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)
    keys = ["in/a b.png", "in/a+b", "in/a%2Fb", "in/ü", *(f"in/{number}" for number in range(12))]
    for key in keys:
        aws["s3"].put_object(Bucket=bucket, Key=key, Body=b"1")
    aws["s3"].delete_object(Bucket=bucket, Key="in/0")
    inbox = Inbox()
    source = SqsQueue(queue, Aside(tmp_path), client=lambda: aws["sqs"], wait_seconds=1)
    _read(source, inbox, lambda: len(inbox.arrivals) >= len(keys) and not _left(aws, queue))
    assert sorted(inbox.keys) == sorted(keys)
    assert {(one.place, one.source) for one in inbox.arrivals} == {(f"s3://{bucket}", "sqs")}
    assert not list(tmp_path.iterdir())


@pytest.mark.aws
def test_objects_are_told_through_sns_and_eventbridge_too(
    aws: dict[str, Any], queue: str, bucket: str, tmp_path: Path
) -> None:
    topic = aws["sns"].create_topic(Name=bucket)["TopicArn"]
    aws["sns"].subscribe(TopicArn=topic, Protocol="sqs", Endpoint=_arn(aws, queue))
    record = {"eventSource": "aws:s3", "s3": {"bucket": {"name": bucket}, "object": {"key": "in/by-sns"}}}
    aws["sns"].publish(TopicArn=topic, Message=json.dumps({"Records": [record]}))
    pattern = json.dumps({"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}})
    aws["events"].put_rule(Name=bucket, EventPattern=pattern)
    aws["events"].put_targets(Rule=bucket, Targets=[{"Id": "1", "Arn": _arn(aws, queue)}])
    aws["s3"].put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    aws["s3"].put_object(Bucket=bucket, Key="in/by eventbridge+", Body=b"1")
    inbox = Inbox()
    source = SqsQueue(queue, Aside(tmp_path), client=lambda: aws["sqs"], wait_seconds=1)
    _read(source, inbox, lambda: len(inbox.arrivals) >= 2)
    aws["events"].remove_targets(Rule=bucket, Ids=["1"])
    aws["events"].delete_rule(Name=bucket)
    aws["sns"].delete_topic(TopicArn=topic)
    assert sorted(inbox.keys) == ["in/by eventbridge+", "in/by-sns"]


@pytest.mark.aws
def test_a_message_is_deleted_only_when_the_inbox_has_it(
    aws: dict[str, Any], queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqs, "_PAUSE_SECONDS", (1.0, 1.0))
    record = {"eventSource": "aws:s3", "s3": {"bucket": {"name": "bucket"}, "object": {"key": "a"}}}
    aws["sqs"].send_message(QueueUrl=queue, MessageBody=json.dumps({"Records": [record]}))
    inbox = Inbox()
    inbox.failures = [Unavailable("locked")] * 100  # for as long as it is looked at
    source = SqsQueue(queue, Aside(tmp_path), client=lambda: aws["sqs"], wait_seconds=1)
    _read(source, inbox, lambda: len(inbox.failures) < 100)
    assert (inbox.arrivals, _left(aws, queue)) == ([], 1)
    inbox.failures.clear()
    _read(source, inbox, lambda: bool(inbox.arrivals) and not _left(aws, queue))
    assert inbox.keys == ["a"]


@pytest.mark.aws
def test_what_nobody_can_read_is_put_aside_and_holds_up_no_others(
    aws: dict[str, Any], queue: str, tmp_path: Path
) -> None:
    record = {"eventSource": "aws:s3", "s3": {"bucket": {"name": "bucket"}, "object": {"key": "a"}}}
    for body in ("hello", json.dumps({"Records": [record]}), '{"Event": "s3:TestEvent"}', '{"Records": [{}]}'):
        aws["sqs"].send_message(QueueUrl=queue, MessageBody=body)
    inbox = Inbox()
    inbox.failures = [InvalidInput("there is no such function")]  # of all together; then each is told alone
    source = SqsQueue(queue, Aside(tmp_path / "aside"), client=lambda: aws["sqs"], wait_seconds=1)
    _read(source, inbox, lambda: bool(inbox.arrivals) and not _left(aws, queue))
    assert inbox.keys == ["a"]
    aside = [json.loads(path.read_text()) for path in (tmp_path / "aside").iterdir()]
    assert sorted(one["body"] for one in aside) == ["hello", '{"Records": [{}]}']
    assert all(one["source"] == queue and one["reason"] for one in aside)


@pytest.mark.aws
def test_a_queue_that_is_not_there_is_told(aws: dict[str, Any], queue: str, tmp_path: Path) -> None:
    source = SqsQueue(queue + "-gone", Aside(tmp_path), client=lambda: aws["sqs"], wait_seconds=1)
    with pytest.raises(NotFound, match="there is no queue"):
        asyncio.run(source.run(Inbox().record))


class _Queue:
    """A client whose calls are scripted."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: list[Any] = []

    def __getattr__(self, call: str) -> Any:
        def ask(**asked: Any) -> Any:
            self.asked.append((call, asked))
            if call != "receive_message":
                return {}
            if not self.answers:
                time.sleep(0.2)
                return {}
            if isinstance(answer := self.answers.pop(0), Exception):
                raise answer
            return answer

        return ask


def _message(key: str) -> dict[str, str]:
    record = {"eventSource": "ceph:s3", "s3": {"bucket": {"name": "bucket"}, "object": {"key": key}}}
    return {"Body": json.dumps({"Records": [record]}), "ReceiptHandle": key}


def test_a_queue_that_does_not_answer_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError, ConnectTimeoutError

    monkeypatch.setattr(sqs, "_PAUSE_SECONDS", (0.01, 0.02))
    client, inbox = _Queue(), Inbox()
    client.answers = [
        ConnectTimeoutError(endpoint_url="x"),
        ClientError(
            {"Error": {"Code": "InternalError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}, "ReceiveMessage"
        ),
        {"Messages": [_message("a")]},
    ]
    _read(SqsQueue("queue", Aside(tmp_path), client=lambda: client), inbox, lambda: bool(inbox.arrivals))
    assert inbox.keys == ["a"]


def test_credentials_that_are_refused_are_told(tmp_path: Path) -> None:
    from botocore.exceptions import ClientError

    client = _Queue()
    client.answers = [ClientError({"Error": {"Code": "AccessDenied", "Message": "secret-token"}}, "ReceiveMessage")]
    with pytest.raises(InvalidInput, match="may not be read") as told:
        asyncio.run(SqsQueue("queue", Aside(tmp_path), client=lambda: client).run(Inbox().record))
    assert "secret-token" not in str(told.value)
    assert told.value.__cause__ is None


def test_messages_stay_hidden_while_the_inbox_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqs, "_HIDDEN_SECONDS", 0.3)
    client, inbox = _Queue(), Inbox()
    inbox.seconds = 0.5
    client.answers = [{"Messages": [_message("a")]}]
    _read(
        SqsQueue("queue", Aside(tmp_path), client=lambda: client),
        inbox,
        lambda: "delete_message_batch" in [call for call, _ in client.asked],
    )
    calls = [call for call, _ in client.asked]
    assert calls.count("change_message_visibility_batch") >= 2
    assert calls.index("delete_message_batch") > calls.index("change_message_visibility_batch")


def test_what_came_when_nobody_listened_any_more_is_given_back(tmp_path: Path) -> None:
    client = _Queue()
    client.answers = [{"Messages": [_message("a")]}]
    source = SqsQueue("queue", Aside(tmp_path), client=lambda: client)
    source._ended.set()
    source._received()
    assert client.asked[-1][0] == "change_message_visibility_batch"
    assert client.asked[-1][1]["Entries"][0]["VisibilityTimeout"] == 0


def test_only_the_newest_are_kept_aside(tmp_path: Path) -> None:
    aside = Aside(tmp_path, most=3)
    for number in range(6):
        path = aside.put("queue", f"body {number}", "why")
    assert aside.put("queue", "body 5", "why") == path
    assert len(list(tmp_path.glob("*.json"))) == 3
    assert path.stat().st_mode & 0o777 in (0o600, 0o644)
