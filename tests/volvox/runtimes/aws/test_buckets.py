"""Buckets of places are made, and go only if that is asked for, and only those that were made for the function."""

from __future__ import annotations

from typing import Any

import pytest

from tests.volvox.runtimes.aws.contract import ContractAccount, Killed, Refusal, Told
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes.aws import buckets


class S3:
    """Buckets in memory, with versions."""

    def __init__(self, *names: str) -> None:
        self.buckets: dict[str, list[dict[str, str]]] = {name: [] for name in names}
        self.tags: dict[str, list[dict[str, str]]] = {}
        self.forbidden: set[str] = set()

    def _known(self, name: str) -> None:
        if name in self.forbidden:
            raise Refusal("403", status=403)
        if name not in self.buckets:
            raise Refusal("NoSuchBucket", status=404)

    def HeadBucket(self, Bucket: str) -> None:
        self._known(Bucket)

    def CreateBucket(self, Bucket: str, CreateBucketConfiguration: dict[str, Any]) -> None:
        assert CreateBucketConfiguration == {"LocationConstraint": "eu-west-1"}
        self.buckets[Bucket] = []

    def PutBucketTagging(self, Bucket: str, Tagging: dict[str, Any]) -> None:
        self.tags[Bucket] = Tagging["TagSet"]

    def GetBucketTagging(self, Bucket: str) -> Any:
        self._known(Bucket)
        if Bucket not in self.tags:
            raise Refusal("NoSuchTagSet", status=404)
        return {"TagSet": self.tags[Bucket]}

    def ListObjectVersions(self, Bucket: str, MaxKeys: int, KeyMarker: str = "", **_: Any) -> Any:
        start = int(KeyMarker or 0)
        page = self.buckets[Bucket][start : start + 2]
        more = start + 2 < len(self.buckets[Bucket])
        markers = [one for one in page if one["VersionId"].startswith("d")]
        return {
            "Versions": [one for one in page if one not in markers], "DeleteMarkers": markers, "IsTruncated": more,
            **({"NextKeyMarker": str(start + 2)} if more else {}),
        }  # fmt: skip

    def DeleteObjects(self, Bucket: str, Delete: dict[str, Any]) -> Any:
        self.gone = [*getattr(self, "gone", []), *Delete["Objects"]]
        return {}

    def DeleteBucket(self, Bucket: str) -> None:
        assert len(getattr(self, "gone", [])) == len(self.buckets[Bucket]), "S3 removes only one that is empty"
        del self.buckets[Bucket]


def account_of(s3: S3, told: Told) -> ContractAccount:
    return ContractAccount(told, s3=s3)


def function(name: str = "f", **more: Any) -> Function:
    places = {"inputs": [{"url": "s3://films/new"}], "outputs": [{"url": "s3://films/counts"}, {"url": "s3://extra"}]}
    return Function.model_validate({"name": name, "model": "m/1", "runtime": "lambda", **places, **more})


def test_those_that_are_missing_are_made_and_marked_once() -> None:
    s3, told = S3("films"), Told()
    account = account_of(s3, told)
    assert buckets.names_of(account, function()) == ["extra", "films"]
    assert buckets.missing(account, function()) == ["extra"]
    assert buckets.ensure(account, function(), "me") == ["extra"]
    assert told.names == ["s3.CreateBucket", "s3.PutBucketTagging"]
    told.writes.clear()
    assert buckets.ensure(account, function(), "me") == [] and told.writes == []


def test_places_of_other_servers_and_credentials_are_not_ours_to_make() -> None:
    told = Told()
    elsewhere = function(
        inputs=[{"url": "s3://films/new", "provider": "minio"}], outputs=[{"url": "file:///data/out"}],
        providers={"minio": "block:minio"}, settings={"bucket": "scratch"},
    )  # fmt: skip
    assert buckets.names_of(account_of(S3(), told), elsewhere) == ["scratch"]


def test_only_what_was_made_for_this_function_goes_with_all_its_versions() -> None:
    s3, told = S3("films"), Told()
    account = account_of(s3, told)
    buckets.ensure(account, function(), "me")
    s3.buckets["films"] = [{"Key": "a", "VersionId": "1"}]
    s3.buckets["extra"] = [
        {"Key": "a", "VersionId": "1"},
        {"Key": "a", "VersionId": "d2"},
        {"Key": "b", "VersionId": "3"},
    ]
    assert buckets.made_for(account, function(), {"me", "and-me"}) == ["extra"]
    assert buckets.made_for(account, function(), {"another"}) == []
    assert buckets.made_for(account, function("g"), {"me"}) == []
    assert buckets.remove(account, function(), {"me"}) == ["extra"]
    assert s3.buckets == {"films": [{"Key": "a", "VersionId": "1"}]}
    assert buckets.remove(account, function(), {"me"}) == [], "a second time there is none"


def test_a_bucket_of_somebody_else_is_said_and_nothing_made() -> None:
    s3, told = S3("films", "extra"), Told()
    s3.forbidden = {"extra"}
    with pytest.raises(InvalidInput, match="look for the bucket extra"):
        buckets.ensure(account_of(s3, told), function(), "me")
    assert told.writes == []


def test_one_that_a_killed_process_did_not_mark_is_nobody_s() -> None:
    s3, told = S3("films"), Told(dies_at=2)
    with pytest.raises(Killed):
        buckets.ensure(account_of(s3, told), function(), "me")
    told.dies_at = 0
    account = account_of(s3, told)
    assert buckets.ensure(account, function(), "me") == []
    assert buckets.remove(account, function(), {"me"}) == [] and "extra" in s3.buckets
