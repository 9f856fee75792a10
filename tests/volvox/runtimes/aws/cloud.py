"""The AWS engine of VOLVOX_ENGINES for one test: buckets of its own, and what was written to whom."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from tests.volvox.runtimes.aws.benches import on_aws
from tests.volvox.runtimes.tiny import TinyModels
from volvox.functions.definition import Function
from volvox.runtimes.aws.account import Account
from volvox.runtimes.interface import Call, Outcome

_READS = ("Get", "List", "Describe", "Head", "Assume", "Simulate")


class Killed(BaseException):
    """The process ended at this request."""


@dataclass
class Cloud:
    """One test's part of the engine.

    Attributes:
        folder: For files.
        image: An image with Python and a shell.
        bucket: A bucket of the test's own.
        name: The function's.
        writes: Requests that changed something, by their names.
        dies_at: The process ends before the write of this number, counted from 1; 0: never.
    """

    folder: Path
    image: str
    bucket: str
    name: str = ""
    writes: list[str] = field(default_factory=list)
    dies_at: int = 0

    def __post_init__(self) -> None:
        """A name and models."""
        self.name = self.name or f"t-{uuid.uuid4().hex[:10]}"
        self.models = TinyModels(self.folder / "models")
        self.s3 = boto3.client("s3")
        self.s3.create_bucket(Bucket=self.bucket)

    def close(self) -> None:
        """Remove the bucket with all that is in it."""
        for one in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", []):
            self.s3.delete_object(Bucket=self.bucket, Key=one["Key"])
        self.s3.delete_bucket(Bucket=self.bucket)

    def watch(self, monkeypatch: Any) -> None:
        """Keep the names of requests that change something, and let the process end at one of them."""
        made = Account._made
        cloud = self

        def watched(account: Account, service: str, seconds: float) -> Any:
            client = made(account, service, seconds)

            def before(model: Any, **_: Any) -> None:
                if model.name.startswith(_READS) or model.name in ("Invoke", "GetCallerIdentity"):
                    return
                if len(cloud.writes) + 1 == cloud.dies_at:
                    raise Killed
                cloud.writes.append(model.name)

            client.meta.events.register("before-call", before)
            return client

        monkeypatch.setattr(Account, "_made", watched)

    def function(self, runtime: str, **more: Any) -> Function:
        """A function between two folders of the bucket."""
        told = {
            "name": self.name, "runtime": runtime, "inputs": [{"url": f"s3://{self.bucket}/in"}],
            "outputs": [{"url": f"s3://{self.bucket}/out"}],
        }  # fmt: skip
        if "model" not in more:
            told |= {"image": self.image}
        return Function.model_validate({**told, **more})

    def put(self, key: str, body: bytes = b"content") -> str:
        """Put an object; its version as places name it."""
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        from volvox.places import open_place

        found = open_place(f"s3://{self.bucket}").find(key)
        assert found is not None
        return found.version

    def objects(self, prefix: str = "out/") -> dict[str, str]:
        """What lies below a prefix."""
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {
            one["Key"]: self.s3.get_object(Bucket=self.bucket, Key=one["Key"])["Body"].read().decode() for one in found
        }  # fmt: skip

    def call(self, key: str, body: bytes = b"content", **more: Any) -> Call:
        """A call about an object that is put for it."""
        version = self.put(key, body)
        folder = self.folder / f"call-{uuid.uuid4().hex[:8]}"
        (folder / "out").mkdir(parents=True)
        told = {"relative": key.removeprefix("in/"), "place": f"s3://{self.bucket}", "version": version,
                "timeout_seconds": 60.0}  # fmt: skip
        return Call(uuid.uuid4().hex, None, folder / "out", folder / "log", key=key, **{**told, **more})

    def left(self) -> list[str]:
        """What the account has of the function."""
        return on_aws(self.name)

    def until(self, true: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.2)
        return found

    def messages(self) -> list[dict[str, Any]]:
        """What the function's queue holds, taken out of it."""
        sqs = boto3.client("sqs")
        url = sqs.get_queue_url(QueueName=f"volvox-{self.name}")["QueueUrl"]
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(one["Body"]) for one in found]


def run(*steps: Any) -> list[Any]:
    """Run coroutines one after the other, in one loop."""

    async def all_() -> list[Any]:
        return [await step for step in steps]

    return asyncio.run(all_())


def only(outcomes: Sequence[Outcome]) -> Outcome:
    """The one of them."""
    (found,) = outcomes
    return found
