"""Jobs of Batch and tasks of ECS on the AWS engine: containers that really run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from typing import Any

import boto3
import pytest

from tests.volvox.runtimes.aws.cloud import Cloud, Killed, only
from volvox.errors import InvalidInput
from volvox.functions import data
from volvox.functions.definition import Function
from volvox.runtimes.aws import checks
from volvox.runtimes.aws.account import Account
from volvox.runtimes.aws.batch_runtime import BatchRuntime
from volvox.runtimes.aws.ecs_runtime import EcsRuntime
from volvox.runtimes.aws.lambda_batch_runtime import LambdaBatchRuntime
from volvox.runtimes.aws.lambda_runtime import LambdaRuntime
from volvox.runtimes.opening import open_runtime
from volvox.settings import Home

pytestmark = [pytest.mark.aws, pytest.mark.docker, pytest.mark.apart]

SCRIPT = """#!/bin/sh
echo said
case "$(cat "$INPUT_FILE_PATH")" in
    fails) echo "no layers" >&2; exit 3;;
    sleeps) sleep 100;;
    takes) sleep 5;;
esac
tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH").txt"
"""
KEYS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
RUNTIMES: dict[str, Any] = {"batch": BatchRuntime, "ecs": EcsRuntime, "lambda-batch": LambdaBatchRuntime}


@pytest.fixture
def settings(cloud: Cloud) -> Iterator[dict[str, Any]]:
    """What the engine wants beside what AWS does: a service role by name, and its address in the container."""
    import os

    iam, role = boto3.client("iam"), f"tests-batch-service-{cloud.name}"
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    told = {name: os.environ[name] for name in KEYS}
    yield {"batch": {"service_role": arn, "environment": {"Variables": told}}}
    iam.delete_role(RoleName=role)


async def deployed(cloud: Cloud, kind: str, function: Function) -> Any:
    made = RUNTIMES[kind](cloud.folder / "runtime", cloud.models)
    await made.deploy(function, version=function.version)
    return made


@pytest.mark.parametrize("kind", ["batch", "ecs"])
def test_a_call_is_answered_by_a_container_of_its_own(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], kind: str
) -> None:
    cloud.watch(monkeypatch)
    function = cloud.function(kind, script=SCRIPT, settings=settings, scaling={"max_scale": 2})

    async def test() -> None:
        made = await deployed(cloud, kind, function)
        first = list(cloud.writes)
        await made.deploy(function, version=function.version)
        assert cloud.writes == first, "deployed twice nothing is written"
        good, bad = cloud.call("in/ann/ü b.txt"), cloud.call("in/b.txt", b"fails")
        outcomes = await made.invoke(cloud.name, [good, bad])
        assert [one.kind for one in outcomes] == ["", "failed"], outcomes
        assert outcomes[0].outputs == ({"url": f"s3://{cloud.bucket}", "key": "out/ü b.txt.txt", "size": 7},)
        assert (outcomes[1].exit_code, "no layers" in outcomes[1].reason) == (3, True)
        assert cloud.objects() == {"out/ü b.txt.txt": "CONTENT"}
        assert good.log is not None and "said\n" in good.log.read_text()
        assert (await made.status(cloud.name)).instances == ()
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert cloud.left() == [] and cloud.objects(".volvox/") == {}


@pytest.mark.parametrize("kind", ["batch", "ecs"])
def test_one_that_is_cancelled_is_ended(cloud: Cloud, settings: dict[str, Any], kind: str) -> None:
    function = cloud.function(kind, script=SCRIPT, settings=settings)

    async def test() -> None:
        made = await deployed(cloud, kind, function)
        asked = asyncio.create_task(made.invoke(cloud.name, [cloud.call("in/a.txt", b"sleeps")]))
        while not [one for one in (await made.status(cloud.name)).instances if one.state == "busy"]:
            await asyncio.sleep(0.2)
        (instance,) = (await made.status(cloud.name)).instances
        await asyncio.sleep(1)
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()
        for _ in range(100):
            seen = made.engine(Account(), function, {"queue": "", "definition": "", "cluster": "", "group": ""}).look(
                instance.id
            )
            if seen is None or seen.ended:
                break
            await asyncio.sleep(0.2)
        assert seen is None or seen.ended
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert cloud.left() == [] and cloud.objects(".volvox/") == {}


def test_a_changed_script_is_a_new_revision_and_the_old_one_goes(cloud: Cloud, settings: dict[str, Any]) -> None:
    async def test() -> None:
        for text in ("one", "two"):
            function = cloud.function("batch", script=f"echo {text}", settings=settings)
            made = await deployed(cloud, "batch", function)
            outcome = only(await made.invoke(cloud.name, [cloud.call("in/a.txt")]))
            assert (outcome.kind, outcome.printed) == ("", f"{text}\n"), outcome
            name = f"volvox-{cloud.name}"
            found = boto3.client("batch").describe_job_definitions(jobDefinitionName=name, status="ACTIVE")
            assert len(found["jobDefinitions"]) == 1
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert cloud.left() == []


@pytest.mark.parametrize("fails", [False, True])
def test_one_that_moves_to_another_runtime_keeps_what_both_need(
    cloud: Cloud, settings: dict[str, Any], fails: bool
) -> None:
    before = cloud.function("lambda", script=SCRIPT)
    more = {"resources": {"gpus": 1}} if fails else {}  # which Fargate has not
    now = cloud.function("ecs" if fails else "batch", script=SCRIPT, settings=settings, **more)

    async def test() -> None:
        first = LambdaRuntime(cloud.folder / "lambda", cloud.models)
        second = RUNTIMES[now.runtime](cloud.folder / now.runtime, cloud.models)
        await first.deploy(before, version=before.version)
        if fails:
            with pytest.raises(InvalidInput, match="GPU"):
                await second.deploy(now, version=now.version)
            left, last = before, first
        else:
            await second.deploy(now, version=now.version)
            await first.remove(cloud.name)
            left, last = now, second
        assert checks.drifted(Account(), left) == []
        assert only(await last.invoke(cloud.name, [cloud.call("in/a.txt")])).kind == ""
        await last.remove(cloud.name)

    asyncio.run(test())
    assert cloud.left() == [] and cloud.objects(".volvox/") == {}


def test_what_lambda_cannot_finish_goes_to_batch_once(cloud: Cloud, settings: dict[str, Any]) -> None:
    function = cloud.function("lambda-batch", script=SCRIPT, settings=settings, timeout_seconds=2)

    async def test() -> None:
        made = await deployed(cloud, "lambda-batch", function)
        quick, slow = (cloud.call(f"in/{name}.txt", body, timeout_seconds=2.0)
                       for name, body in (("a", b"content"), ("b", b"takes")))  # fmt: skip
        outcomes = await made.invoke(cloud.name, [quick, slow])
        assert [one.kind for one in outcomes] == ["", ""], outcomes
        assert cloud.objects() == {"out/a.txt.txt": "CONTENT", "out/b.txt.txt": "TAKES"}
        batch, queue = boto3.client("batch"), f"volvox-{cloud.name}"
        jobs = await asyncio.to_thread(  # the reply is there a moment before Batch says that the job has ended
            cloud.until, lambda: batch.list_jobs(jobQueue=queue, jobStatus="SUCCEEDED")["jobSummaryList"]
        )
        assert len(jobs) == 1
        assert slow.log is not None and "it goes to Batch" in slow.log.read_text()
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert cloud.left() == [] and cloud.objects(".volvox/") == {}


def everything(cloud: Cloud) -> list[str]:
    """What there is of the function, by its name and by its tags; revisions of one thing are not told apart.

    ECS keeps services and task definitions that were removed, with their tags; of these only active ones count.
    """
    tagged = boto3.client("resourcegroupstaggingapi").get_paginator("get_resources")
    wanted = [{"Key": "volvox:function", "Values": [cloud.name]}]
    found = [
        one["ResourceARN"] for page in tagged.paginate(TagFilters=wanted) for one in page["ResourceTagMappingList"]
    ]
    arns = [one for one in found if ":task-definition/" not in one and ":service/" not in one]
    return sorted(re.sub(r":\d+$", "", one) for one in (*cloud.left(), *arns))


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        pytest.param("batch", 0, id="batch"),
        pytest.param("ecs", 0, id="ecs", marks=pytest.mark.soak),
        pytest.param("ecs", 1, id="service", marks=pytest.mark.soak),
    ],
)
@pytest.mark.parametrize(
    "numbers", [(2, 4, 6), pytest.param(range(1, 100), marks=pytest.mark.soak)], ids=["some", "all"]
)
def test_killed_at_any_write_and_run_again_it_is_complete_and_nothing_is_orphaned(
    cloud: Cloud,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    kind: str,
    least: int,
    numbers: Iterable[int],
) -> None:
    cloud.watch(monkeypatch)
    first, second = (
        cloud.function(kind, script=f"echo {text}", settings=settings, scaling={"min_scale": least, "max_scale": 2})
        for text in ("one", "two")
    )

    async def deployed_(function: Function, dies_at: int = 0) -> bool:
        cloud.writes.clear()
        cloud.dies_at = dies_at
        made = RUNTIMES[kind](cloud.folder / "runtime", cloud.models)
        try:
            await made.deploy(function, version=function.version)
        except Killed:
            return False
        finally:
            cloud.dies_at = 0
            await made.close()
        return True

    async def test(number: int) -> bool:
        await deployed_(first)
        wanted = everything(cloud)
        await RUNTIMES[kind](cloud.folder / "runtime", cloud.models).remove(cloud.name)
        assert everything(cloud) == []
        for function in (first, second):  # made for the first time, then changed
            if await deployed_(function, number):
                if function is first:
                    await RUNTIMES[kind](cloud.folder / "runtime", cloud.models).remove(cloud.name)
                    return False
                continue
            await deployed_(function)
            assert everything(cloud) == wanted, number
            await deployed_(function)
            assert cloud.writes == [], "deployed twice nothing is written"
        await RUNTIMES[kind](cloud.folder / "runtime", cloud.models).remove(cloud.name)
        assert everything(cloud) == [], number
        return True

    number = 0
    for number in numbers:
        if not asyncio.run(test(number)):
            break
    assert number > 5


@pytest.mark.parametrize("kind", ["lambda", "lambda-batch"])
def test_a_bucket_that_is_missing_is_made_and_goes_only_with_the_data(
    cloud: Cloud, settings: dict[str, Any], kind: str
) -> None:
    new, home = f"{cloud.bucket}-new", Home(cloud.folder / "home")
    places = {"inputs": [{"url": f"s3://{cloud.bucket}/in"}, {"url": f"s3://{new}/in"}]}
    function = cloud.function(kind, script=SCRIPT, **places, settings={**settings, "bucket": cloud.bucket})

    async def test() -> None:
        made = open_runtime(kind, home.folder("dispatch"), cloud.models)
        await made.deploy(function, version=function.version)
        cloud.s3.put_object(Bucket=new, Key="in/a.txt", Body=b"content")
        told = await asyncio.to_thread(cloud.until, lambda: [one for one in cloud.messages() if "Records" in one])
        assert told[0]["Records"][0]["s3"]["bucket"]["name"] == new, "it tells of what comes, too"
        await made.remove(cloud.name)
        await made.close()

    asyncio.run(test())
    assert data.made_for(function, home) == [f"bucket {new}"], (
        "removing the function leaves what somebody's files are in"
    )
    assert data.made_for(function, Home(cloud.folder / "another")) == []
    assert data.made_for(function, home, remove=True) == [f"bucket {new}"]
    there = [one["Name"] for one in cloud.s3.list_buckets()["Buckets"]]
    assert new not in there and cloud.bucket in there
    assert data.made_for(function, home, remove=True) == [] == cloud.left()
