"""Events that come to a function without us: a bucket's own, and requests to the function's address.

The environment's VOLVOX_FUNCTION says what the function is, as `volvox.runtimes.aws.direct` writes it. An object is
answered under the same job as the inbox would have it: function, place, key, and the version that the bucket tells.
What became of it is noted in the scratch folder, `done/JOB.json`, where the dispatcher looks before it does anything
itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import os
import zlib
from typing import Any
from urllib.parse import unquote_plus

from volvox.runner.calls import Calls
from volvox.runner.lambda_api import Refused
from volvox.runner.objects import Bucket, Trouble
from volvox.runner.outputs import fits
from volvox.runner.signing import KeyRing

FUNCTION = "VOLVOX_FUNCTION"
_AGAIN = ("transient", "gone")
_STATUS = {"refused": 422, "transient": 503, "gone": 503, "timeout": 504}


def is_direct(event: dict[str, Any]) -> bool:
    """Whether an event is one of these."""
    return "volvox" not in event and (isinstance(event.get("Records"), list) or "requestContext" in event)


def handle(calls: Calls, ring: KeyRing, event: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Answer such an event.

    Raises:
        Refused: If Lambda shall try a bucket's event again.
    """
    function = read(os.environ.get(FUNCTION, ""))
    if "requestContext" in event:
        return _request(calls, function, event, seconds)
    found: list[dict[str, Any]] = []
    late: list[str] = []
    for record in event["Records"]:
        try:
            found += _calls(function, record, ring)
        except Trouble as error:
            if error.kind == "transient":
                late.append(str(error))
            else:
                print(f"an object is not answered: {error}", flush=True)
    outcomes: list[dict[str, Any]] = []
    if found:
        outcomes = calls.handle({"volvox": {**function["event"], "calls": found}}, seconds)["volvox"]["outcomes"]
    scratch = function["scratch"]
    for one in outcomes:
        if one["kind"] in _AGAIN:
            late.append(one["reason"])
            continue
        told = {name: one[name] for name in ("job", "kind", "reason", "exit_code", "outputs", "notes", "seconds")}
        key = f"{scratch['prefix']}/done/{one['job']}.json"
        Bucket(scratch["bucket"], ring).write(key, json.dumps(told).encode())
    if late:
        raise Refused("; ".join(late))
    return {"answered": len(outcomes), "kinds": [one["kind"] for one in outcomes]}


def read(text: str) -> dict[str, Any]:
    """The function that the environment tells.

    Raises:
        Refused: If it tells none.
    """
    try:
        return json.loads(zlib.decompress(base64.b64decode(text)))
    except (ValueError, zlib.error):
        raise Refused("this function was not deployed to be called by buckets: say trigger: direct") from None


def job_of(function: str, place: str, key: str, version: str) -> str:
    """The job's id, as `volvox.inbox.NewJob` has it."""
    text = json.dumps(["job", function, place, key, version], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _calls(function: dict[str, Any], record: dict[str, Any], ring: KeyRing) -> list[dict[str, Any]]:
    """The call for an object that a bucket tells of; none if it is not the function's."""
    if not str(record.get("eventName", "")).replace("s3:", "").startswith("ObjectCreated"):
        return []
    told = record["s3"]
    bucket, key = told["bucket"]["name"], unquote_plus(told["object"]["key"])
    place = next((one for one in function["inputs"] if _is_in(one, bucket, key)), None)
    if place is None:
        return []
    version = told["object"].get("versionId") or ""
    if version in ("", "null"):
        there = Bucket(bucket, ring).look(key)
        if there is None:
            return []  # it is gone again
        version = there.name
    relative = key[len(place["inside"]) :]
    user = relative.partition("/")[0] if place["per_user"] and "/" in relative else ""
    return [
        {
            **function["call"], "job": job_of(function["name"], place["url"], key, version), "key": key,
            "relative": relative, "place": place["url"], "user": user, "per_user": bool(user),
            "event": json.dumps({"Records": [record]}), "event_time": record.get("eventTime", ""),
            "file": {"name": key.rpartition("/")[2], "bucket": bucket, "key": key,
                     "version": version if "@" not in version else ""},
        }
    ]  # fmt: skip


def _is_in(place: dict[str, Any], bucket: str, key: str) -> bool:
    name = key[len(place["inside"]) :]
    if place["bucket"] != bucket or not key.startswith(place["inside"]) or not name or name.endswith("/"):
        return False
    hidden = name.rpartition("/")[2].startswith(".incoming-")
    return not hidden and fits(name, place["prefix"], place["suffix"])


def _request(calls: Calls, function: dict[str, Any], event: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Answer a request to the function's address: its body is the file, its query the arguments."""
    body = event.get("body") or ""
    raw = body if event.get("isBase64Encoded") else base64.b64encode(body.encode()).decode()
    headers = {name.lower(): text for name, text in (event.get("headers") or {}).items()}
    name = os.path.basename(headers.get("x-file-name", "")) or "request"  # noqa: PTH119 - a name, no path here
    call = {
        **function["call"], "job": hashlib.sha256(os.urandom(16)).hexdigest()[:32], "key": name, "relative": name,
        "arguments": event.get("queryStringParameters") or {}, "outputs": [], "scratch": None,
        "file": {"name": name, "content": raw} if raw else None,
    }  # fmt: skip
    (one,) = calls.handle({"volvox": {**function["event"], "calls": [call]}}, seconds)["volvox"]["outcomes"]
    if one["kind"]:
        return _response(_STATUS.get(one["kind"], 500), json.dumps({"kind": one["kind"], "reason": one["reason"]}))
    if not one["files"]:
        return _response(200, one["printed"], "text/plain; charset=utf-8")
    if len(one["files"]) == 1:
        (file,) = one["files"]
        kind = mimetypes.guess_type(file["path"])[0] or "application/octet-stream"
        return {**_response(200, file["content"], kind), "isBase64Encoded": True}
    return _response(200, json.dumps({"files": one["files"]}))


def _response(status: int, body: str, kind: str = "application/json") -> dict[str, Any]:
    return {"statusCode": status, "headers": {"content-type": kind}, "body": body, "isBase64Encoded": False}
