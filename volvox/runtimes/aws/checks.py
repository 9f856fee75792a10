"""What a function needs of AWS and what of it is missing, before anything is made; and what is not any more as it was.

Looking writes nothing. `repair` deploys what drifted once more, which writes only that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.functions.checks import Finding
from volvox.functions.definition import Function
from volvox.functions.routes import route_of
from volvox.runtimes.aws import buckets, direct, roles, triggers
from volvox.runtimes.aws.account import Account, name_of, told
from volvox.runtimes.aws.api_gateway import Api
from volvox.runtimes.aws.batch_objects import BatchObjects
from volvox.runtimes.aws.images import check_architecture, looked_at
from volvox.runtimes.aws.lambda_objects import ALIAS, LambdaObjects
from volvox.runtimes.aws.limits import beyond_lambda, mode_for, size_of
from volvox.runtimes.aws.scratch import needed, scratch_of
from volvox.settings import Home

_ACTIONS = {
    "lambda": ("lambda:CreateFunction", "lambda:UpdateFunctionCode", "lambda:PublishVersion", "lambda:CreateAlias",
               "lambda:UpdateAlias", "lambda:InvokeFunction", "lambda:DeleteFunction", "logs:CreateLogGroup"),
    "batch": ("batch:CreateComputeEnvironment", "batch:CreateJobQueue", "batch:RegisterJobDefinition",
              "batch:SubmitJob", "batch:DescribeJobs", "batch:TerminateJob", "ec2:DescribeSubnets"),
    "ecs": ("ecs:RegisterTaskDefinition", "ecs:RunTask", "ecs:DescribeTasks", "ecs:StopTask", "ec2:DescribeSubnets"),
}  # fmt: skip
_ALWAYS = ("iam:GetRole", "iam:CreateRole", "iam:PutRolePolicy", "iam:PassRole")
_OF_ROUTES = ("apigateway:GET", "apigateway:POST", "apigateway:PUT", "apigateway:DELETE", "lambda:AddPermission")
_OF_BUCKETS = ("sqs:CreateQueue", "sqs:ReceiveMessage", "s3:PutBucketNotification", "s3:GetBucketNotification")

_OF_NEW_BUCKETS = ("s3:CreateBucket", "s3:PutBucketTagging")


def checks(function: Function, home: Home, *, offline: bool) -> Iterable[Finding]:  # noqa: ARG001 - as `Checks`
    """As `volvox.functions.checks.Checks`, for a function whose `runtime` is one of AWS."""
    image_bytes = 0
    yield from _trigger(Account.of(function, "lambda", "batch", "ecs"), function)
    if not offline:
        for finding, size in _image(function):
            image_bytes = size or image_bytes
            yield finding
    yield from _limits(function, image_bytes)
    if offline:
        yield Finding("AWS", None, "nobody asked AWS")
        return
    account = Account.of(function, "lambda", "batch", "ecs")
    try:
        number = account.id
    except InvalidInput as error:
        yield Finding("AWS", None, str(error), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
        return
    except Unavailable as error:
        yield Finding("AWS", None, str(error), "look whether the network leads there, and do it again")
        return
    yield Finding("AWS", True, f"account {number}, region {account.region}")
    for look in (_permissions, _quota, _buckets, _drift):
        try:
            yield from look(account, function)
        except VolvoxError as error:
            yield Finding("AWS", None, str(error))


def drifted(account: Account, function: Function) -> list[str]:
    """What was made for a function and is not any more as it must be, a sentence each; nothing if nothing was made."""
    name = name_of(function.name)
    live = LambdaObjects(account, "").live(name) if "lambda" in function.runtime else None
    if "lambda" in function.runtime and live is None:
        return []
    scratch = scratch_of(account, function)
    prefix = f"{scratch.bucket}/{scratch.prefix}" if scratch else ""
    found = [roles.drift(account, function, roles.policy(account, function, prefix))]
    if live is None and found[0].endswith("is not there"):
        return []  # it was never deployed
    if triggers.watched(function):
        if function.trigger == "direct":
            arn = account.arn("lambda", f"function:{name}:{ALIAS}")
            found += triggers.drift(account, function, "LambdaFunctionConfigurations", arn)
        else:
            found.append(triggers.queue_drift(account, function))
            arn = triggers.queue_arn(account, function.name)
            found += triggers.drift(account, function, "QueueConfigurations", arn)
    if "batch" in function.runtime:
        found.append(BatchObjects(account, "").drift(function))
    if live is not None and (route := route_of(function)):
        found.append(Api(LambdaObjects(account, ""), function).drift(route))
    return [one for one in found if one]


def repair(function: Function, home: Home) -> list[str]:
    """Deploy once more what drifted; what was mended, a sentence each.

    Raises:
        InvalidInput: If AWS refuses.
        NotFound: If it is not deployed.
        Unavailable: If AWS does not answer.
    """
    import asyncio

    from volvox.dispatch.state import deployed
    from volvox.functions.secrecy import secret
    from volvox.runtimes.models import published
    from volvox.runtimes.opening import open_runtime

    account = Account.of(function, "lambda", "batch", "ecs")
    found = drifted(account, function)
    if not found:
        return []
    lanes = {one["function"]: one["version"] for one in deployed(home)["functions"]}
    version = lanes.get(function.name)
    if version is None:
        raise NotFound(f"function {function.name!r} is not deployed; `volvox up` starts what deploys it")

    async def again() -> None:
        runtime = open_runtime(function.runtime, home.folder("dispatch"), published(), secret)
        try:
            await runtime.deploy(function, version=version)
        finally:
            await runtime.close()

    asyncio.run(again())
    return found


def _trigger(account: Account, function: Function) -> Iterator[Finding]:
    if function.trigger != "direct" or function.runtime != "lambda":
        return
    try:
        direct.told(function, needed(account, function))
    except InvalidInput as error:
        yield Finding("trigger", False, str(error), "say trigger: inbox")


def _image(function: Function) -> Iterator[tuple[Finding, int]]:
    if function.model:
        return  # the model's own finding tells of it; its image is looked at when it is deployed
    if function.image.startswith("docker-archive:"):
        return
    try:
        source = looked_at(function.image)
    except Unavailable as error:
        yield Finding("processor", None, str(error)), 0
        return
    except VolvoxError as error:
        yield Finding("processor", None, f"nobody could look at the image: {error}"), 0
        return
    if source is None:
        yield Finding("processor", None, f"the image {function.image} is not on the engine here"), 0
        return
    try:
        check_architecture(function, source)
    except InvalidInput as error:
        yield Finding("processor", False, str(error), "see there"), source.size
        return
    told_ = source.architecture or "a processor that it does not tell"
    yield Finding("processor", True, f"the image is for {told_} and has {source.size >> 20:,} MB"), source.size


def _limits(function: Function, image_bytes: int) -> Iterator[Finding]:
    fits, why = mode_for(function, image_bytes)
    reasons = list(beyond_lambda(function, image_bytes))
    if function.runtime == "lambda" and reasons:
        yield Finding("limits", False, f"Lambda cannot run it: {'; '.join(reasons)}", f"runtime: {fits}")
    elif function.runtime == "lambda":
        size = size_of(function)
        yield Finding(
            "limits", True, f"{size.memory_mb:,} MB, {size.seconds} s and {size.storage_mb:,} MB of disk of Lambda"
        )
    if function.runtime not in (fits, "ecs") and not reasons:
        yield Finding("mode", None, f"{function.runtime} does; {why}")
    elif fits == function.runtime:
        yield Finding("mode", True, why)


def _permissions(account: Account, function: Function) -> Iterator[Finding]:
    """Whether these credentials may do what deploying does, as IAM itself tells."""
    from botocore.exceptions import BotoCoreError, ClientError

    parts = function.runtime.split("-")
    actions = [*_ALWAYS, *(one for part in parts for one in _ACTIONS[part])]
    if triggers.watched(function):
        actions += _OF_BUCKETS
    if function.runtime in ("lambda", "lambda-batch") and route_of(function):
        actions += _OF_ROUTES
    with contextlib.suppress(VolvoxError):  # which is told by itself
        if buckets.missing(account, function):
            actions += _OF_NEW_BUCKETS
    try:
        arn = account.client("sts").get_caller_identity()["Arn"]
        if ":root" in arn:
            yield Finding("permissions", True, "the account's root may do everything; use another identity")
            return
        pages = account.client("iam").get_paginator("simulate_principal_policy")
        results = [
            one for page in pages.paginate(PolicySourceArn=_principal(arn), ActionNames=actions)
            for one in page["EvaluationResults"]
        ]  # fmt: skip
    except (ClientError, BotoCoreError) as error:
        yield Finding(
            "permissions", None, f"IAM does not tell what these credentials may do ({type(error).__name__})",
            "allow iam:SimulatePrincipalPolicy, or see what deploying says",
        )  # fmt: skip
        return
    denied = sorted(one["EvalActionName"] for one in results if one["EvalDecision"] != "allowed")
    if denied:
        yield Finding("permissions", False, f"{arn} may not: {', '.join(denied)}", "allow these actions")
    else:
        yield Finding("permissions", True, f"{arn} may do what deploying does")


def _quota(account: Account, function: Function) -> Iterator[Finding]:
    if "lambda" not in function.runtime:
        return
    from botocore.exceptions import ClientError

    try:
        limit = account.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    except ClientError:
        yield Finding("quota", None, "Lambda does not tell how many instances the account may have")
        return
    wanted = function.scaling.max_scale * function.scaling.concurrency
    if wanted > limit:
        yield Finding(
            "quota", False, f"it may have {wanted} instances, and the account {limit}",
            "lower max_scale, or ask AWS for a higher quota (Lambda, concurrent executions)",
        )  # fmt: skip
    else:
        yield Finding("quota", True, f"{wanted} of the account's {limit} instances")


def _buckets(account: Account, function: Function) -> Iterator[Finding]:
    from botocore.exceptions import ClientError

    if scratch_of(account, function) is None and function.runtime != "lambda":
        yield Finding("bucket", False, f"{function.runtime} needs a bucket for what its jobs are told",
                      "name one as settings.bucket")  # fmt: skip
    for name in buckets.names_of(account, function):
        try:
            account.client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                yield Finding("bucket", False, f"there is no bucket {name}", "it is made when it is applied", made=True)
            else:
                yield Finding("bucket", False, f"these credentials may not use bucket {name} ({status})",
                              "allow s3:ListBucket")  # fmt: skip
            continue
        yield Finding("bucket", True, f"bucket {name} is there")


def _drift(account: Account, function: Function) -> Iterator[Finding]:
    with told("look at what was made"):
        for one in drifted(account, function):
            yield Finding("drift", False, one, f"volvox functions check {function.name} --repair", made=True)


def _principal(arn: str) -> str:
    """The ARN that IAM knows policies of: of a session, that of its role."""
    if ":assumed-role/" not in arn:
        return arn
    head, _, rest = arn.partition(":assumed-role/")
    return f"{head.replace(':sts:', ':iam:')}:role/{rest.partition('/')[0]}"
