"""Answers go where the definition says, whole, under names that tell whose answer they are."""

from __future__ import annotations

import mimetypes
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from volvox.dispatch.matching import Split, answers
from volvox.dispatch.work import Work
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.places import Place
from volvox.runner import naming

CALL = "call"  # the source of jobs that somebody waits for

Open = Callable[[str, Function, str], Place]


class Asked(Protocol):
    """What names of answers are made of: a job of the inbox, or one of a list."""

    @property
    def id(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def inside(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def source(self) -> str: ...


def provider_of(function: Function, job: Asked, split: Split) -> str:
    """The name of the credentials with which the job's object is read; empty: those of the environment."""
    return next((one.provider for one in function.inputs if split(one.url)[0] == job.place), "")


def relative_key(job: Asked) -> str:
    """The object's key below the function's input folder."""
    return job.key[len(job.inside) :]


def name_of(function: Function, job: Asked, path: str) -> str:
    """The key below an output folder for the file `path` that was written.

    A model's answer is named after its input and the job (`volvox.runner.naming`). A script names its outputs itself;
    where the input has a folder a user, they stay below that user's.
    """
    if function.model:
        return naming.model_answer(relative_key(job), job.id, path)
    if _per_user(function, job) and job.user:
        return f"{job.user}/{path}"
    return path


def published_before(function: Function, job: Asked, open_place: Open, split: Split) -> list[dict[str, Any]]:
    """What an earlier attempt has published already, if it is all there; else nothing. For a model's answers only."""
    if not function.model or not function.outputs or job.source == CALL:
        return []
    found: list[dict[str, Any]] = []
    for output in function.outputs:
        place_url, folder = split(output.url)
        place = open_place(place_url, function, output.provider)
        there = next(iter(place.list(_below(folder, name_of(function, job, "")))), None)
        if there is None:
            return []
        found.append({"url": place.url, "key": there.key, "size": there.size})
    return found


def publish(function: Function, job: Asked, work: Work, open_place: Open, split: Split) -> list[dict[str, Any]]:
    """Write what the job answered into every output place that it fits; keep it where there is none, or for a caller.

    Returns:
        `{"url", "key", "size"}` of each object, also of those that an earlier attempt had written.

    Raises:
        Unavailable: If a place does not answer; what is written already is found when it is tried again.
        InvalidInput: If a place refuses; it will refuse again.
        NotFound: If a place is gone.
    """
    files = work.files()
    if not function.outputs or job.source == CALL:
        return _keep(files, work)
    written: list[dict[str, Any]] = []
    for output in function.outputs:
        place_url, folder = split(output.url)
        place = open_place(place_url, function, output.provider)
        for path, file in files:
            if not answers(output, path):
                continue
            key = _below(folder, name_of(function, job, path))
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            place.put(key, file, content_type=kind, once=bool(function.model))
            written.append({"url": place.url, "key": key, "size": file.stat().st_size})
    return written


def _keep(files: Sequence[tuple[str, Path]], work: Work) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for path, file in files:
        target = work.kept / path
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".incoming-{target.name}"[:255])
        shutil.copyfile(file, temporary)
        temporary.replace(target)
        kept.append({"url": "", "key": path, "size": target.stat().st_size})
    return kept


def _per_user(function: Function, job: Asked) -> bool:
    return any(one.per_user for one in function.inputs) and "/" in relative_key(job)


def _below(folder: str, key: str) -> str:
    try:
        return naming.below(folder, key)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
