"""A container that answers one event and ends: a job of AWS Batch, or a task of ECS.

The environment's VOLVOX_EVENT is `s3://BUCKET/KEY` of the event, which lies in a folder of its own; the reply is
written beside it as `reply.json`, and the container's exit code is 0 if every call was answered.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Any, Callable

from volvox.runner.objects import Bucket, Trouble
from volvox.runner.running import Stopped
from volvox.runner.signing import KeyRing

EVENT = "VOLVOX_EVENT"
NODE, MAIN_NODE = "AWS_BATCH_JOB_NODE_INDEX", "AWS_BATCH_JOB_MAIN_NODE_INDEX"
REPLY = "reply.json"
FAILED, UNREADABLE = 1, 4


class Event:
    """An event that lies in a folder of its own."""

    def __init__(self, address: str) -> None:
        """`address` is `s3://BUCKET/KEY`."""
        bucket, _, self._key = address.split("://", 1)[1].partition("/")
        self._bucket, self._folder = Bucket(bucket, KeyRing()), self._key.rpartition("/")[0]

    def read(self) -> dict[str, Any]:
        """The event.

        Raises:
            Trouble: If it is not there, or cannot be read.
        """
        try:
            return json.loads(self._bucket.read(self._key))
        except ValueError as error:
            raise Trouble("failed", f"the event is no JSON ({error})") from None

    def note(self, name: str, value: dict[str, Any]) -> None:
        """Write beside it, if it is there.

        Raises:
            Trouble: If it is not, or that cannot be written.
        """
        if self._bucket.look(self._key) is None:
            raise Trouble("missing", "the event is not there any more")
        self._bucket.write(f"{self._folder}/{name}", json.dumps(value).encode())

    def answer(self, start: Callable[[], Any], handle: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
        """Answer it and write the reply; whether every call was answered.

        Of a job on several machines the others do their part and write no reply: the leading one does.

        Args:
            start: Makes everything ready.
            handle: Answers an event.

        Raises:
            Trouble: If it is not there, or cannot be read, or the reply cannot be written.
            Stopped: If this process was told to end.
        """
        event = self.read()
        try:
            start()
            reply = handle(event)
        except Stopped:
            raise
        except Exception as error:
            reply = _of_all(event, "failed", f"{error}")
        self._reply(reply)
        return not any(one["kind"] for one in reply["volvox"]["outcomes"])

    def give_up(self, reason: str) -> None:
        """Write a reply that says why it is not answered.

        Raises:
            Trouble: If it is not there, or that cannot be written.
        """
        self._reply(_of_all(self.read(), "gone", reason))

    def _reply(self, reply: dict[str, Any]) -> None:
        if os.environ.get(NODE, "") == os.environ.get(MAIN_NODE, ""):
            self._bucket.write(f"{self._folder}/{REPLY}", json.dumps(reply, default=str).encode())


def _of_all(event: dict[str, Any], kind: str, reason: str) -> dict[str, Any]:
    """A reply by which all calls of an event came to the same."""
    said = {"kind": kind, "reason": reason, "trouble": True}
    outcomes = [{**said, "job": call["job"]} for call in event["volvox"]["calls"]]
    return {"volvox": {"outcomes": outcomes, "failed": reason}}


def answer(start: Callable[[], Any], handle: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Answer the event that the environment names; an exit code.

    Args:
        start: Makes everything ready.
        handle: Answers an event.
    """
    event = Event(os.environ[EVENT])
    try:
        return 0 if event.answer(start, handle) else FAILED
    except Trouble as error:
        sys.stderr.write(f"the event {os.environ[EVENT]} is not answered: {error}\n")
        return UNREADABLE
    except Stopped:
        with contextlib.suppress(Trouble):
            event.give_up("its container was told to end")
        return FAILED
