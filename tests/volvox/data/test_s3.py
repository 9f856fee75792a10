"""Archives and folders in a bucket."""

import hashlib
import os
import re
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from volvox.data.s3 import parsed, versioned
from volvox.data.sources import find_source
from volvox.errors import InvalidInput, NotFound, Unavailable


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("s3://bucket/a.zip", ("bucket", "a.zip")),
        ("s3://bucket/deep/a b#1?.zip", ("bucket", "deep/a b#1?.zip")),
        ("s3://bucket/folder/", ("bucket", "folder/")),
        ("s3://bucket/bucket/x", ("bucket", "bucket/x")),
        ("s3://bucket/", ("bucket", "")),
    ],
)
def test_an_address_is_bucket_and_key(address, parts) -> None:
    assert parsed(address) == parts


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("s3://bucket/a.zip?versionId=3/L4kq", ("s3://bucket/a.zip?versionId=3/L4kq", "")),
        ("s3://bucket/a.zip?versionId=3L4kqtJlcpXroDTDmJ.", ("s3://bucket/a.zip", "3L4kqtJlcpXroDTDmJ.")),
        ("s3://bucket/a.zip?versionId=a%2Fb%3D", ("s3://bucket/a.zip", "a/b=")),
        ("s3://bucket/a?.zip?versionId=v", ("s3://bucket/a?.zip", "v")),
        ("s3://bucket/a.zip?versionId=", ("s3://bucket/a.zip", "")),
        ("s3://bucket/a.zip?x=1", ("s3://bucket/a.zip?x=1", "")),
        ("s3://bucket/folder/", ("s3://bucket/folder/", "")),
    ],
)
def test_a_version_follows_the_key(address, parts) -> None:
    assert versioned(address) == parts


def test_an_endpoint_that_does_not_answer_is_unavailable(home, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(Unavailable, match="check AWS_ENDPOINT_URL"):
        find_source("s3://bucket/a.zip", home).fingerprint(threading.Event())


@pytest.fixture(scope="module")
def endpoint() -> dict[str, str]:
    """What the AWS endpoint of VOLVOX_ENGINES asks to be set."""
    engines = os.environ.get("VOLVOX_ENGINES")
    if not engines:
        pytest.skip("VOLVOX_ENGINES is not set: no S3 endpoint here")
    told = subprocess.run([f"{engines}/up", "aws"], capture_output=True, text=True, timeout=300, check=True).stdout
    return dict(re.findall(r"\b(AWS_\w+)=(\S+)", told))


@pytest.fixture
def bucket(endpoint, monkeypatch) -> Iterator[str]:
    import httpx

    for name, value in endpoint.items():
        monkeypatch.setenv(name, value)
    made = f"volvox-{uuid.uuid4().hex[:12]}"
    httpx.put(f"{endpoint['AWS_ENDPOINT_URL']}/{made}").raise_for_status()
    yield made


def put(bucket: str, key: str, data: bytes) -> None:
    import obstore

    from volvox.data.s3 import connect

    obstore.put(connect(bucket), key, data)


def names(source) -> list[str]:
    with source.opened(threading.Event()) as folder:
        return [found.path for found in folder.files]


@pytest.mark.aws
def test_an_archive_in_a_bucket_is_fetched_checked_and_known_by_its_etag(bucket, folder, tmp_path, home) -> None:
    data = Path(shutil.make_archive(str(tmp_path / "pets"), "gztar", folder)).read_bytes()
    put(bucket, "deep/pets 1.tar.gz", data)
    address = f"s3://{bucket}/deep/pets 1.tar.gz"
    source = find_source(address, home)
    assert source.name == "pets-1"
    before = source.fingerprint(threading.Event())
    assert names(source) == names(find_source(str(folder), home))
    assert len(names(find_source(address, home, hashlib.sha256(data).hexdigest()))) == 20
    with pytest.raises(InvalidInput, match="not 1111"):
        names(find_source(address, home, "1" * 64))
    put(bucket, "deep/pets 1.tar.gz", data + b"\0")
    assert find_source(address, home).fingerprint(threading.Event()) != before


@pytest.mark.aws
def test_one_version_of_an_archive_stays_what_it_was(bucket, folder, tmp_path, home) -> None:
    import httpx

    endpoint = os.environ["AWS_ENDPOINT_URL"]
    switched_on = (
        '<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status>'
        "</VersioningConfiguration>"
    )
    httpx.put(f"{endpoint}/{bucket}?versioning", content=switched_on).raise_for_status()
    import obstore

    from volvox.data.s3 import connect

    data = Path(shutil.make_archive(str(tmp_path / "pets"), "gztar", folder)).read_bytes()
    first = obstore.put(connect(bucket), "pets.tar.gz", data)["version"]
    shutil.rmtree(folder / "cat")
    fewer = Path(shutil.make_archive(str(tmp_path / "fewer"), "gztar", folder)).read_bytes()
    second = obstore.put(connect(bucket), "pets.tar.gz", fewer)["version"]
    assert first
    assert second
    whole, left = (find_source(f"s3://{bucket}/pets.tar.gz?versionId={one}", home) for one in (first, second))
    assert whole.name == "pets"
    assert len(names(whole)) == 20
    assert len(names(left)) == len(names(find_source(f"s3://{bucket}/pets.tar.gz", home))) < 20
    assert whole.fingerprint(threading.Event()) != left.fingerprint(threading.Event())
    with pytest.raises((NotFound, Unavailable), match="missing"):
        find_source(f"s3://{bucket}/pets.tar.gz?versionId=missing", home).fingerprint(threading.Event())


@pytest.mark.aws
def test_a_folder_in_a_bucket_is_fetched_once_and_known_by_its_listing(bucket, folder, home) -> None:
    for path in folder.rglob("*.png"):
        put(bucket, f"data/pets/{path.relative_to(folder)}", path.read_bytes())
    put(bucket, "data/pets-of-others/cat/x.png", b"x")
    address = f"s3://{bucket}/data/pets/"
    source = find_source(address, home)
    before = source.fingerprint(threading.Event())
    assert names(source) == names(find_source(str(folder), home))
    fetched = next((home.cache / "downloads").glob("*.folder")) / "cat" / "00.png"
    inode = fetched.stat().st_ino
    again = find_source(address, home)
    assert again.fingerprint(threading.Event()) == before
    assert len(names(again)) == 20
    assert fetched.stat().st_ino == inode
    put(bucket, "data/pets/cat/00.png", (folder / "cat/01.png").read_bytes())
    assert find_source(address, home).fingerprint(threading.Event()) != before


@pytest.mark.aws
def test_what_is_not_in_the_bucket_is_not_there(bucket, home) -> None:
    with pytest.raises(NotFound, match="is not there; check the bucket and the key"):
        find_source(f"s3://{bucket}/a.zip", home).fingerprint(threading.Event())
    with pytest.raises(NotFound, match="there is nothing at"):
        find_source(f"s3://{bucket}/a/", home).fingerprint(threading.Event())
