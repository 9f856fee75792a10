"""Calls: a file that somebody hands to a function and waits for, instead of putting it into a place.

    dispatch/calls/<id>/<name>     the file; `calls` is a place like any other

A call is a job like any other, in the same inbox, with the same limits; its answer is kept with it and goes to no
output place.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volvox.dispatch.foreseeing import foreseen, from_state
from volvox.dispatch.publishing import CALL
from volvox.dispatch.state import deployed
from volvox.dispatch.work import CALLS, file_name, work_of
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import ENDED, Inbox, Job, NewJob
from volvox.places import open_place, split
from volvox.settings import Home

_LOOK_SECONDS = 0.01
_PRIORITY = 10  # somebody waits
_MOST_BEFORE = 10_000  # of jobs that are counted to foresee a wait


@dataclass(frozen=True, slots=True)
class Handed:
    """A file that is to be asked about.

    Attributes:
        path: The file, in a folder of its own below `dispatch/calls`.
        folder: That folder.
    """

    path: Path
    folder: Path


def place_for(home: Home, name: str) -> Handed:
    """A new folder for a file called `name`; whoever calls writes the file."""
    folder = home.folder("dispatch", CALLS) / uuid.uuid4().hex
    folder.mkdir(mode=0o700)
    return Handed(folder / file_name(name), folder)


def call(home: Home, inbox: Inbox, function: str, handed: Handed, *, user: str = "", event: str = "") -> Job:
    """Make a job of a file that was handed in; it is answered as soon as its turn comes.

    Raises:
        NotFound: If there is no such function.
    """
    known = registry.get(home, function).filled
    place_url, _ = split(str(handed.folder.parent))
    inside = f"{handed.folder.name}/"
    found = open_place(place_url).find(inside + handed.path.name)
    if found is None:
        raise InvalidInput(f"{handed.path} is not a file that can be read")
    deadline = time.time() + known.deadline_seconds if known.deadline_seconds else 0.0
    priority = max(known.priority, _PRIORITY)
    ahead = inbox.runnable(known.name, _MOST_BEFORE, priority=priority)
    job = NewJob(
        foreseen=foreseen(known, from_state(deployed(home), known.name), ahead),
        function=known.name, place=place_url, key=found.key, version=found.version, size=found.size, user=user,
        priority=priority, deadline=deadline, event=event, source=CALL, inside=inside,
    )  # fmt: skip
    inbox.enter([job])
    return inbox.job(job.id)


def arguments_of(job: Job) -> dict[str, str]:
    """What a caller gave beside the file: the query of a request to the function's HTTP route."""
    if job.source != CALL or "queryStringParameters" not in job.event:
        return {}
    return json.loads(job.event).get("queryStringParameters") or {}


def ended(inbox: Inbox, job_id: str, seconds: float, tell: Callable[[Job], None] = lambda _: None) -> Job:
    """Wait until a job has ended; `tell` hears of every change.

    Raises:
        TimeoutError: If it has not ended by then; it goes on.
    """
    deadline, change = time.monotonic() + seconds, -1
    while True:
        job = inbox.job(job_id)
        if job.change != change:
            change = job.change
            tell(job)
        if job.state in ENDED:
            return job
        if time.monotonic() > deadline:
            raise TimeoutError(f"job {job_id[:8]} is {job.state} after {seconds:g} s; it goes on")
        time.sleep(_LOOK_SECONDS)


def answers(home: Home, job: Job) -> list[Path]:
    """The files that a call answered.

    Raises:
        InvalidInput: If what was asked could not be used.
        ModuleFailed: If the model or script failed.
        Unavailable: If asking again may help.
        NotFound: If the answer was removed since.
    """
    if job.state != "SUCCEEDED":
        raise failure(job)
    folder = work_of(home, job.id).kept
    found = [folder / one["key"] for one in job.outputs if not one["url"]]
    if gone := [path for path in found if not path.is_file()]:
        raise NotFound(f"the answer {gone[0].name} of job {job.id[:8]} is kept no more")
    return found


def failure(job: Job) -> VolvoxError:
    """The error that a failed job stands for."""
    kind, said = job.error.get("kind", ""), f"job {job.id[:8]}: {job.reason or 'it failed'}"
    if kind in ("refused", "cancelled", "deadline", "overwritten"):
        return InvalidInput(said)
    if kind in ("missing",):
        return NotFound(said)
    if kind in ("transient", "gone"):
        return Unavailable(said)
    return ModuleFailed(said)


def function_of(home: Home, name: str) -> Function:
    """The function `name` as it is applied.

    Raises:
        NotFound: If there is none.
    """
    return registry.get(home, name).filled
