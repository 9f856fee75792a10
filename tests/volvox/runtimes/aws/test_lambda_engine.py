"""Lambda functions on the AWS engine: they really run."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable

import boto3
import pytest

from tests.volvox.runtimes.aws.cloud import Cloud, Killed, only
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.inbox import NewJob
from volvox.runtimes.aws import checks, triggers
from volvox.runtimes.aws.account import Account
from volvox.runtimes.aws.lambda_runtime import LambdaRuntime

pytestmark = [pytest.mark.aws, pytest.mark.docker, pytest.mark.apart]

SCRIPT = """#!/bin/sh
test "$(cat "$INPUT_FILE_PATH")" = fails && { echo "no layers" >&2; exit 3; }
tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH").txt"
"""
THEIRS = {"Id": "theirs", "Events": ["s3:ObjectRemoved:*"],
          "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "in/"}]}}}  # fmt: skip


def runtime(cloud: Cloud) -> LambdaRuntime:
    return LambdaRuntime(cloud.folder / "runtime", cloud.models)


async def deployed(cloud: Cloud, function: Function) -> LambdaRuntime:
    made = runtime(cloud)
    await made.deploy(function, version=function.version)
    return made


def test_an_object_is_told_to_the_queue_and_answered_where_it_lies(cloud: Cloud) -> None:
    function = cloud.function("lambda", script=SCRIPT)
    theirs = boto3.client("sqs").create_queue(QueueName=f"theirs-{cloud.name}")["QueueUrl"]
    arn = Account().arn("sqs", f"theirs-{cloud.name}")
    config = {"QueueConfigurations": [{**THEIRS, "QueueArn": arn}]}
    cloud.s3.put_bucket_notification_configuration(Bucket=cloud.bucket, NotificationConfiguration=config)

    async def test() -> None:
        made = await deployed(cloud, function)
        good, bad = cloud.call("in/ann/ü b+1.txt", b"content"), cloud.call("in/b.txt", b"fails")
        outcomes = await made.invoke(cloud.name, [good, bad])
        assert [one.kind for one in outcomes] == ["", "failed"], outcomes
        assert outcomes[0].outputs == (
            {"url": f"s3://{cloud.bucket}", "key": "out/ü b+1.txt.txt", "size": 7},
        )  # fmt: skip
        assert outcomes[1].exit_code == 3 and "no layers" in outcomes[1].reason
        assert cloud.objects() == {"out/ü b+1.txt.txt": "CONTENT"}
        told = await asyncio.to_thread(cloud.until, lambda: [one for one in cloud.messages() if "Records" in one])
        assert all(one["Records"][0]["s3"]["bucket"]["name"] == cloud.bucket for one in told)
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert cloud.left() == [] and cloud.objects() == {"out/ü b+1.txt.txt": "CONTENT"}
    after = cloud.s3.get_bucket_notification_configuration(Bucket=cloud.bucket)
    assert [one["Id"] for one in after["QueueConfigurations"]] == ["theirs"]
    boto3.client("sqs").delete_queue(QueueUrl=theirs)


def test_deployed_twice_nothing_is_written(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.watch(monkeypatch)
    function = cloud.function("lambda", script=SCRIPT)

    async def test() -> None:
        made = await deployed(cloud, function)
        first = list(cloud.writes)
        await made.deploy(function, version=function.version)
        again = runtime(cloud)
        await again.deploy(function, version=function.version)
        assert cloud.writes == first and "CreateFunction" in first
        await made.remove(cloud.name)
        await made.close()
        await again.close()

    asyncio.run(test())
    assert cloud.left() == []


@pytest.mark.parametrize("trigger", ["inbox", "direct"])
@pytest.mark.parametrize(
    "numbers", [(2, 5, 7), pytest.param(range(1, 100), marks=pytest.mark.soak)], ids=["some", "all"]
)
def test_killed_at_any_write_and_run_again_it_is_complete_and_removable(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, trigger: str, numbers: Iterable[int]
) -> None:
    cloud.watch(monkeypatch)
    settings = {"api_gateway": {"name": "api"}} if trigger == "direct" else {}
    function = cloud.function("lambda", script=SCRIPT, trigger=trigger, settings=settings)

    async def test(number: int) -> bool:
        cloud.writes.clear()
        cloud.dies_at = number
        made = runtime(cloud)
        try:
            await made.deploy(function, version=function.version)
        except Killed:
            pass
        else:
            cloud.dies_at = 0
            await made.remove(cloud.name)
            return False
        finally:
            cloud.dies_at = 0
            await made.close()
        again = runtime(cloud)
        if number % 2:  # removed at once, nothing is left; else deployed again, it answers
            await again.deploy(function, version=function.version)
            assert len(cloud.left()) == len(set(cloud.left())), "nothing is there twice"
            assert len([one for one in cloud.left() if one.startswith("API")]) == (1 if trigger == "direct" else 0)
            cloud.writes.clear()
            await again.deploy(function, version=function.version)
            assert cloud.writes == [], "deployed twice nothing is written"
            outcome = only(await again.invoke(cloud.name, [cloud.call("in/a.txt")]))
            assert outcome.kind == "", outcome
        await again.remove(cloud.name)
        await again.close()
        return True

    number = 0
    for number in numbers:
        if not asyncio.run(test(number)):
            break
        assert cloud.left() == [], number
        notifications = cloud.s3.get_bucket_notification_configuration(Bucket=cloud.bucket)
        assert not any(name.endswith("Configurations") for name in notifications)
    assert number > 6


def test_what_others_changed_is_told_and_deploying_mends_only_that(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.watch(monkeypatch)
    function = cloud.function("lambda", script=SCRIPT)

    async def test() -> None:
        made = await deployed(cloud, function)
        assert checks.drifted(Account(), function) == []
        cloud.s3.put_bucket_notification_configuration(Bucket=cloud.bucket, NotificationConfiguration={})
        allowed = [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["*"]}]
        policy = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        name = f"volvox-{cloud.name}"
        boto3.client("iam").put_role_policy(RoleName=name, PolicyName="volvox", PolicyDocument=policy)
        found = checks.drifted(Account(), function)
        assert len(found) == 2 and "does not allow" in found[0] and cloud.bucket in found[1]
        cloud.writes.clear()
        await made.deploy(function, version=function.version)
        assert sorted(cloud.writes) == ["PutBucketNotificationConfiguration", "PutRolePolicy"]
        assert checks.drifted(Account(), function) == []
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())


def test_buckets_call_it_without_us_and_what_became_of_it_is_known(cloud: Cloud) -> None:
    function = cloud.function("lambda", script=SCRIPT, trigger="direct")

    async def test() -> None:
        made = await deployed(cloud, function)
        queue = triggers.queue_arn(Account(), cloud.name)
        told = cloud.s3.get_bucket_notification_configuration(Bucket=cloud.bucket)
        assert queue not in json.dumps(told) and len(told["LambdaFunctionConfigurations"]) == 1
        version = cloud.put("in/a.txt", b"content")
        bad = cloud.put("in/b.txt", b"fails")
        await asyncio.to_thread(cloud.until, lambda: len(cloud.objects(f".volvox/{cloud.name}/done/")) == 2)
        assert cloud.objects() == {"out/a.txt.txt": "CONTENT"}
        place = f"s3://{cloud.bucket}"
        outcome = await made.answered(cloud.name, NewJob(cloud.name, place, "in/a.txt", version).id)
        assert outcome is not None and outcome.kind == ""
        assert outcome.outputs == ({"url": place, "key": "out/a.txt.txt", "size": 7},)
        failed = await made.answered(cloud.name, NewJob(cloud.name, place, "in/b.txt", bad).id)
        assert failed is not None and (failed.kind, failed.exit_code) == ("failed", 3)
        assert await made.answered(cloud.name, "0" * 32) is None
        inbox = cloud.function("lambda", script=SCRIPT)
        await made.deploy(inbox, version=inbox.version)  # the other path instead of this one
        told = cloud.s3.get_bucket_notification_configuration(Bucket=cloud.bucket)
        assert "LambdaFunctionConfigurations" not in told and queue in json.dumps(told)
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert cloud.left() == [] and cloud.objects(".volvox/") == {}


def test_files_of_here_go_with_the_call_and_large_ones_by_the_bucket(cloud: Cloud) -> None:
    function = cloud.function(
        "lambda", script='wc -c < "$INPUT_FILE_PATH"; cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/copy"'
    )

    async def test() -> None:
        made = await deployed(cloud, function)
        for size in (10, 9 << 20):
            path = cloud.folder / f"file-{size}"
            path.write_bytes(b"x" * size)
            asked = cloud.call("in/unused")
            from dataclasses import replace

            asked = replace(asked, input=path, place="file:///somewhere", key="a.bin", relative="a.bin")
            outcome = only(await made.invoke(cloud.name, [asked]))
            assert (outcome.kind, outcome.printed.strip()) == ("", str(size)), outcome
            assert asked.output is not None and (asked.output / "copy").stat().st_size == size
            assert outcome.outputs == ()
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert cloud.objects(".volvox/") == {}


def test_an_image_for_another_processor_is_refused_before_anything_is_made(cloud: Cloud) -> None:
    function = cloud.function("lambda", script=SCRIPT, settings={"lambda": {"architectures": ["arm64"]}})

    async def test() -> None:
        with pytest.raises(InvalidInput, match="built for x86_64, and it is to run on arm64"):
            await deployed(cloud, function)

    asyncio.run(test())
    assert cloud.left() == []


def test_a_call_costs_little_over_the_engine_s_own(cloud: Cloud) -> None:
    """What is ours of a warm call; the figures are printed, the bound is a gross one."""
    function = cloud.function("lambda", command=["/bin/true"])

    async def test() -> None:
        made = await deployed(cloud, function)
        seconds = []
        for _ in range(6):
            asked = cloud.call("in/a.txt")
            began = time.monotonic()
            outcome = only(await made.invoke(cloud.name, [asked]))
            seconds.append(time.monotonic() - began)
            assert outcome.kind == ""
        print(f"cold {seconds[0]:.3f} s, warm {min(seconds[1:]):.3f} s")
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
