"""What Amazon refuses, as a person reads it: its error bodies come over HTTP, and boto3 reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.runtimes.aws.amazon import JSON, XML, Amazon
from tests.volvox.runtimes.tiny import TinyModels
from volvox.errors import InvalidInput, Unavailable
from volvox.functions.definition import Function
from volvox.runtimes.aws import direct, images, invoking, lambda_deploying, lambda_objects, roles, triggers
from volvox.runtimes.aws.account import Account
from volvox.runtimes.aws.batch_runtime import BatchEngine
from volvox.runtimes.aws.images import Source
from volvox.runtimes.aws.lambda_objects import LambdaObjects
from volvox.runtimes.aws.limits import Size
from volvox.runtimes.interface import Call

ACCOUNT = "123456789012"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:volvox-f"
IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    f"<Arn>arn:aws:iam::{ACCOUNT}:user/dev</Arn><UserId>AIDA</UserId><Account>{ACCOUNT}</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Amazon]:
    made = Amazon()
    made.answers["GetCallerIdentity"] = (200, XML, IDENTITY)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    given = {
        "AWS_ENDPOINT_URL": made.url, "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", "VOLVOX_REGISTRY": "127.0.0.1:5000",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _: None)  # between two tries
    yield made
    made.shutdown()
    made.server_close()


def function(**more: Any) -> Function:
    return Function.model_validate({"name": "f", "image": "i", "script": "x", "runtime": "lambda", **more})


def source(**more: Any) -> Source:
    return Source(
        **{"id": "sha256:1", "pushed": "reg/i@sha256:1", "architecture": "x86_64", "size": 1, "digest": "d", **more}
    )


def deploy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, of: Function, image: Source | None = None) -> Any:
    monkeypatch.setattr(images, "source_of", lambda *_: image or source())
    return lambda_deploying.deploy(of, "v1", models=TinyModels(tmp_path), owner="me", tell=lambda _: None)


def test_without_credentials_nothing_is_asked_and_that_is_said(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InvalidInput, match=r"there are no credentials of AWS to .* set AWS_ACCESS_KEY_ID"):
        deploy(monkeypatch, tmp_path, function())
    assert amazon.asked == []


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("ExpiredTokenException", "The security token included in the request is expired", "ExpiredTokenException"),
        ("UnrecognizedClientException", "The security token included in the request is invalid.", "region that is not"),
        ("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.",
         "signature"),
    ],
)  # fmt: skip
def test_credentials_that_do_not_count_here_are_told(amazon: Amazon, code: str, message: str, said: str) -> None:
    amazon.answers["GetAlias"] = (403, JSON, json.dumps({"__type": code, "message": message}))
    with pytest.raises(InvalidInput) as raised:
        LambdaObjects(Account(), "me").live("volvox-f")
    assert said in str(raised.value) and "secret-of-tests" not in str(raised.value)


def test_a_region_that_there_is_none_of_is_named(amazon: Amazon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for region in ("eu-west-99", "eu_west"):
        with pytest.raises((InvalidInput, Unavailable)) as raised:
            LambdaObjects(Account(region), "me").live("volvox-f")
        assert region in str(raised.value) and "settings.region" in str(raised.value)
    assert amazon.asked == []


@pytest.mark.parametrize(
    ("operation", "action"),
    [("CreateFunction", "lambda:CreateFunction"), ("CreateFunction", "iam:PassRole"), ("CreateRole", "iam:CreateRole"),
     ("GetAlias", "lambda:GetAlias")],
)  # fmt: skip
def test_the_permission_that_is_missing_is_named(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, operation: str, action: str
) -> None:
    message = (
        f"User: arn:aws:iam::{ACCOUNT}:user/dev is not authorized to perform: {action} on resource: {ARN} because no "
        f"identity-based policy allows the {action} action"
    )
    if operation == "CreateRole":
        error = f"<Type>Sender</Type><Code>AccessDenied</Code><Message>{message}</Message>"
        body = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
        amazon.answers[operation] = (403, XML, body)
    else:
        amazon.answers[operation] = (403, JSON, json.dumps({"__type": "AccessDeniedException", "Message": message}))
        monkeypatch.setattr(roles, "ensure", lambda *_: "arn:aws:iam::1:role/r")
        monkeypatch.setattr(lambda_deploying, "_ensure_log", lambda *_: None)
    with pytest.raises(InvalidInput, match=f"allow {action}"):
        deploy(monkeypatch, tmp_path, function())


def test_a_role_that_lambda_may_not_take_is_waited_for_and_then_told(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lambda_objects, "_ROLE_SECONDS", 0.0)
    said = "The role defined for the function cannot be assumed by Lambda."
    amazon.answers["CreateFunction"] = (
        400,
        JSON,
        json.dumps({"__type": "InvalidParameterValueException", "message": said}),
    )
    wanted = lambda_objects.Wanted(function(), "v", "c", f"arn:aws:iam::{ACCOUNT}:role/r", Size(128, 3, 512), "x86_64")
    with pytest.raises(InvalidInput, match="cannot be assumed by Lambda"):
        LambdaObjects(Account(), "me").ensure(wanted, lambda: "r/i@sha256:1", lambda _: None)


def called(tmp_path: Path) -> Any:
    (tmp_path / "file").write_text("x")
    (tmp_path / "out").mkdir()
    call = Call("1" * 32, tmp_path / "file", tmp_path / "out", key="a", relative="a")
    return invoking.invoke(Account(), function(), "1", [call])


def test_when_the_quota_is_reached_the_call_is_tried_again(amazon: Amazon, tmp_path: Path) -> None:
    body = {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": "Rate Exceeded."}
    amazon.answers["Invoke"] = (429, JSON, json.dumps({"__type": "TooManyRequestsException", **body}))
    with pytest.raises(Unavailable, match=r"TooManyRequestsException: Rate Exceeded"):
        called(tmp_path)


def test_concurrency_that_the_account_has_not_is_told(amazon: Amazon) -> None:
    said = (
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below "
        "its minimum value of [10]."
    )
    body = json.dumps({"__type": "InvalidParameterValueException", "message": said})
    amazon.answers |= {"GetFunctionConcurrency": (200, JSON, "{}"), "PutFunctionConcurrency": (400, JSON, body)}
    with pytest.raises(InvalidInput, match=r"minimum value of \[10\]"):
        LambdaObjects(Account(), "me").ensure_concurrency("volvox-f", 500)


def test_dead_letters_that_the_role_may_not_write_are_told(amazon: Amazon) -> None:
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
    said = f"The function's execution role does not have permissions to call SendMessage on {queue}"
    body = json.dumps({"__type": "InvalidParameterValueException", "message": said})
    amazon.answers["PutFunctionEventInvokeConfig"] = (400, JSON, body)
    with pytest.raises(InvalidInput, match="does not have permissions to call SendMessage"):
        LambdaObjects(Account(), "me").ensure_async("volvox-f", 2, queue)
    sent = json.loads(amazon.bodies[-1])
    assert sent["MaximumRetryAttempts"] == 2 and sent["DestinationConfig"]["OnFailure"]["Destination"].endswith(":q")


def test_reserved_concurrency_and_dead_letters_are_as_the_file_says_and_written_once(amazon: Amazon) -> None:
    objects, queue = LambdaObjects(Account(), "me"), f"arn:aws:sqs:us-east-1:{ACCOUNT}:q"
    amazon.answers |= {
        "GetFunctionConcurrency": (200, JSON, "{}"), "PutFunctionConcurrency": (200, JSON, "{}"),
        "PutFunctionEventInvokeConfig": (200, JSON, "{}"),
    }  # fmt: skip
    objects.ensure_concurrency("volvox-f", 6)
    assert json.loads(amazon.bodies[-1]) == {"ReservedConcurrentExecutions": 6}
    objects.ensure_async("volvox-f", 2, queue)
    there = {"MaximumRetryAttempts": 2, "DestinationConfig": {"OnFailure": {"Destination": queue}}}
    amazon.answers |= {
        "GetFunctionConcurrency": (200, JSON, '{"ReservedConcurrentExecutions": 6}'),
        "GetFunctionEventInvokeConfig": (200, JSON, json.dumps(there)),
    }  # fmt: skip
    amazon.asked.clear()
    objects.ensure_concurrency("volvox-f", 6)
    objects.ensure_async("volvox-f", 2, queue)
    assert amazon.asked == ["GetFunctionConcurrency", "GetFunctionEventInvokeConfig"]
    assert roles.dead_letters_of(Account(), function(settings={"lambda": {"dead_letters": queue}})) == queue
    own = roles.dead_letters_of(Account(), function(trigger="direct"))
    assert own == triggers.queue_arn(Account(), "f", direct.DEAD)


@pytest.mark.parametrize(
    ("image", "said"),
    [(source(size=11 << 30), r"its image has 11\.0 GB, and Lambda takes 10 GB at most; name runtime batch"),
     (source(architecture="arm64"), r"was built for arm64, and it is to run on x86_64")],
)  # fmt: skip
def test_an_image_that_cannot_run_there_is_refused_before_anything_is_asked(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, image: Source, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        deploy(monkeypatch, tmp_path, function(), image)
    assert amazon.asked == []


def test_an_image_that_lambda_itself_refuses_is_told_in_its_words(amazon: Amazon) -> None:
    said = "Source image 123.dkr.ecr.us-east-1.amazonaws.com/i@sha256:1 is not valid. Provide a valid source image."
    amazon.answers["CreateFunction"] = (
        400,
        JSON,
        json.dumps({"__type": "InvalidParameterValueException", "message": said}),
    )
    wanted = lambda_objects.Wanted(function(), "v", "c", f"arn:aws:iam::{ACCOUNT}:role/r", Size(128, 3, 512), "x86_64")
    with pytest.raises(InvalidInput, match="Provide a valid source image"):
        LambdaObjects(Account(), "me").ensure(wanted, lambda: "r/i@sha256:1", lambda _: None)


def test_a_job_queue_that_is_disabled_midway_is_told_and_jobs_are_tried_again(amazon: Amazon) -> None:
    amazon.answers["SubmitJob"] = (
        400,
        JSON,
        json.dumps({"__type": "ClientException", "message": "JobQueue is DISABLED"}),
    )
    queue = {"jobQueueName": "volvox-f", "jobQueueArn": "arn:q", "state": "DISABLED", "status": "VALID", "priority": 1,
             "computeEnvironmentOrder": []}  # fmt: skip
    amazon.answers["DescribeJobQueues"] = (200, JSON, json.dumps({"jobQueues": [queue]}))
    engine = BatchEngine(Account(), "volvox-f", "volvox-f:1")
    with pytest.raises(Unavailable, match=r"the job queue volvox-f is disabled; .* --repair"):
        engine.submit("job", {"VOLVOX_EVENT": "s3://b/k"})
    amazon.answers["DescribeJobQueues"] = (200, JSON, json.dumps({"jobQueues": []}))
    with pytest.raises(Unavailable, match="is gone"):
        engine.submit("job", {})
    amazon.answers["DescribeJobQueues"] = (200, JSON, json.dumps({"jobQueues": [{**queue, "state": "ENABLED"}]}))
    with pytest.raises(InvalidInput, match="JobQueue is DISABLED"):  # in Batch's own words
        engine.submit("job", {})


def test_throttling_is_no_failure_and_its_reason_is_kept(amazon: Amazon) -> None:
    body = json.dumps({"__type": "ThrottlingException", "message": "Rate exceeded"})
    amazon.answers["SubmitJob"] = amazon.answers["DescribeJobQueues"] = (400, JSON, body)
    with pytest.raises(Unavailable, match="ThrottlingException"):
        BatchEngine(Account(), "volvox-f", "volvox-f:1").submit("job", {})
