"""What a function needs of AWS is looked at before anything is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.volvox.runtimes.aws.fakes import FakeAccount
from volvox.dispatch.state import state_file
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.functions.checks import Finding
from volvox.functions.definition import Function
from volvox.runtimes import checking
from volvox.runtimes.aws import checks, images, roles, script_images
from volvox.runtimes.aws.account import Account, name_of, told
from volvox.runtimes.aws.images import Source
from volvox.settings import Home


def function(**more: Any) -> Function:
    told_ = {"name": "f", "image": "i", "script": "x", "runtime": "lambda"}
    return Function.model_validate({**told_, **more})


def error(code: str, message: str = "no", status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Do"
    )  # type: ignore[arg-type]


class Services:
    """Everything that checks ask; what is denied and what there is, a test says."""

    def __init__(self, denied: tuple[str, ...] = (), limit: int = 1000, buckets: tuple[str, ...] = ()) -> None:
        self.denied, self.limit, self.buckets = denied, limit, buckets
        self.asked: list[str] = []

    def get_caller_identity(self) -> dict[str, str]:
        return {"Arn": "arn:aws:sts::123456789012:assumed-role/deployer/session", "Account": "123456789012"}

    def get_paginator(self, name: str) -> Any:
        assert name == "simulate_principal_policy"
        services = self

        class Pages:
            def paginate(self, PolicySourceArn: str, ActionNames: list[str]) -> list[dict[str, Any]]:
                services.asked = [PolicySourceArn, *ActionNames]
                found = [
                    {"EvalActionName": one, "EvalDecision": "implicitDeny" if one in services.denied else "allowed"}
                    for one in ActionNames
                ]
                return [{"EvaluationResults": found}]

        return Pages()

    def get_account_settings(self) -> dict[str, Any]:
        return {"AccountLimit": {"ConcurrentExecutions": self.limit}}

    def head_bucket(self, Bucket: str) -> None:
        if Bucket not in self.buckets:
            raise error("404", status=404)

    def get_alias(self, **_: str) -> None:
        raise error("ResourceNotFoundException", status=404)

    def get_role(self, **_: str) -> None:
        raise error("NoSuchEntity", status=404)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def look(
        services: Services, of: Function, source: Source | None = None, offline: bool = False
    ) -> dict[str, Finding]:
        names = ("sts", "iam", "lambda", "s3", "sqs", "logs", "batch", "ecs")
        account = FakeAccount(**dict.fromkeys(names, services))
        monkeypatch.setattr(checks.Account, "of", lambda *_: account)
        monkeypatch.setattr(checks, "looked_at", lambda image: source)
        made = checks.checks(of, Home(tmp_path), offline=offline)
        return {f"{one.name}{'' if one.ok else '!' if one.ok is False else '?'}": one for one in made}

    return look


def test_of_a_function_that_runs_elsewhere_nothing_is_said(tmp_path: Path) -> None:
    assert [*checking.checks(function(runtime="docker"), Home(tmp_path), offline=False)] == []


def test_one_that_is_placed_there_is_looked_at_as_one_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checking, "runtime_of", lambda *_: "batch")
    found = [*checking.checks(function(runtime="auto"), Home(tmp_path), offline=True)]
    assert any(one.name == "mode" and one.said.startswith("batch") for one in found), found


def test_offline_nobody_is_asked(found) -> None:
    told_ = found(Services(), function(), offline=True)
    assert set(told_) == {"limits", "mode", "AWS?"}


@pytest.mark.parametrize("there", [True, False])
def test_who_has_to_make_a_bucket_must_be_allowed_to(found, there: bool) -> None:
    services = Services(denied=("s3:CreateBucket",), buckets=("lake",) if there else ())
    told_ = found(services, function(inputs=[{"url": "s3://lake/in"}]))
    assert ("s3:CreateBucket" in services.asked) is not there
    assert ("permissions" in told_) is there and ("bucket" in told_) is there
    if not there:
        assert "s3:CreateBucket" in told_["permissions!"].said and "it is made when" in told_["bucket!"].mend


def test_what_is_missing_is_all_said_at_once(found) -> None:
    denied = ("lambda:CreateFunction", "iam:PassRole", "sqs:CreateQueue")
    services = Services(denied=denied, limit=10)
    arm = Source("id", "", "arm64", 11 << 30, "d")
    wanted = function(inputs=[{"url": "s3://lake/in"}], scaling={"max_scale": 20}, resources={"gpus": 1})
    told_ = found(services, wanted, arm)
    assert (
        "GPU" in told_["limits!"].said
        and "11.0 GB" in told_["limits!"].said
        and told_["limits!"].mend == "runtime: batch"
    )
    assert "arm64" in told_["processor!"].said
    assert all(one in told_["permissions!"].said for one in denied)
    assert "20 instances, and the account 10" in told_["quota!"].said
    assert "no bucket lake" in told_["bucket!"].said
    assert services.asked[0] == "arn:aws:iam::123456789012:role/deployer"


def test_where_nothing_is_missing_that_is_said(found) -> None:
    services = Services(buckets=("lake",))
    told_ = found(services, function(inputs=[{"url": "s3://lake/in"}]), Source("id", "", "x86_64", 1 << 20, "d"))
    assert {"processor", "limits", "mode", "AWS", "permissions", "quota", "bucket"} == set(told_)
    assert "lambda: 300 s" in told_["mode"].said


def test_a_trigger_that_cannot_be_is_refused(found, tmp_path: Path) -> None:
    for name in ("docker", "batch"):
        told_ = [*checking.checks(function(runtime=name, trigger="direct"), Home(tmp_path), offline=True)]
        assert [one.said for one in told_ if one.name == "trigger"] == [
            f"trigger: direct is Lambda's, and it runs on {name}"
        ]
    assert "trigger!" in found(Services(), function(trigger="direct", inputs=[{"url": "/data/in"}]))


def test_batch_needs_a_bucket(found) -> None:
    assert "settings.bucket" in found(Services(), function(runtime="batch"))["bucket!"].mend


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (error("AccessDenied", "User: x is not authorized to perform: lambda:CreateFunction on resource"), InvalidInput,
         "allow lambda:CreateFunction"),
        (error("ThrottlingException"), Unavailable, "cannot make it now"),
        (error("InvalidClientTokenId"), InvalidInput, "credentials"),
        (error("ValidationError", "Value 9 is wrong"), InvalidInput, "Value 9 is wrong"),
    ],
)  # fmt: skip
def test_what_aws_says_becomes_a_sentence(raised: ClientError, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said), told("make it"):
        raise raised


def test_what_takes_long_is_never_asked_for_twice() -> None:
    account = Account("eu-west-1")
    assert account.client("lambda", seconds=900).meta.config.retries["total_max_attempts"] == 1
    assert account.client("lambda").meta.config.retries["total_max_attempts"] > 1


def test_names_are_what_aws_takes_and_never_two_functions_one() -> None:
    assert name_of("digits") == "volvox-digits" and name_of("digits", "dead") == "volvox-digits-dead"
    assert name_of("a.b") != name_of("a-b") and "." not in name_of("a.b")
    longest = name_of("x" * 64, "dead")
    assert len(longest) <= 64 and name_of("x" * 63) != name_of("x" * 64)


def test_the_role_may_what_the_places_need_and_no_more() -> None:
    of = function(
        inputs=[{"url": "s3://lake/in"}, {"url": "s3+https://ceph.example.org/other"}, {"url": "/data/in"}],
        outputs=[{"url": "s3://answers"}], trigger="direct",
    )  # fmt: skip
    made = roles.policy(FakeAccount(), of, "lake/.volvox/f")
    allowed = {action: set(one["Resource"]) for one in made["Statement"] for action in one["Action"]}
    assert allowed["s3:GetObjectVersion"] == {"arn:aws:s3:::lake/in/*", "arn:aws:s3:::lake/.volvox/f/*"}
    assert allowed["s3:PutObject"] == {"arn:aws:s3:::answers/*", "arn:aws:s3:::lake/.volvox/f/*"}
    assert allowed["s3:ListBucket"] == {"arn:aws:s3:::lake", "arn:aws:s3:::answers"}
    assert allowed["sqs:SendMessage"] == {"arn:aws:sqs:eu-west-1:123456789012:volvox-f-dead"}
    assert not any(action == "*" or action.endswith(":*") for action in allowed)
    assert "ec2:CreateNetworkInterface" not in allowed


def test_an_image_s_context_depends_on_what_is_in_it_and_nothing_else() -> None:
    def context(script: str) -> bytes:
        return script_images._context("FROM x", {"script": script, "command": []}).read()

    assert context("echo") == context("echo") != context("ls")


@pytest.mark.parametrize(
    ("image", "parts"),
    [("python:3.11", ("python", "3.11")), ("host:5000/a", ("host:5000/a", "latest")), ("a", ("a", "latest")),
     ("host:5000/a:1", ("host:5000/a", "1")), ("a@sha256:00", ("a@sha256:00", None))],
)  # fmt: skip
def test_a_reference_is_taken_apart_as_an_engine_wants_it(image: str, parts: tuple) -> None:
    assert images.docker_name(image) == parts


def test_what_drifted_is_deployed_once_more_and_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from volvox.runtimes import models, opening

    deployed: list[tuple[str, str]] = []

    class Runtime:
        async def deploy(self, function: Function, *, version: str) -> None:
            deployed.append((function.name, version))

        async def close(self) -> None: ...

    drift: list[str] = []
    monkeypatch.setattr(checks, "drifted", lambda *_: drift)
    monkeypatch.setattr(models, "published", lambda: None)
    monkeypatch.setattr(opening, "open_runtime", lambda *_: Runtime())
    home = Home(tmp_path)
    assert checking.repair(function(), home) == [] == deployed
    drift.append("the role volvox-f is not there")
    with pytest.raises(NotFound, match="volvox up"):
        checking.repair(function(), home)
    lanes = {"functions": [{"function": "f", "version": "v7"}], "troubles": {}}
    home.folder("dispatch")
    state_file(home).write_text(json.dumps(lanes))
    assert checking.repair(function(), home) == ["the role volvox-f is not there"]
    assert deployed == [("f", "v7")]
    with pytest.raises(InvalidInput, match="runs on docker"):
        checking.repair(function(runtime="docker"), home)
