"""Buckets tell of new objects, and what others have in them stays."""

from __future__ import annotations

import copy

import pytest

from tests.volvox.runtimes.aws.fakes import Buckets, FakeAccount
from volvox.errors import InvalidInput, Unavailable
from volvox.functions.definition import Function
from volvox.runtimes.aws import triggers

ARN = "arn:aws:sqs:eu-west-1:123456789012:volvox-f"
THEIRS = {
    "QueueConfigurations": [
        {"Id": "theirs", "QueueArn": "arn:aws:sqs:x:y:z", "Events": ["s3:ObjectRemoved:*"],
         "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": "in/"}]}}},
        {"Id": "volvox-f-more-0", "QueueArn": "arn:aws:sqs:x:y:more", "Events": ["s3:ObjectCreated:*"],
         "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "elsewhere/"}]}}},
    ],
    "TopicConfigurations": [
        {"Id": "topic", "TopicArn": "arn:aws:sns:x:y:z", "Events": ["s3:ReducedRedundancyLostObject"]},
    ],
    "EventBridgeConfiguration": {},
}  # fmt: skip


def function(**more) -> Function:
    inputs = [{"url": "s3://lake/in"}, {"url": "s3://lake/in"}, {"url": "s3://lake/more"}, {"url": "s3://other"},
              {"url": "s3+https://ceph.example.org/lake"}, {"url": "/data/in"}]  # fmt: skip
    return Function(**{"name": "f", "model": "m", "inputs": inputs, **more})


def test_every_folder_in_a_bucket_of_amazon_s_is_watched_once() -> None:
    assert triggers.watched(function()) == [
        triggers.Watched("lake", "in/"), triggers.Watched("lake", "more/"), triggers.Watched("other", ""),
    ]  # fmt: skip


def test_ours_are_added_beside_those_of_others_once_and_removed_alone() -> None:
    s3 = Buckets(lake=copy.deepcopy(THEIRS))
    account = FakeAccount(s3=s3)
    assert len(triggers.ensure(account, function(), "QueueConfigurations", ARN)) == 2
    assert s3.written == 2
    made = s3.notifications["lake"]
    assert made["QueueConfigurations"][:2] == THEIRS["QueueConfigurations"]
    assert {name: made[name] for name in ("TopicConfigurations", "EventBridgeConfiguration")} == {
        name: THEIRS[name] for name in ("TopicConfigurations", "EventBridgeConfiguration")
    }
    ours = made["QueueConfigurations"][2:]
    assert [one["Id"] for one in ours] == ["volvox-f-0", "volvox-f-1"] and all(one["QueueArn"] == ARN for one in ours)
    assert s3.notifications["other"]["QueueConfigurations"][0].get("Filter") is None
    assert triggers.ensure(account, function(), "QueueConfigurations", ARN) == [] and s3.written == 2
    assert triggers.drift(account, function(), "QueueConfigurations", ARN) == []
    triggers.remove(account, function())
    assert s3.notifications["lake"] == THEIRS and s3.notifications["other"] == {}


def test_a_bucket_that_is_no_input_any_more_tells_nothing_more() -> None:
    s3 = Buckets(lake=copy.deepcopy(THEIRS))
    account, now = FakeAccount(s3=s3), function(inputs=[{"url": "s3://other/in"}])
    triggers.ensure(account, function(), "QueueConfigurations", ARN)
    triggers.ensure(account, now, "QueueConfigurations", ARN)
    triggers.remove(account, function(), but=now)
    assert s3.notifications["lake"] == THEIRS
    assert triggers.drift(account, now, "QueueConfigurations", ARN) == []


def test_what_others_changed_is_told_and_mended() -> None:
    s3 = Buckets()
    account = FakeAccount(s3=s3)
    triggers.ensure(account, function(), "QueueConfigurations", ARN)
    s3.notifications["lake"]["QueueConfigurations"][0]["QueueArn"] = "arn:aws:sqs:x:y:stolen"
    (told,) = triggers.drift(account, function(), "QueueConfigurations", ARN)
    assert "lake" in told
    triggers.ensure(account, function(), "QueueConfigurations", ARN)
    assert triggers.drift(account, function(), "QueueConfigurations", ARN) == []


def test_a_path_is_one_never_both() -> None:
    s3 = Buckets()
    account = FakeAccount(s3=s3)
    triggers.ensure(account, function(), "LambdaFunctionConfigurations", "arn:aws:lambda:x:y:function:volvox-f:live")
    assert triggers.drift(account, function(), "QueueConfigurations", ARN) != []
    triggers.ensure(account, function(), "QueueConfigurations", ARN)
    assert set(s3.notifications["lake"]) == {"QueueConfigurations"}


def test_a_folder_that_another_tool_is_told_of_is_refused_before_s3_does() -> None:
    theirs = {"LambdaFunctionConfigurations": [
        {"Id": "scar", "LambdaFunctionArn": "arn:l", "Events": ["s3:ObjectCreated:*"],
         "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/sub/"}]}}}
    ]}  # fmt: skip
    s3 = Buckets(lake=theirs)
    with pytest.raises(InvalidInput, match=r"tells scar of objects below 'in/sub/'"):
        triggers.ensure(FakeAccount(s3=s3), function(), "QueueConfigurations", ARN)
    assert s3.written == 0


def test_two_who_write_at_one_moment_do_not_take_each_other_s_away() -> None:
    class Raced(Buckets):
        def put_bucket_notification_configuration(self, Bucket, NotificationConfiguration):
            super().put_bucket_notification_configuration(Bucket, NotificationConfiguration)
            if self.written in lost:
                self.notifications[Bucket] = {}

    lost = {1}
    s3 = Raced()
    triggers.ensure(FakeAccount(s3=s3), function(), "QueueConfigurations", ARN)
    assert len(s3.notifications["lake"]["QueueConfigurations"]) == 2
    lost |= set(range(100))
    with pytest.raises(Unavailable, match="others write"):
        triggers.ensure(FakeAccount(s3=Raced()), function(), "QueueConfigurations", ARN)
