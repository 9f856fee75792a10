"""What a bucket holds, with the version of each object; through botocore, as obstore tells of no versions.

obstore also gives up on a whole listing where one key has an empty part in it, which a bucket may have.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volvox.buckets.access import QUICK, Access, Patience
from volvox.buckets.failures import Unsupported
from volvox.errors import InvalidInput

if TYPE_CHECKING:
    from volvox.buckets.bucket import Bucket

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as its bucket lists it.

    Attributes:
        key: Its whole key.
        etag: Without quotes.
        modified: Seconds since the epoch.
        size: Bytes.
        version: Its version id; empty in a bucket without versions, `null` if it was written while there were none.
    """

    key: str
    etag: str
    modified: float
    size: int
    version: str = ""


def listed(bucket: Bucket, prefix: str, after: str = "", patience: Patience = QUICK) -> Iterator[Listed]:
    """Every object whose key begins with `prefix`, in the order of keys, those up to `after` left out; page by page.

    Raises:
        InvalidInput: If there is no such bucket, or the credentials are refused or have expired.
        Unavailable: If the server does not answer.
    """
    client = _client(bucket.access, patience)
    pages = _versions if _has_versions(bucket, client) else _objects
    for one in pages(bucket, client, prefix, after):
        if one.key > after:
            yield one


def _objects(bucket: Bucket, client: Any, prefix: str, after: str) -> Iterator[Listed]:
    asked: dict[str, Any] = {"StartAfter": after} if after else {}
    while True:
        page = _asked(
            bucket, client.list_objects_v2, Bucket=bucket.name, Prefix=prefix, MaxKeys=_PAGE, FetchOwner=False, **asked
        )
        for one in page.get("Contents", []):
            yield _listed(one)
        if not page.get("IsTruncated"):
            return
        asked = {"ContinuationToken": page["NextContinuationToken"]}


def _versions(bucket: Bucket, client: Any, prefix: str, after: str) -> Iterator[Listed]:
    asked: dict[str, Any] = {"KeyMarker": after} if after else {}
    while True:
        page = _asked(bucket, client.list_object_versions, Bucket=bucket.name, Prefix=prefix, MaxKeys=_PAGE, **asked)
        for one in page.get("Versions", []):
            if one["IsLatest"]:
                yield _listed(one)
        if not page.get("IsTruncated"):
            return
        asked = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}


def _has_versions(bucket: Bucket, client: Any) -> bool:
    """Whether the bucket keeps, or once kept, versions; one that may not be asked for it is taken to have none."""
    try:
        answer = _asked(bucket, client.get_bucket_versioning, Bucket=bucket.name)
    except (InvalidInput, Unsupported):
        _asked(bucket, client.list_objects_v2, Bucket=bucket.name, MaxKeys=1)  # says what is really wrong, if anything
        return False
    return answer.get("Status") in ("Enabled", "Suspended")


def _asked(bucket: Bucket, call: Any, **asked: Any) -> dict[str, Any]:
    from botocore.exceptions import BotoCoreError, ClientError

    # As in Bucket: errors are raised outside of the handler, so that the library's own do not hang behind them.
    try:
        return call(**asked)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(error.response.get("Error", {}).get("Code", ""))
        failed = f"{status} <Code>{code}</Code>" if code.isalpha() else f"{status}"
    except BotoCoreError as error:
        failed = {"ConnectTimeoutError": "TimedOut", "ReadTimeoutError": "TimedOut"}.get(
            type(error).__name__, "ConnectionRefused" if "refused" in str(error) else type(error).__name__
        )
    raise bucket.failure(failed)


def _listed(one: dict[str, Any]) -> Listed:
    return Listed(
        one["Key"], one["ETag"].strip('"'), one["LastModified"].timestamp(), one["Size"], one.get("VersionId", "")
    )


@functools.lru_cache(maxsize=64)
def _client(access: Access, patience: Patience) -> Any:
    """A client of botocore; imports the library the first time."""
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise InvalidInput("a bucket is listed with botocore, which is not installed; `pip install boto3`") from error
    logging.getLogger("botocore").setLevel(logging.WARNING)  # in its debug lines are headers
    given: dict[str, Any] = {}
    if access.access_key_id:
        given = {
            "aws_access_key_id": access.access_key_id,
            "aws_secret_access_key": access.secret_access_key,
            "aws_session_token": access.session_token or None,
        }
    style = "path" if access.path_style or (access.path_style is None and access.endpoint) else "auto"
    return botocore.session.get_session().create_client(
        "s3",
        region_name=access.region,
        endpoint_url=access.endpoint or None,
        verify=None if access.verify else False,
        config=Config(
            connect_timeout=patience.connect,
            read_timeout=patience.silence or patience.request,
            retries={"mode": "standard", "total_max_attempts": patience.retries + 1},
            s3={"addressing_style": style},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
        **given,
    )
