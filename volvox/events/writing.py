"""The notification of a file that came by no notification, for scripts that read one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote_plus

from volvox.places.addresses import parsed


def notification(place: str, key: str, *, size: int = 0, user: str = "", modified: float = 0.0) -> str:
    """What MinIO would send for the object; that of a space of Onedata as OneTrigger would.

    Args:
        place: URL of the place, normalised.
        key: The object's key.
        size: Bytes.
        user: Who put it there.
        modified: Seconds since the epoch at which it came to be.
    """
    address = parsed(place)
    when = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    if address.kind == "onedata":
        record = {"eventSource": "OneTrigger", "objectKey": key.rpartition("/")[2], "objectId": "", "eventTime": when}
        return json.dumps({"Key": f"/{address.name}/{key}", "Records": [record]})
    bucket = address.name.rstrip("/").rpartition("/")[2] or "root"
    name = "s3:ObjectCreated:Put"
    told = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "eventName": name,
        "eventTime": when,
        "userIdentity": {"principalId": user},
        "requestParameters": {"principalId": user},
        "s3": {
            "s3SchemaVersion": "1.0",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key), "size": size},
        },
    }
    return json.dumps({"EventName": name, "Key": f"{bucket}/{key}", "Records": [told]})
