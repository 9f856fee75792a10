"""Buckets of a function's places: made where they are missing, and marked as made for it.

What is in them is somebody's data. So a bucket goes with the function only where that is asked for, and only one that
was made for this function by this installation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from volvox.functions.definition import Function
from volvox.places.addresses import parsed
from volvox.runtimes.aws.account import FUNCTION, OWNER, Account, is_missing, tags, told
from volvox.runtimes.aws.scratch import scratch_of

_FIRST_REGION = "us-east-1"  # whose name S3 does not take where a bucket is made
_PAGE = 1000


def names_of(account: Account, function: Function) -> list[str]:
    """Every bucket of Amazon's that the function reads or writes with the role of its own, in order."""
    found = {
        address.name
        for one in (*function.inputs, *function.outputs)
        if one.provider not in function.providers and (address := parsed(one.url)).kind == "s3" and not address.server
    }
    if (scratch := scratch_of(account, function)) is not None:
        found.add(scratch.bucket)
    return sorted(found)


def missing(account: Account, function: Function) -> list[str]:
    """Those that are not there.

    Raises:
        InvalidInput: If these credentials may not look.
        Unavailable: If AWS does not answer.
    """
    return [name for name in names_of(account, function) if not _there(account, name)]


def ensure(account: Account, function: Function, owner: str) -> list[str]:
    """Make those that are missing; the names of those that were made.

    A process that is killed between making a bucket and marking it leaves one that nobody removes.

    Raises:
        InvalidInput: If AWS refuses: somebody else in the world has a bucket of that name, for one.
        Unavailable: If it does not answer.
    """
    s3, made = account.client("s3"), missing(account, function)
    for name in made:
        where: dict[str, Any] = (
            {} if account.region == _FIRST_REGION
            else {"CreateBucketConfiguration": {"LocationConstraint": account.region}}
        )  # fmt: skip
        with told(f"make the bucket {name}"):
            s3.create_bucket(Bucket=name, **where)
            marks = [{"Key": key, "Value": value} for key, value in tags(function.name, owner).items()]
            s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": marks})
    return made


def made_for(account: Account, function: Function, owners: Collection[str]) -> list[str]:
    """Those that were made for this function by one of these owners, the runtimes of an installation, and are there.

    Raises:
        InvalidInput: If AWS refuses.
        Unavailable: If it does not answer.
    """
    return [name for name in names_of(account, function) if _is_ours(account, name, function.name, owners)]


def remove(account: Account, function: Function, owners: Collection[str]) -> list[str]:
    """Remove those that were made for this function, with all that is in them; their names.

    Raises:
        InvalidInput: If AWS refuses.
        Unavailable: If it does not answer.
    """
    s3, ours = account.client("s3"), made_for(account, function, owners)
    for name in ours:
        with told(f"remove the bucket {name}"):
            for some in _versions(s3, name):
                s3.delete_objects(Bucket=name, Delete={"Objects": some, "Quiet": True})
            s3.delete_bucket(Bucket=name)
    return ours


def _versions(s3: Any, name: str) -> Iterator[list[dict[str, str]]]:
    """Everything in a bucket, those versions too that were overwritten or deleted, a page at a time."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name, MaxKeys=_PAGE):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if found:
            yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


def _there(account: Account, name: str) -> bool:
    from botocore.exceptions import ClientError

    with told(f"look for the bucket {name}"):
        try:
            account.client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
    return True


def _is_ours(account: Account, name: str, function: str, owners: Collection[str]) -> bool:
    from botocore.exceptions import ClientError

    with told(f"look at the bucket {name}"):
        try:
            found = account.client("s3").get_bucket_tagging(Bucket=name)["TagSet"]
        except ClientError as error:
            if is_missing(error) or error.response["Error"]["Code"] == "NoSuchTagSet":
                return False
            raise
    marks = {one["Key"]: one["Value"] for one in found}
    return marks.get(FUNCTION) == function and marks.get(OWNER) in owners
