"""A container that answers one event and ends: a job of AWS Batch, or a task of ECS.

The environment's VOLVOX_EVENT is `s3://BUCKET/KEY` of the event, which lies in a folder of its own; the reply is
written beside it as `reply.json`, and the container's exit code is 0 if every call was answered.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable

from volvox.runner.objects import Bucket, Trouble
from volvox.runner.signing import KeyRing

EVENT = "VOLVOX_EVENT"
NODE, MAIN_NODE = "AWS_BATCH_JOB_NODE_INDEX", "AWS_BATCH_JOB_MAIN_NODE_INDEX"
REPLY = "reply.json"
FAILED, UNREADABLE = 1, 4


def answer(start: Callable[[], Any], handle: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Answer the event that the environment names; an exit code.

    Of a job on several machines the others do their part and write no reply: the leading one does.

    Args:
        start: Makes everything ready.
        handle: Answers an event.
    """
    bucket_name, _, key = os.environ[EVENT].split("://", 1)[1].partition("/")
    bucket = Bucket(bucket_name, KeyRing())
    target = f"{key.rpartition('/')[0]}/{REPLY}"
    leading = os.environ.get(NODE, "") == os.environ.get(MAIN_NODE, "")
    try:
        event = json.loads(bucket.read(key))
    except (Trouble, ValueError) as error:
        sys.stderr.write(f"the event {os.environ[EVENT]} cannot be read: {error}\n")
        return UNREADABLE
    try:
        start()
        reply = handle(event)
    except Exception as error:
        said = {"kind": "failed", "reason": f"{error}", "trouble": True}
        outcomes = [{**said, "job": call["job"]} for call in event["volvox"]["calls"]]
        reply = {"volvox": {"outcomes": outcomes, "failed": said["reason"]}}
    if leading:
        try:
            bucket.write(target, json.dumps(reply, default=str).encode())
        except Trouble as error:
            sys.stderr.write(f"the reply cannot be written: {error}\n")
            return UNREADABLE
    return FAILED if any(one["kind"] for one in reply["volvox"]["outcomes"]) else 0
