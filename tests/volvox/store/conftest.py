from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volvox.store.places import Place, engine
from tests.volvox.store.standin import StandIn
from volvox.buckets import Access

KINDS = [
    "folder",
    "standin",
    pytest.param("aws", marks=pytest.mark.aws),
    pytest.param("ceph", marks=[pytest.mark.ceph, pytest.mark.soak]),  # it takes a minute or two to start
]


@pytest.fixture(autouse=True)
def _no_aws_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[StandIn]:
    made = StandIn("bucket")
    yield made
    made.close()


@pytest.fixture
def bucket_place(server: StandIn, tmp_path: Path) -> Iterator[Place]:
    """A bucket of the stand-in."""
    access = Access(server.url, "us-east-1", access_key_id="a-key", secret_access_key="very-secret")
    made = Place("s3://bucket/some/prefix", tmp_path, access)
    yield made
    _ended(made)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of place in turn, empty."""
    if request.param == "standin":
        yield request.getfixturevalue("bucket_place")
        return
    if request.param == "folder":
        made = Place(str(tmp_path / "store"), tmp_path)
    else:
        if not os.environ.get("VOLVOX_ENGINES"):
            pytest.skip("VOLVOX_ENGINES is not set: no S3 server here")
        made = Place(f"s3://volvox-{uuid.uuid4().hex[:12]}/some/prefix", tmp_path, engine(request.param))
        made.client().create_bucket(Bucket=made.bucket)
    yield made
    _ended(made)
    if made.access:
        client = made.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=made.bucket):
            for one in page.get("Contents", []):
                client.delete_object(Bucket=made.bucket, Key=one["Key"])
        client.delete_bucket(Bucket=made.bucket)


def _ended(place: Place) -> None:
    for child in place.children:
        child.kill()
        child.communicate()
