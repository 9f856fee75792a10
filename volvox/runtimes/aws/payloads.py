"""Calls as events of `volvox.runner.calls`, and their replies as outcomes."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from volvox.errors import InvalidInput, VolvoxError
from volvox.functions.definition import Function
from volvox.places.addresses import parsed
from volvox.runner import naming
from volvox.runtimes.aws.limits import INLINE_BYTES
from volvox.runtimes.aws.scratch import Scratch
from volvox.runtimes.interface import Call, Kind, Outcome

_KINDS = frozenset(get_args(Kind))
_EVENT_BYTES = 512 << 10  # of a notification that goes with a call


class Beyond(InvalidInput):
    """A call does not fit into what Lambda takes."""


def fetched_there(function: Function, place: str) -> bool:
    """Whether the function's role reads what lies in `place`: a bucket of Amazon's, by no other credentials."""
    address = parsed(place)
    if address.kind != "s3" or address.server:
        return False
    own = [one for one in function.inputs if parsed(one.url).root == address.root]
    return bool(own) and not any(one.provider in function.providers for one in own)


def outputs_of(function: Function) -> list[dict[str, Any]]:
    """The outputs as the function itself writes them; none if one of them is no bucket that its role may write to."""
    found: list[dict[str, Any]] = []
    for one in function.outputs:
        address = parsed(one.url)
        if address.kind != "s3" or address.server or one.provider in function.providers:
            return []
        found.append(
            {"url": address.root, "bucket": address.name, "folder": address.key, "prefix": list(one.prefix),
             "suffix": list(one.suffix)}
        )  # fmt: skip
    return found


def call_of(function: Function, call: Call, scratch: Scratch | None, folder: str, room: int) -> dict[str, Any]:
    """One call as it goes into an event.

    Args:
        function: Whose.
        call: The call.
        scratch: Where goes what there is no room for.
        folder: The call's own folder there.
        room: Bytes of its file that may be in the event.

    Raises:
        Beyond: If its file is larger, and there is no scratch folder.
    """
    told: dict[str, Any] = {
        "job": call.job, "key": call.key, "relative": call.relative, "place": call.place, "user": call.user,
        "event_time": call.event_time, "arguments": dict(call.arguments), "timeout_seconds": call.timeout_seconds,
        "event": call.event if len(call.event) <= _EVENT_BYTES else "", "model": bool(function.model),
        "per_user": any(one.per_user for one in function.inputs) and "/" in call.relative and bool(call.user),
        "scratch": scratch.as_told() if scratch else None,
    }  # fmt: skip
    if call.input is not None:
        name, size = call.input.name, call.input.stat().st_size
        if size <= room:
            told["file"] = {"name": name, "content": base64.b64encode(call.input.read_bytes()).decode()}
        elif scratch is None:
            raise Beyond(
                f"the file has {size:,} bytes, and Lambda takes {INLINE_BYTES:,} in a call; name a bucket for larger "
                "ones as settings.bucket"
            )
        else:
            key = f"{folder}/input"
            scratch.put(key, call.input)
            told["file"] = {"name": name, "bucket": scratch.bucket, "key": key, "version": ""}
    elif call.key and call.place and function.fetches:
        version = call.version if "@" not in call.version and call.version != "null" else ""
        bucket = parsed(call.place).name
        told["file"] = {"name": name_in(call.key), "bucket": bucket, "key": call.key, "version": version}
        told["outputs"] = outputs_of(function)
    return told


def name_in(key: str) -> str:
    """The last part of a key."""
    return key.rpartition("/")[2] or key


def event_of(
    function: Function, calls: Sequence[Mapping[str, Any]], environment: Mapping[str, str], memory_mb: int | None = None
) -> dict[str, Any]:
    """The event of several calls.

    Args:
        function: Whose.
        calls: Those of `call_of`.
        environment: Of its script.
        memory_mb: What it may use; None: what the function says.
    """
    needs = function.resources
    told: dict[str, Any] = {
        "function": function.name, "arguments": function.arguments, "accept": function.accept, "calls": list(calls),
        "memory_mb": (needs.memory_mb or 0) if memory_mb is None else memory_mb,
    }  # fmt: skip
    if not function.model:
        told |= {"environment": dict(environment), "storage_mb": needs.storage_mb or 0}
    return {"volvox": told}


def outcome_of(call: Call, told: Mapping[str, Any], scratch: Scratch | None) -> Outcome:
    """What became of a call, with the files of the reply written into its folder.

    A kind that is none of `volvox.runtimes.interface` (`payload`, `missing`) is a failure.
    """
    kind, reason = str(told.get("kind", "")), str(told.get("reason", ""))
    if told.get("log") and call.log is not None:
        with contextlib.suppress(OSError), call.log.open("a") as stream:
            stream.write(str(told["log"]))
    if not kind and told.get("files") and call.output is not None:
        try:
            for file in told["files"]:
                _write(call.output, file, scratch)
        except (VolvoxError, OSError, ValueError) as error:
            kind, reason = "transient", f"its answer could not be had: {error}"
    return Outcome(
        call.job,
        kind if kind in _KINDS else "failed",  # pyright: ignore[reportArgumentType]
        reason,
        exit_code=told.get("exit_code"),
        seconds=float(told.get("seconds") or 0.0),
        outputs=tuple(told.get("outputs") or ()),
        printed=str(told.get("printed") or ""),
        notes=tuple(told.get("notes") or ()),
    )


def _write(folder: Path, file: Mapping[str, Any], scratch: Scratch | None) -> None:
    target = folder / naming.below("", str(file["path"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    if "content" in file:
        target.write_bytes(base64.b64decode(file["content"]))
    elif scratch is not None:
        scratch.fetch(str(file["key"]), target)


def failure_of(error: Mapping[str, Any]) -> tuple[Kind, str]:
    """What it means that Lambda says a function failed: kind and reason.

    `payload` is told by `is_too_large`.
    """
    message, kind = str(error.get("errorMessage", "")), str(error.get("errorType", ""))
    if re.search(r"Task timed out after", message):
        seconds = re.search(r"after ([0-9.]+) seconds", message)
        return "timeout", f"it took longer than Lambda gave it ({seconds[1] if seconds else '?'} s)"
    if kind == "Runtime.OutOfMemory" or "signal: killed" in message:
        return "memory", "Lambda ended it for lack of memory"
    if kind in ("Runtime.ExitError", "Runtime.ImportModuleError", "Runtime.Unknown") or "exited" in message.lower():
        return "gone", f"its instance ended: {message[-300:]}"
    return "failed", message[-500:] or kind or "it failed"


def is_too_large(error: Mapping[str, Any]) -> bool:
    """Whether Lambda did not pass on a reply since it was too large."""
    return str(error.get("errorType", "")) == "Function.ResponseSizeTooLarge"
