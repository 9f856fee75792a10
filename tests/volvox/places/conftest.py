from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines import engine_environment
from tests.volvox.places.onedata_server import TOKEN, OnedataServer
from tests.volvox.places.proxy import Proxy
from tests.volvox.places.webdav_server import PASSWORD, USER, WebDavServer
from tests.volvox.store.standin import StandIn
from volvox.buckets import Access, Patience
from volvox.places import Place, credentials
from volvox.places.addresses import parsed
from volvox.places.asking import Waits
from volvox.places.directory import Directory
from volvox.places.onedata import Onedata
from volvox.places.s3 import S3Place
from volvox.places.webdav import WebDav

QUICK = Patience(connect=1, request=1.5, silence=1, retries=1)
SHORT = Waits(connect=1, silence=1, retries=2, pause=0.02)

AWS = pytest.param("aws", marks=pytest.mark.aws)
VERSIONED = pytest.param("aws, with versions", marks=pytest.mark.aws)
CEPH = pytest.param("ceph", marks=[pytest.mark.ceph, pytest.mark.soak])  # it takes a minute or two to start
VERSIONED_CEPH = pytest.param("ceph, with versions", marks=[pytest.mark.ceph, pytest.mark.soak])
KINDS = ["directory", "s3", "webdav", "onedata", AWS, VERSIONED, CEPH, VERSIONED_CEPH]
_SOAKED = [pytest.param(name, marks=[pytest.mark.aws, pytest.mark.soak]) for name in ("aws", "aws, with versions")]
ASKED = ["s3", "webdav", "onedata", *_SOAKED, CEPH, VERSIONED_CEPH]


@dataclass
class Kind:
    """A kind of place.

    Attributes:
        name: As in KINDS.
        open: A place, as another process would open it.
        gone: A place whose bucket, folder or space is not there.
        proxy: What it is reached through; None for a folder.
        secret: What no message may hold.
        refused: A place with credentials that are refused; None for a folder.
        server: What is behind the proxy, if it is one of the tests.
    """

    name: str
    open: Callable[[], Place]
    gone: Callable[[], Place]
    proxy: Proxy | None = None
    secret: str = ""
    refused: Callable[[], Place] | None = None
    server: Any = None


@pytest.fixture(autouse=True)
def _no_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "ONECLIENT_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    with contextlib.ExitStack() as stack:
        yield made(request.param, tmp_path, stack)


@pytest.fixture(params=ASKED)
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Each kind that is asked over a network."""
    with contextlib.ExitStack() as stack:
        yield made(request.param, tmp_path, stack)


@pytest.fixture
def with_versions(tmp_path: Path) -> Iterator[Kind]:
    """A bucket that shows how often something was written."""
    with contextlib.ExitStack() as stack:
        yield made("aws, with versions", tmp_path, stack)


@pytest.fixture
def place(kind: Kind) -> Place:
    return kind.open()


def made(name: str, folder: Path, stack: contextlib.ExitStack) -> Kind:
    if name == "directory":
        (folder / "place").mkdir()
        return Kind(
            name,
            lambda: Directory(parsed(str(folder / "place"))),
            lambda: Directory(parsed(str(folder / "nowhere"))),
        )
    if name == "webdav":
        return _webdav(stack)
    if name == "onedata":
        return _onedata(stack)
    return _bucket(name, stack)


def _webdav(stack: contextlib.ExitStack) -> Kind:
    server = WebDavServer()
    stack.callback(server.close)
    proxy = Proxy(server.url)
    stack.callback(proxy.close)
    address = parsed(f"webdav://127.0.0.1:{proxy.server_port}")

    def opened(password: str = PASSWORD) -> Place:
        return WebDav(address, credentials.login(address, {"login": USER, "password": password}), SHORT)

    return Kind("webdav", opened, opened, proxy, PASSWORD, lambda: opened("wrong-secret"), server)


def _onedata(stack: contextlib.ExitStack) -> Kind:
    server = OnedataServer()
    stack.callback(server.close)
    proxy = Proxy(server.url)
    stack.callback(proxy.close)

    def opened(space: str = "my%20space", token: str = TOKEN) -> Place:
        address = parsed(f"onedata://127.0.0.1:{proxy.server_port}/{space}")
        return Onedata(address, credentials.login(address, {"token": token}), SHORT)

    return Kind(
        "onedata", opened, lambda: opened("nowhere"), proxy, TOKEN, lambda: opened(token="wrong-secret"), server
    )


def _bucket(name: str, stack: contextlib.ExitStack) -> Kind:
    bucket, server, key, secret, other = "bucket", None, "a-key", "very-secret", "wrong-secret"
    if name == "s3":
        server = StandIn("bucket")
        stack.callback(server.close)
        endpoint = server.url
    else:
        bucket = f"volvox-{uuid.uuid4().hex[:12]}"
        found = engine_environment([name.partition(",")[0]])
        if name.startswith("ceph"):
            key, _, secret = found["S3_ALICE"].partition(":")
            endpoint = found["S3_ENDPOINT_URL"]
        else:
            endpoint, key, secret = found["AWS_ENDPOINT_URL"], "testing", "testing-secret"
        _make_bucket(endpoint, key, secret, bucket, stack, versions="versions" in name)
    proxy = Proxy(endpoint)
    stack.callback(proxy.close)

    def opened(named: str = bucket, secret: str = secret) -> Place:
        access = Access(proxy.url, "us-east-1", access_key_id=key, secret_access_key=secret)
        return S3Place(parsed(f"s3://{named}"), access, QUICK)

    checks = name.startswith("ceph")  # the others take any signature
    refused = (lambda: opened(secret=other)) if checks else None
    return Kind(name, opened, lambda: opened("no-such-bucket-here"), proxy, secret, refused, server)


def _make_bucket(
    endpoint: str, key: str, secret: str, bucket: str, stack: contextlib.ExitStack, *, versions: bool
) -> None:
    client = s3_client(endpoint, key, secret)
    client.create_bucket(Bucket=bucket)
    if versions:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def emptied() -> None:
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for one in page.get("Versions", []) + page.get("DeleteMarkers", []):
                client.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
        client.delete_bucket(Bucket=bucket)

    stack.callback(emptied)


def s3_client(endpoint: str, key: str, secret: str) -> Any:
    """boto3's client, which is not ours."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
