"""AWS Lambda's Runtime API: what an image asks it for the next event, and tells what became of it."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
import traceback
from typing import Any, Callable

HOST = "AWS_LAMBDA_RUNTIME_API"
_VERSION = "/2018-06-01/runtime"
_KEPT_BACK_SECONDS = 1.0  # of the time that Lambda gives, for publishing answers and for the reply


class Refused(Exception):
    """An event was not answered, and Lambda shall know that: it may try it again, or put it with the dead letters."""


def serve(start: Callable[[], Any], handle: Callable[[dict[str, Any], float], dict[str, Any]]) -> int:
    """Answer events until Lambda ends this process; 1 if it cannot begin.

    Args:
        start: Makes everything ready; what it raises is told to Lambda, and no event is asked for.
        handle: Answers an event within so many seconds.
    """
    api = _Api(os.environ[HOST])
    try:
        start()
    except Exception as error:
        # Lambda may notice that this process ended before it notices what it was told: the log has the reason, too.
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        api.tell(f"{_VERSION}/init/error", _error(error), "Runtime.InitError")
        return 1
    while True:
        request, event, seconds = api.next()
        try:
            reply = json.dumps(handle(event, seconds), default=str).encode()
        except Exception as error:
            if not isinstance(error, Refused):
                traceback.print_exc()
            api.tell(f"{_VERSION}/invocation/{request}/error", _error(error), type(error).__name__)
            continue
        api.tell(f"{_VERSION}/invocation/{request}/response", reply)
        sys.stdout.flush()


class _Api:
    def __init__(self, host: str) -> None:
        self._host = host
        self._connection = http.client.HTTPConnection(host)  # no time limit: this process is frozen between events

    def next(self) -> tuple[str, dict[str, Any], float]:
        """Id of the next event, the event, and how long it may take."""
        self._connection.request("GET", f"{_VERSION}/invocation/next")
        answer = self._connection.getresponse()
        event = json.loads(answer.read() or b"{}")
        end = float(answer.headers.get("Lambda-Runtime-Deadline-Ms") or 0) / 1000
        seconds = max(0.1, end - time.time() - _KEPT_BACK_SECONDS) if end else 900.0
        return answer.headers["Lambda-Runtime-Aws-Request-Id"], event, seconds

    def tell(self, path: str, body: bytes, kind: str = "") -> None:
        """Send what became of it."""
        headers = {"Content-Type": "application/json"}
        if kind:
            headers["Lambda-Runtime-Function-Error-Type"] = kind
        self._connection.request("POST", path, body, headers)
        self._connection.getresponse().read()


def _error(error: Exception) -> bytes:
    said = str(error) or type(error).__name__
    return json.dumps({"errorMessage": said, "errorType": type(error).__name__, "stackTrace": []}).encode()
