"""The role that a function has on AWS: what it may do is what its places need, and no more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from volvox.functions.definition import Function
from volvox.places.addresses import parsed
from volvox.runtimes.aws.account import Account, is_missing, name_of, section, stated, tags, told, unless_missing

POLICY = "volvox"
_SERVICES = ("lambda.amazonaws.com", "ecs-tasks.amazonaws.com")


def stated_role(function: Function) -> str:
    """The ARN that the definition names (`iam.role`), or empty: one is made."""
    return str(section(function, "iam").get("role") or "")


def dead_letters_of(account: Account, function: Function) -> str:
    """ARN of where events go that the function never answered (`lambda.dead_letters`); empty: nowhere.

    Of one that buckets call without us it is a queue of the function's own, unless another is named.
    """
    stated_ = str(stated(function, "dead_letters", "lambda") or "")
    own = account.arn("sqs", name_of(function.name, "dead")) if function.trigger == "direct" else ""
    return stated_ or own


def trust() -> dict[str, Any]:
    """Who may take the role: Lambda, and the tasks of ECS and Batch."""
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": list(_SERVICES)}, "Action": "sts:AssumeRole"}],
    }


def policy(account: Account, function: Function, scratch: str) -> dict[str, Any]:
    """What the function may do.

    Args:
        account: Where.
        function: Whose places count.
        scratch: `BUCKET/PREFIX` of its scratch folder, or empty.
    """
    partition = account.partition
    read = sorted(_objects(partition, [one.url for one in function.inputs]))
    write = sorted(_objects(partition, [one.url for one in function.outputs]))
    if scratch:
        read.append(f"arn:{partition}:s3:::{scratch}/*")
        write.append(f"arn:{partition}:s3:::{scratch}/*")
    group = account.arn("logs", "log-group:/aws/*")
    statements = [
        _allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], [group]),
        _allow(["ecr:GetAuthorizationToken", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer",
                "ecr:BatchCheckLayerAvailability"], ["*"]),
    ]  # fmt: skip
    if read:
        statements.append(_allow(["s3:GetObject", "s3:GetObjectVersion"], read))
    if write:
        statements.append(_allow(["s3:PutObject", "s3:GetObject"], write))
    if buckets := sorted({one.partition("/")[0] for one in (*read, *write)}):
        statements.append(_allow(["s3:ListBucket"], buckets))  # without it a missing object is told as forbidden
    if dead_letters := dead_letters_of(account, function):
        statements.append(_allow(["sqs:SendMessage", "sns:Publish"], [dead_letters]))
    if function.runtime == "ecs" and function.scaling.min_scale:
        work = account.arn("sqs", name_of(function.name, "work"))
        statements.append(_allow(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"], [work]))
    if section(function, "lambda", "vpc"):
        network = ["ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface"]
        statements.append(_allow(network, ["*"]))
    return {"Version": "2012-10-17", "Statement": statements}


def ensure(account: Account, function: Function, owner: str, document: dict[str, Any]) -> str:
    """The ARN of the function's role, made or mended where it is not as it must be.

    Raises:
        InvalidInput: If AWS refuses.
        Unavailable: If it does not answer.
    """
    if arn := stated_role(function):
        return arn
    iam, name = account.client("iam"), name_of(function.name)
    with told(f"make the role {name}"):
        role = _found(iam, name)
        if role is None:
            made = tags(function.name, owner)
            iam.create_role(
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(trust()),
                Description=f"Of the function {function.name}, made by Volvox",
                Tags=[{"Key": key, "Value": value} for key, value in made.items()],
            )
            role = _found(iam, name)
            time.sleep(0 if not account.is_amazon else 5)  # it is known everywhere only after some seconds
        elif _read(role["AssumeRolePolicyDocument"]) != trust():
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust()))
        if _present(iam, name) != document:
            iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(document))
    assert role is not None
    return str(role["Arn"])


def drift(account: Account, function: Function, document: dict[str, Any]) -> str:
    """What is not as it must be of the role, in a sentence; empty: nothing."""
    if stated_role(function):
        return ""
    iam, name = account.client("iam"), name_of(function.name)
    with told(f"look at the role {name}"):
        role = _found(iam, name)
        if role is None:
            return f"the role {name} is not there"
        if _read(role["AssumeRolePolicyDocument"]) != trust():
            return f"the role {name} may not be taken by those who must"
        if _present(iam, name) != document:
            return f"the role {name} does not allow what the function's places need"
    return ""


def remove(account: Account, function: str) -> None:
    """Remove the role that was made for a function."""
    iam, name = account.client("iam"), name_of(function)
    with told(f"remove the role {name}"):
        with unless_missing():
            iam.delete_role_policy(RoleName=name, PolicyName=POLICY)
        with unless_missing():
            iam.delete_role(RoleName=name)


def _found(iam: Any, name: str) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    try:
        return iam.get_role(RoleName=name)["Role"]
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def _present(iam: Any, name: str) -> Any:
    from botocore.exceptions import ClientError

    try:
        return _read(iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"])
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def _read(document: Any) -> Any:
    return json.loads(unquote(document)) if isinstance(document, str) else document


def _objects(partition: str, urls: Iterable[str]) -> set[str]:
    """ARNs of what lies in those of the places that are buckets of Amazon's."""
    found = set[str]()
    for url in urls:
        address = parsed(url)
        if address.kind == "s3" and not address.server:
            found.add(f"arn:{partition}:s3:::{address.name}/" + (f"{address.key}/*" if address.key else "*"))
    return found


def _allow(actions: list[str], things: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": things}
