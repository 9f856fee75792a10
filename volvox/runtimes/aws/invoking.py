"""Lambda functions are called: events out, replies in."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from volvox.errors import ModuleFailed, NotFound, Unavailable
from volvox.functions.definition import Function
from volvox.runtimes.aws import payloads
from volvox.runtimes.aws.account import Account, code_of, is_missing, name_of, told
from volvox.runtimes.aws.limits import INLINE_BYTES, LAMBDA_SECONDS
from volvox.runtimes.aws.scratch import scratch_of
from volvox.runtimes.interface import Call, Outcome
from volvox.runtimes.scripts import Secret, resolved

_PATIENCE_SECONDS = LAMBDA_SECONDS + 30.0
_LOG_LINES = 1000


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of one event.

    Attributes:
        outcomes: Of its calls, in their order.
        instance: Which instance answered, or empty.
        cold: Whether it was started for this.
        log: What was printed meanwhile.
        beyond: Jobs that Lambda could not finish, and why: time, memory, size.
    """

    outcomes: tuple[Outcome, ...]
    instance: str = ""
    cold: bool = False
    log: str = ""
    beyond: Mapping[str, str] = field(default_factory=dict)


def invoke(
    account: Account, function: Function, qualifier: str, calls: Sequence[Call], secret: Secret | None = None
) -> Reply:
    """Have calls answered by one event, or by several if their files are too large for one.

    Raises:
        Unavailable: If Lambda does not answer, or has too much to do.
        InvalidInput: If it refuses.
    """
    scratch = scratch_of(account, function)
    environment = resolved(function.environment, secret)
    waiting, outcomes, beyond = list(calls), [], {}
    last = Reply(())
    while waiting:
        room, share, entries, folders = INLINE_BYTES, [], [], []
        while waiting:
            call = waiting[0]
            size = call.input.stat().st_size if call.input is not None else 0
            told_too = len(call.event)
            if share and (size > room or told_too > room) and size <= INLINE_BYTES:
                break
            folder = scratch.new(call.job) if scratch else ""
            try:
                entries.append(payloads.call_of(function, call, scratch, folder, room))
            except payloads.Beyond as error:
                outcomes.append(Outcome(call.job, "refused", str(error)))
                beyond[call.job] = str(error)
                waiting.pop(0)
                continue
            room -= told_too + (size if size <= room else 0)
            folders.append(folder)
            share.append(waiting.pop(0))
        if not share:
            continue
        try:
            found = _asked(account, function, qualifier, payloads.event_of(function, entries, environment))
            last = _reply(share, found, scratch)
        finally:
            for folder, entry in zip(folders, entries, strict=True):
                if scratch and "bucket" in (entry.get("file") or {}) and entry["file"]["key"].startswith(folder):
                    scratch.clear(folder)
        outcomes += last.outcomes
        beyond |= last.beyond
    order = {call.job: number for number, call in enumerate(calls)}
    outcomes.sort(key=lambda one: order[one.job])
    return replace(last, outcomes=tuple(outcomes), beyond=beyond)


def describe(account: Account, name: str, version: str) -> tuple[list[dict[str, Any]], str, float]:
    """The arguments of a model's predictions, the instance that told them, and how long a cold one took.

    Raises:
        ModuleFailed: If it does not start.
    """
    began = time.monotonic()
    told_, failed = _sent(account, name, version, {"volvox": {"describe": True}})
    if failed:
        raise ModuleFailed(f"version {version} of Lambda function {name} does not start: {_said(told_)}")
    inner = told_["volvox"]
    seconds = time.monotonic() - began if inner["answered"] == 1 else 0.0
    return inner["arguments"], inner["instance"], seconds


def hold(account: Account, function: str, qualifier: str, seconds: float) -> tuple[str, float]:
    """Have an instance busy for a moment, so that it is warm: which one, and how long its start took, 0 if none did."""
    began = time.monotonic()
    told_, failed = _sent(account, name_of(function), qualifier, {"volvox": {"warm": seconds}})
    if failed:
        raise ModuleFailed(f"the Lambda function {name_of(function)} does not start: {_said(told_)}")
    inner = told_["volvox"]
    took = time.monotonic() - began - seconds
    return inner["instance"], max(0.001, took) if inner["answered"] == 1 else 0.0


def with_start(outcome: Outcome, seconds: float) -> Outcome:
    """The same with how long an instance was waited for."""
    return replace(outcome, started_seconds=round(seconds, 4)) if seconds else outcome


def cloud_log(account: Account, group: str) -> list[str]:
    """The newest lines of a group of CloudWatch, the oldest of these first; none if there is no such group."""
    from botocore.exceptions import ClientError

    logs, found = account.client("logs"), []
    with told(f"read the log {group}"):
        try:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
            for page in pages:
                found += [(one["timestamp"], one["message"].rstrip("\n")) for one in page["events"]]
                found = found[-_LOG_LINES:]
        except ClientError as error:
            if not is_missing(error):
                raise
    return [line for _, line in sorted(found, key=lambda one: one[0])]


def _asked(account: Account, function: Function, qualifier: str, event: Mapping[str, Any]) -> tuple[Any, bool]:
    return _sent(account, name_of(function.name), qualifier, event)


def _sent(account: Account, name: str, qualifier: str, event: Mapping[str, Any]) -> tuple[Any, bool]:
    """What the function answered, and whether that is an error."""
    from botocore.exceptions import ClientError

    client = account.client("lambda", seconds=_PATIENCE_SECONDS)
    with told(f"call the Lambda function {name}"):
        try:
            answer = client.invoke(FunctionName=f"{name}:{qualifier}", Payload=json.dumps(event).encode())
        except ClientError as error:
            if is_missing(error):
                raise NotFound(f"the Lambda function {name} is gone; apply its file again") from error
            if code_of(error) == "RequestEntityTooLargeException":
                return {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": "the call is too large"}, True
            raise
        body = answer["Payload"].read()
    try:
        return json.loads(body), bool(answer.get("FunctionError"))
    except ValueError:
        raise Unavailable(f"the Lambda function {name} answered no JSON") from None


def _reply(calls: Sequence[Call], found: tuple[Any, bool], scratch: Any) -> Reply:
    answer, failed = found
    if failed:
        kind, reason = payloads.failure_of(answer)
        beyond = dict.fromkeys((call.job for call in calls), reason)
        if payloads.is_too_large(answer):
            reason = "its answer is larger than what Lambda passes on; name a bucket as settings.bucket"
            beyond = dict.fromkeys(beyond, reason)
        elif kind not in ("timeout", "memory"):
            beyond = {}
        return Reply(tuple(Outcome(call.job, kind, reason) for call in calls), beyond=beyond)
    inner = answer["volvox"]
    by_job = {one["job"]: one for one in inner["outcomes"]}
    outcomes = tuple(payloads.outcome_of(call, by_job[call.job], scratch) for call in calls)
    beyond = {
        job: one["reason"]
        for job, one in by_job.items()
        if one["kind"] in ("memory", "storage", "payload") or (one["kind"] == "timeout" and one.get("limited"))
    }
    log = next((one["log"] for one in inner["outcomes"] if one.get("log")), "")
    return Reply(outcomes, inner["instance"], inner["answered"] == 1, log, beyond)


def _said(error: Any) -> str:
    return str(error.get("errorMessage", ""))[-1000:] if isinstance(error, Mapping) else str(error)


def stream_log(account: Account, group: str, stream: str) -> str:
    """The end of one stream of CloudWatch; empty if there is none."""
    from botocore.exceptions import ClientError

    with told(f"read the log {group}"):
        try:
            found = account.client("logs").get_log_events(
                logGroupName=group, logStreamName=stream, limit=_LOG_LINES, startFromHead=False
            )
        except ClientError as error:
            if is_missing(error):
                return ""
            raise
    return "".join(f"{one['message']}\n" for one in found["events"])
