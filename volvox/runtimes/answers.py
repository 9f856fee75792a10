"""A call as a request to a model, and its answer as a file."""

from __future__ import annotations

import errno
import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from volvox.errors import InvalidInput
from volvox.worker.describing import file_argument

if TYPE_CHECKING:
    from volvox.runtimes.interface import Call, Kind

_LONGEST_NAME = 255


def check_arguments(described: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any], *, takes_files: bool) -> None:
    """Whether the model described has these arguments, and one for a file if it is to get files.

    Raises:
        InvalidInput: If not.
    """
    known = {told["name"] for told in described}
    if unknown := sorted(set(arguments) - known):
        raise InvalidInput(
            f"the model has no argument {', '.join(unknown)}; it has {', '.join(sorted(known)) or 'none'}"
        )
    if takes_files and file_argument([dict(told) for told in described]) is None:
        raise InvalidInput("the model takes no file, so no file can be answered: the function must have no inputs")


def name_of(call: Call) -> str:
    """The file's own name."""
    return PurePosixPath(call.relative or call.key).name or (call.input.name if call.input else "answer")


def request(
    call: Call, described: Sequence[dict[str, Any]], arguments: Mapping[str, Any], accept: str
) -> dict[str, Any]:
    """A call as `volvox.worker.answering` takes it.

    Raises:
        InvalidInput: If the model has no such argument.
    """
    values = {**arguments, **call.arguments}
    check_arguments(described, values, takes_files=call.input is not None)
    asked: dict[str, Any] = {"query": {}, "form": {}, "json": {}, "headers": {"accept": accept} if accept else {}}
    for told in described:
        if (name := told["name"]) not in values:
            continue
        value, where = values[name], told.get("location", "")
        if where in ("headers", "header"):
            asked["headers"][name] = str(value)
        elif where in ("query", "querystring", "form", "files"):
            asked["query" if where.startswith("query") else "form"][name] = (
                value if isinstance(value, list) else [value]
            )
        else:
            asked["json"][name] = value
    if call.input is not None and (field := file_argument([*described])):
        kind = mimetypes.guess_type(name_of(call))[0] or "application/octet-stream"
        asked["files"] = {field: [{"path": str(call.input), "content_type": kind, "name": name_of(call)}]}
    return asked


def failure(error: Mapping[str, Any]) -> tuple[Kind, str]:
    """What an error of the worker means for the call."""
    kind, message = error["kind"], str(error["message"])
    if kind == "refused":
        return "refused", f"the model refuses it: {said(error.get('messages')) or message}"
    if kind == "http" and 400 <= error["status"] < 500:
        return "refused", f"the model refuses it: {message}"
    if kind == "interrupted":
        return "gone", "the model was interrupted at it"
    return "failed", f"the model failed: {message}"


def keep(call: Call, content_type: str, body: bytes) -> tuple[Kind, str]:
    """Write an answer into the call's folder, JSON as `NAME.json`; what is wrong with it, if anything."""
    kind, name = content_type.partition(";")[0].strip().lower(), name_of(call)
    suffix = ".json" if kind == "application/json" else mimetypes.guess_extension(kind) or ".bin"
    if kind == "application/json":
        answer = json.loads(body)
        if isinstance(answer, dict) and answer.get("status") == "error":
            return "failed", f"the model failed: {answer.get('message') or 'its status is error'}"
        body = json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()
    if call.output is None:
        return "", ""
    while len((name + suffix).encode()) > _LONGEST_NAME:
        name = name[:-1]
    try:
        Path(call.output, name + suffix).write_bytes(body)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "transient", f"the disk of {call.output} is full"  # an answer is small: something else has filled it
        return "transient", f"its answer could not be written: {error.strerror or error}"
    return "", ""


def said(messages: Any) -> str:
    """Messages of a validation in one line: `image: Not an image.`"""
    if isinstance(messages, Mapping):
        return "; ".join(f"{name}: {said(value)}" for name, value in messages.items())
    if isinstance(messages, list | tuple):
        return " ".join(said(value) for value in messages)
    return str(messages or "")
