"""A folder of a bucket that is a function's own, for what no payload has room for: files, events, replies.

    <bucket>/.volvox/<function>/<job>/...

What lies there is removed when it was read; a lifecycle rule of the bucket that ends objects below `.volvox/` after
some days takes care of what a killed process left.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.places.addresses import parsed
from volvox.runtimes.aws.account import Account, is_missing, section, stated, told

FOLDER = ".volvox"


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folder of one function.

    Attributes:
        account: Whose bucket it is.
        bucket: The bucket.
        prefix: Keys begin with it; no `/` at its end.
    """

    account: Account
    bucket: str
    prefix: str

    def as_told(self) -> dict[str, str]:
        """As `volvox.runner.calls` reads it."""
        return {"bucket": self.bucket, "prefix": self.prefix}

    def new(self, job: str) -> str:
        """A new folder for one attempt of a job."""
        return f"{self.prefix}/{job}/{uuid.uuid4().hex[:12]}"

    def put(self, key: str, path: Path) -> None:
        """Upload a file."""
        with told(f"write to bucket {self.bucket}"):
            self.account.client("s3").upload_file(str(path), self.bucket, key)

    def write(self, key: str, value: Any) -> None:
        """Write a JSON value."""
        with told(f"write to bucket {self.bucket}"):
            self.account.client("s3").put_object(Bucket=self.bucket, Key=key, Body=json.dumps(value).encode())

    def read(self, key: str) -> Any:
        """A JSON value; None if it is not there."""
        from botocore.exceptions import ClientError

        with told(f"read from bucket {self.bucket}"):
            try:
                return json.load(self.account.client("s3").get_object(Bucket=self.bucket, Key=key)["Body"])
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

    def fetch(self, key: str, path: Path) -> None:
        """Download a file."""
        with told(f"read from bucket {self.bucket}"):
            self.account.client("s3").download_file(self.bucket, key, str(path))

    def clear(self, prefix: str = "") -> None:
        """Remove what lies below `prefix`, or all of it."""
        s3 = self.account.client("s3")
        with told(f"remove from bucket {self.bucket}"):
            for page in s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=f"{prefix or self.prefix}/"
            ):
                for one in page.get("Contents", []):
                    s3.delete_object(Bucket=self.bucket, Key=one["Key"])


def scratch_of(account: Account, function: Function) -> Scratch | None:
    """The function's folder; None if the definition names no bucket at all.

    The bucket is that of the settings (`bucket`, or SCAR's `lambda.deployment.bucket`), else that of the first output
    or input that lies in one of Amazon's.
    """
    bucket = section(function, "lambda", "deployment").get("bucket") or stated(function, "bucket", "batch", "ecs")
    for one in (*function.outputs, *function.inputs):
        address = parsed(one.url)
        if not bucket and address.kind == "s3" and not address.server and one.provider not in function.providers:
            bucket = address.name
    return Scratch(account, str(bucket).partition("/")[0], f"{FOLDER}/{function.name}") if bucket else None


def needed(account: Account, function: Function) -> Scratch:
    """The function's folder.

    Raises:
        InvalidInput: If it has none.
    """
    if (found := scratch_of(account, function)) is None:
        raise InvalidInput(
            f"function {function.name!r} needs a bucket for what its jobs are told: name one as settings.bucket"
        )
    return found
