"""Raise events on the Prefect server of this installation, from which automations start."""

from __future__ import annotations

import time
import uuid
from typing import Any

from volvox.blocking import result_of
from volvox.errors import InvalidInput
from volvox.parameters import as_json
from volvox.submitting import server

LANDED = "volvox.data.landed"


def landed(bucket: str, key: str, version: str = "", **details: Any) -> str:
    """Raise the event `volvox.data.landed`: an object with labelled data is in a bucket.

    The server has it when this returns. Automations start from it, e.g. a retraining
    (`deployments/automations/retrain-on-landed.yaml`). Told twice of the same version, they act once.

    Args:
        bucket: The bucket.
        key: The object's key.
        version: The store's version id of it, if it has any.
        details: More for the event's payload, e.g. `size` in bytes.

    Returns:
        The event's id.

    Raises:
        InvalidInput: If bucket or key is empty, or a detail is no JSON.
        Unavailable: If the Prefect server does not answer.
    """
    return result_of(alanded(bucket, key, version, **details))


async def alanded(bucket: str, key: str, version: str = "", **details: Any) -> str:
    """The same as `landed`, for a coroutine."""
    if not bucket or not key:
        raise InvalidInput(f"bucket {bucket!r} and key {key!r} name no object; give both")
    resource = f"s3.{bucket}/{key}"
    event = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{resource}?versionId={version}") if version else uuid.uuid4())
    told = {
        "id": event,
        "occurred": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": LANDED,
        "resource": {"prefect.resource.id": resource, "prefect.resource.name": key},
        "payload": {**as_json(details), "bucket": bucket, "key": key, "version": version},
    }
    async with server() as client:
        send: Any = client.request  # its type lists the paths that it knows
        await send("POST", "/events", json=[told])
    return event
