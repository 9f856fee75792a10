"""How a bucket tells of new objects: to a queue that the inbox reads, or to the Lambda function itself.

A bucket has one list of notifications for all who use it. Ours are known by their names, and those of others stay.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from volvox.errors import InvalidInput, Unavailable
from volvox.functions.definition import Function
from volvox.places.addresses import parsed
from volvox.runtimes.aws.account import Account, is_missing, name_of, tags, told, unless_missing

_CREATED = ["s3:ObjectCreated:*"]
_KINDS = ("TopicConfigurations", "QueueConfigurations", "LambdaFunctionConfigurations")
_TARGET = {"QueueConfigurations": "QueueArn", "LambdaFunctionConfigurations": "LambdaFunctionArn"}
_RETENTION_SECONDS = 14 * 86400

Target = Literal["QueueConfigurations", "LambdaFunctionConfigurations"]


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder of a bucket whose new objects are told of.

    Attributes:
        bucket: The bucket.
        prefix: What keys begin with.
    """

    bucket: str
    prefix: str


def watched(function: Function) -> list[Watched]:
    """The inputs of a function that are folders of buckets of Amazon's."""
    found: list[Watched] = []
    for one in function.inputs:
        address = parsed(one.url)
        if address.kind == "s3" and not address.server and one.provider not in function.providers:
            place = Watched(address.name, f"{address.key}/" if address.key else "")
            if place not in found:
                found.append(place)
    return found


def ensure(account: Account, function: Function, kind: Target, arn: str) -> list[str]:
    """Have buckets tell `arn` of new objects; what was changed, a sentence each.

    Raises:
        InvalidInput: If AWS refuses: another notification is for the same objects, for one.
        Unavailable: If it does not answer.
    """
    changed: list[str] = []
    wanted = _wanted(function, kind, arn)
    for bucket in sorted({one.bucket for one in watched(function)}):
        changed += _changed(account, bucket, function.name, kind, wanted.get(bucket, []))
    return changed


def drift(account: Account, function: Function, kind: Target, arn: str) -> list[str]:
    """What is not as `ensure` would have it, a sentence each."""
    found: list[str] = []
    wanted = _wanted(function, kind, arn)
    for bucket, entries in sorted(wanted.items()):
        with told(f"look at the notifications of bucket {bucket}"):
            present = _notifications(account, bucket)
        own = _own(present, function.name)
        if _plain(own.get(kind, [])) != _plain(entries) or any(own[other] for other in own if other != kind):
            found.append(f"bucket {bucket} does not tell of new objects as it must")
    return found


def remove(account: Account, function: Function, but: Function | None = None) -> None:
    """Have buckets tell nothing more for a function, but those that it has as `but`; those that are gone need not."""
    kept = {one.bucket for one in watched(but)} if but is not None else set[str]()
    for bucket in sorted({one.bucket for one in watched(function)} - kept):
        with unless_missing():
            _changed(account, bucket, function.name, "QueueConfigurations", [])


# -- the queue of the inbox ------------------------------------------------------------------------------------------


def ensure_queue(account: Account, function: Function, owner: str) -> str:
    """URL of the queue that buckets tell of new objects, made or mended where it is not as it must be."""
    sqs, name = account.client("sqs"), name_of(function.name)
    buckets = sorted({one.bucket for one in watched(function)})
    wanted = _queue_policy(account, name, buckets)
    with told(f"make the queue {name}"):
        url = _queue(sqs, name)
        if url is None:
            told_attributes = {"MessageRetentionPeriod": str(_RETENTION_SECONDS), "Policy": json.dumps(wanted)}
            return sqs.create_queue(
                QueueName=name, Attributes=told_attributes, tags=tags(function.name, owner)
            )["QueueUrl"]  # fmt: skip
        present = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {})
        if json.loads(present.get("Policy") or "{}") != wanted:
            sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(wanted)})
    return str(url)


def ensure_dead_letters(account: Account, function: Function, owner: str) -> None:
    """The queue of events that a function never answered, made if it is missing."""
    sqs, name = account.client("sqs"), name_of(function.name, "dead")
    with told(f"make the queue {name}"):
        if _queue(sqs, name) is None:
            attributes = {"MessageRetentionPeriod": str(_RETENTION_SECONDS)}
            sqs.create_queue(QueueName=name, Attributes=attributes, tags=tags(function.name, owner))


def queue_drift(account: Account, function: Function) -> str:
    """What is not as it must be of the queue, in a sentence; empty: nothing."""
    sqs, name = account.client("sqs"), name_of(function.name)
    with told(f"look at the queue {name}"):
        if (url := _queue(sqs, name)) is None:
            return f"the queue {name} is not there"
        present = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {})
    wanted = _queue_policy(account, name, sorted({one.bucket for one in watched(function)}))
    if json.loads(present.get("Policy") or "{}") != wanted:
        return f"the queue {name} does not take what the buckets tell it"
    return ""


def remove_queue(account: Account, function: str, suffix: str = "") -> None:
    """Remove the queue of a function."""
    sqs, name = account.client("sqs"), name_of(function, suffix)
    with told(f"remove the queue {name}"), unless_missing():
        if url := _queue(sqs, name):
            sqs.delete_queue(QueueUrl=url)


def queue_arn(account: Account, function: str, suffix: str = "") -> str:
    """ARN of the queue of a function."""
    return account.arn("sqs", name_of(function, suffix))


def _queue(sqs: Any, name: str) -> str | None:
    from botocore.exceptions import ClientError

    try:
        return sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if is_missing(error) or "NonExistentQueue" in str(error):
            return None
        raise


def _queue_policy(account: Account, name: str, buckets: list[str]) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "buckets",
                "Effect": "Allow",
                "Principal": {"Service": "s3.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": account.arn("sqs", name),
                "Condition": {
                    "ArnLike": {"aws:SourceArn": [f"arn:{account.partition}:s3:::{one}" for one in buckets]},
                    "StringEquals": {"aws:SourceAccount": account.id},
                },
            }
        ],
    }


# -- a bucket's notifications ----------------------------------------------------------------------------------------


def _wanted(function: Function, kind: Target, arn: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for number, one in enumerate(watched(function)):
        entry: dict[str, Any] = {"Id": f"{name_of(function.name)}-{number}", _TARGET[kind]: arn, "Events": _CREATED}
        if one.prefix:
            entry["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": one.prefix}]}}
        found.setdefault(one.bucket, []).append(entry)
    return found


def _changed(
    account: Account, bucket: str, function: str, kind: Target, entries: list[dict[str, Any]]
) -> list[str]:  # fmt: skip
    """Write a bucket's list with ours as they must be, if they are not; looked at again, as others may write it too."""
    s3 = account.client("s3")
    for _ in range(3):
        with told(f"have bucket {bucket} tell of new objects"):
            present = _notifications(account, bucket)
            own = _own(present, function)
            if _plain(own.get(kind, [])) == _plain(entries) and not any(own[one] for one in own if one != kind):
                return []
            others = {
                name: [one for one in present.get(name, []) if one not in own.get(name, [])] for name in _KINDS
            }  # fmt: skip
            others[kind] = [*others[kind], *entries]
            wanted = {name: value for name, value in others.items() if value}
            if "EventBridgeConfiguration" in present:
                wanted["EventBridgeConfiguration"] = present["EventBridgeConfiguration"]
            _refuse_overlap(bucket, others, entries)
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)
            after = _notifications(account, bucket)
        if all(_plain(after.get(name, [])) == _plain(value) for name, value in others.items()):
            return [f"bucket {bucket} tells of new objects" if entries else f"bucket {bucket} tells nothing more"]
    raise Unavailable(f"others write the notifications of bucket {bucket} at this moment; do it again")


def _refuse_overlap(bucket: str, all_: dict[str, list[dict[str, Any]]], ours: list[dict[str, Any]]) -> None:
    """Refuse what S3 would, in words that name the other one."""
    for own in ours:
        for one in (entry for entries in all_.values() for entry in entries):
            mine, theirs = _prefix(own), _prefix(one)
            if one is own or one.get("Id") == own["Id"] or not (mine.startswith(theirs) or theirs.startswith(mine)):
                continue
            if _suffix(one) or not any(event.startswith("s3:ObjectCreated") for event in one.get("Events", [])):
                continue
            raise InvalidInput(
                f"bucket {bucket} tells {one.get('Id') or 'another one'} of objects below {theirs or '/'!r} already, "
                f"and S3 tells one only of each: give the function another folder, or remove that notification"
            )


def _notifications(account: Account, bucket: str) -> dict[str, Any]:
    found = account.client("s3").get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in found.items() if name != "ResponseMetadata"}


def _own(present: dict[str, Any], function: str) -> dict[str, list[dict[str, Any]]]:
    begin = f"{name_of(function)}-"
    return {
        kind: [one for one in present.get(kind, []) if _is_own(str(one.get("Id", "")), begin)] for kind in _KINDS
    }  # fmt: skip


def _is_own(name: str, begin: str) -> bool:
    return name.startswith(begin) and name[len(begin) :].isdigit()


def _rules(entry: dict[str, Any]) -> dict[str, str]:
    rules = entry.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    return {str(rule["Name"]).lower(): str(rule["Value"]) for rule in rules}


def _prefix(entry: dict[str, Any]) -> str:
    return _rules(entry).get("prefix", "")


def _suffix(entry: dict[str, Any]) -> str:
    return _rules(entry).get("suffix", "")


def _plain(entries: list[dict[str, Any]]) -> list[Any]:
    """Entries as they are compared: in no order, and names of rules in one spelling."""
    return sorted(
        json.dumps({**one, "Filter": sorted(_rules(one).items()), "Events": sorted(one.get("Events", []))},
                   sort_keys=True)
        for one in entries
    )  # fmt: skip
