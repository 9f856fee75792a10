"""Functions that buckets call without us (`trigger: direct`): what their image must know, and what became of jobs."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.functions.secrecy import is_reference
from volvox.places.addresses import parsed
from volvox.runner.direct import FUNCTION
from volvox.runtimes.aws import payloads
from volvox.runtimes.aws.scratch import Scratch
from volvox.runtimes.interface import Outcome

DEAD = "dead"  # what the name of the queue ends with that takes events which were never answered


def variables(function: Function, scratch: Scratch | None) -> dict[str, str]:
    """The environment by which the image knows what it is.

    Args:
        function: The function.
        scratch: Its scratch folder, where buckets call it; None: only requests to its address do.

    Raises:
        InvalidInput: If not all of it can be done without us.
    """
    text = json.dumps(told(function, scratch)).encode()
    return {FUNCTION: base64.b64encode(zlib.compress(text, 9)).decode()}


def told(function: Function, scratch: Scratch | None) -> dict[str, Any]:
    """The function, as `volvox.runner.direct` reads it.

    Raises:
        InvalidInput: If an input or output lies where its role does not reach, or a variable is a secret.
    """
    inputs = _inputs(function) if scratch else []
    outputs = payloads.outputs_of(function)
    if scratch and not outputs:
        raise _not_alone(function, "an output is no bucket that its role writes to, or there is none")
    if secrets := sorted(name for name, value in function.environment.items() if is_reference(value)):
        raise _not_alone(function, f"{', '.join(secrets)} of its environment is a secret, which only we could read")
    event = payloads.event_of(function, [], function.environment)["volvox"]
    del event["calls"]
    call = {
        "model": bool(function.model), "outputs": outputs, "arguments": {},
        "scratch": scratch.as_told() if scratch else None, "timeout_seconds": function.timeout_seconds,
    }  # fmt: skip
    return {
        "name": function.name, "inputs": inputs, "event": event, "call": call,
        "scratch": scratch.as_told() if scratch else None,
    }  # fmt: skip


def _inputs(function: Function) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for one in function.inputs:
        address = parsed(one.url)
        if address.kind != "s3" or address.server or one.provider in function.providers:
            raise _not_alone(function, f"the input {one.url} is no bucket that its role reads")
        found.append(
            {"url": address.root, "bucket": address.name, "inside": f"{address.key}/" if address.key else "",
             "prefix": list(one.prefix), "suffix": list(one.suffix), "per_user": one.per_user}
        )  # fmt: skip
    return found


def answered(scratch: Scratch, job: str) -> Outcome | None:
    """What became of an object that a bucket told the function of; None: nothing is known of it."""
    found = scratch.read(f"{scratch.prefix}/done/{job}.json")
    if found is None:
        return None
    return Outcome(
        job, found["kind"], found["reason"], exit_code=found["exit_code"], seconds=found["seconds"],
        outputs=tuple(found["outputs"]), notes=tuple(found["notes"]),
    )  # fmt: skip


def _not_alone(function: Function, why: str) -> InvalidInput:
    return InvalidInput(
        f"function {function.name!r} is to be called without us (trigger: direct, or api_gateway), and {why}; say "
        "trigger: inbox, and no api_gateway"
    )
