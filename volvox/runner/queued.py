"""A container of a service: it takes events from a queue of SQS, one after the other, until it is told to end.

The environment's VOLVOX_QUEUE is the queue's URL. A message is `s3://BUCKET/KEY` of an event, which is answered as
`volvox.runner.once` does. A message that is being answered is hidden from others; where a container ends beneath it, it
comes again. What came too often is given up, so that one event does not end every container of the service.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
import urllib.request
from typing import Any, Callable
from urllib.parse import urlsplit

from volvox.runner import once
from volvox.runner.objects import Trouble
from volvox.runner.running import Stopped
from volvox.runner.signing import KeyRing, NoKeys, signed

QUEUE = "VOLVOX_QUEUE"
BEGUN = "begun.json"
_WAIT_SECONDS = 20
_MOST = 3  # times that a message comes
_PAUSES = (1.0, 30.0)


class _Ending(BaseException):
    """This process was told to end while it waited."""


class Messages:
    """A queue of SQS, by its JSON protocol."""

    def __init__(self, url: str, ring: KeyRing, region: str = "") -> None:
        """Use the queue at `url`, of this environment's region unless another one is told."""
        self._url, self._ring = url, ring
        said = os.environ.get
        self._region = region or said("AWS_REGION") or said("AWS_DEFAULT_REGION") or "us-east-1"

    def next(self) -> dict[str, Any] | None:
        """The next message, waited for; None: there is none."""
        told = {
            "MaxNumberOfMessages": 1,
            "WaitTimeSeconds": _WAIT_SECONDS,
            "AttributeNames": ["ApproximateReceiveCount"],
        }
        found = self._asked("ReceiveMessage", told).get("Messages") or [None]
        return found[0]

    def done(self, message: dict[str, Any]) -> None:
        """It is answered, and comes no more."""
        self._asked("DeleteMessage", {"ReceiptHandle": message["ReceiptHandle"]})

    def back(self, message: dict[str, Any]) -> None:
        """It is for another one, at once."""
        self._asked("ChangeMessageVisibility", {"ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0})

    def _asked(self, action: str, told: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps({"QueueUrl": self._url, **told}).encode()
        parts = urlsplit(self._url)
        url = f"{parts.scheme}://{parts.netloc}/"
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"AmazonSQS.{action}"}
        digest = hashlib.sha256(body).hexdigest()
        told_ = signed("POST", url, headers, self._ring.keys(), self._region, payload=digest, service="sqs")
        request = urllib.request.Request(url, body, told_, method="POST")  # noqa: S310 - the address of the task definition
        with urllib.request.urlopen(request, timeout=_WAIT_SECONDS + 10) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")


def serve(start: Callable[[], Any], handle: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Answer the queue's events until this process is told to end; an exit code.

    Args:
        start: Makes everything ready; what it raises is printed, and the exit code is not 0.
        handle: Answers an event.
    """
    ending = _Told()
    messages = Messages(os.environ[QUEUE], KeyRing())
    start()
    pause = _PAUSES[0]
    while not ending.told:
        try:
            message = ending.unless_told(messages.next)
            if message is not None:
                _answered(messages, message, handle)
            pause = _PAUSES[0]
        except (_Ending, Stopped):
            break
        except (OSError, ValueError, NoKeys, Trouble) as error:
            sys.stderr.write(f"the queue's events cannot be answered: {error}; tried again in {pause:g} s\n")
            time.sleep(pause)
            pause = min(pause * 2, _PAUSES[1])
    return 0


def _answered(
    messages: Messages, message: dict[str, Any], handle: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:  # fmt: skip
    event = once.Event(message["Body"])
    count = int((message.get("Attributes") or {}).get("ApproximateReceiveCount") or 1)
    try:
        event.note(BEGUN, {"count": count, "time": time.time()})
        if count > _MOST:
            event.give_up(f"its container ended beneath it {_MOST} times")
        else:
            event.answer(lambda: None, handle)
    except Stopped:
        messages.back(message)
        raise
    except Trouble as error:
        if error.kind != "missing":  # else nobody waits for it any more
            raise
    messages.done(message)


class _Told:
    """Whether this process was told to end: at once while it waits, else when it has answered what it is at."""

    def __init__(self) -> None:
        self.told = self._waits = False
        signal.signal(signal.SIGTERM, self._hear)

    def unless_told(self, wait: Callable[[], Any]) -> Any:
        """What `wait` gives; it is broken off when this process is told to end."""
        self._waits = True
        try:
            if self.told:
                raise _Ending
            return wait()
        finally:
            self._waits = False

    def _hear(self, *_: Any) -> None:
        self.told = True
        if self._waits:
            raise _Ending
