"""A container of a service: events from a queue, until it is told to end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.runner.test_container import call, entry, event, image
from tests.volvox.runner.test_objects import Handler, Server

__all__ = ["image"]
SLOW = '#!/bin/sh\ntouch "$STARTED"\nwhile test -e "$HELD"; do sleep 0.05; done\necho done\n'
FOLDER = "/lake/.volvox/f/job"


class Queue(Server):
    """Buckets, and a queue of SQS: what is received is hidden until it is deleted or given back."""

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = WithQueue
        self.waiting: list[dict[str, Any]] = []
        self.hidden: dict[str, dict[str, Any]] = {}
        self.refuses = 0
        self.authorization = ""

    def put(self, name: str, **more: Any) -> None:
        """Have an event wait in the folder `name`."""
        self.objects[f"{FOLDER}/{name}/event.json"] = json.dumps(event(call(), **more)).encode()
        self.waiting.append({"Body": f"s3://lake/.volvox/f/job/{name}/event.json", "count": 0})

    def reply(self, name: str) -> dict[str, Any] | None:
        body = self.objects.get(f"{FOLDER}/{name}/reply.json")
        return json.loads(body)["volvox"]["outcomes"][0] if body else None


class WithQueue(Handler):
    server: Queue  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        action, server = self.headers["x-amz-target"], self.server
        server.authorization = self.headers["authorization"]
        if server.refuses:
            server.refuses -= 1
            self._answer(503, b"{}")
        elif action == "AmazonSQS.ReceiveMessage":
            assert told["QueueUrl"].endswith("/work") and told["AttributeNames"] == ["ApproximateReceiveCount"]
            if not server.waiting:
                time.sleep(0.1)
                self._answer(200, b"{}")
                return
            message = server.waiting.pop(0)
            message["count"] += 1
            handle = f"{len(server.hidden)}-{message['count']}"
            server.hidden[handle] = message
            attributes = {"ApproximateReceiveCount": str(message["count"])}
            found = [{"Body": message["Body"], "ReceiptHandle": handle, "Attributes": attributes}]
            self._answer(200, json.dumps({"Messages": found}).encode())
        else:
            message = server.hidden.pop(told["ReceiptHandle"])
            if action == "AmazonSQS.ChangeMessageVisibility":
                assert told["VisibilityTimeout"] == 0
                server.waiting.append(message)
            self._answer(200, b"{}")


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@contextlib.contextmanager
def running(image: Path, queue: Queue, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    endpoint = f"http://127.0.0.1:{queue.server_address[1]}"
    told = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s",
        "PATH": os.environ["PATH"], "VOLVOX_QUEUE": f"{endpoint}/123456789012/work", **environment,
    }  # fmt: skip
    process = subprocess.Popen(entry(image), env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(true: Any, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def test_events_are_answered_one_after_the_other_and_an_idle_one_ends_when_told(image: Path, queue: Queue) -> None:
    queue.put("a")
    queue.put("b", environment={"CODE": "3"})
    queue.refuses = 1  # a queue that does not answer is asked again
    with running(image, queue) as process:
        until(lambda: queue.reply("b"))
        until(lambda: not queue.hidden)
        assert [(queue.reply(one) or {})["exit_code"] for one in ("a", "b")] == [0, 3]
        assert queue.waiting == [] and json.loads(queue.objects[f"{FOLDER}/a/begun.json"])["count"] == 1
        assert "/us-east-1/sqs/aws4_request" in queue.authorization
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_an_event_that_nobody_waits_for_any_more_is_passed_over(image: Path, queue: Queue) -> None:
    queue.put("gone")
    del queue.objects[f"{FOLDER}/gone/event.json"]
    queue.put("a")
    with running(image, queue):
        until(lambda: queue.reply("a"))
        until(lambda: not queue.hidden)
    assert not [key for key in queue.objects if "/gone/" in key]


def test_one_that_ends_a_container_each_time_is_given_up(image: Path, queue: Queue) -> None:
    queue.put("a")
    queue.waiting[0]["count"] = 3
    with running(image, queue):
        told = until(lambda: queue.reply("a"))
        until(lambda: not queue.hidden)
    assert told["kind"] == "gone" and "3 times" in told["reason"] and queue.waiting == []


def test_one_that_is_told_to_end_ends_its_script_and_gives_the_event_back(
    image: Path, queue: Queue, tmp_path: Path
) -> None:
    (image / "function.json").write_text(json.dumps({"script": SLOW, "command": []}))
    started, held = tmp_path / "started", tmp_path / "held"
    held.touch()
    queue.put("a")
    with running(image, queue, STARTED=str(started), HELD=str(held)) as process:
        until(started.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert queue.reply("a") is None and queue.hidden == {} and len(queue.waiting) == 1
    held.unlink()
    with running(image, queue, STARTED=str(started), HELD=str(held)):
        assert until(lambda: queue.reply("a"))["printed"] == "done\n"
