"""Rows of the inbox's tables and what they stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from volvox.errors import InvalidInput, NotFound
from volvox.inbox.database import Transaction, chunks
from volvox.inbox.job import Arrival, Job, State, Step, Waiting

JOB = (
    "number, id, function, place, key, version, size, owner, priority, deadline, event, source, inside, state, reason, "
    "attempts, not_before, holder, change, created, ended, function_version, outputs, error, cancel, steps, "
    "foreseen, bill"
)

_READ = ("owner", "outputs", "error", "cancel", "steps", "foreseen", "bill")  # columns that are no fields as they are


def step(when: float, state: State, reason: str = "") -> str:
    """A step as it is kept."""
    return json.dumps([round(when, 6), state, reason], ensure_ascii=False)


def one(here: Transaction, job_id: str) -> Job:
    """The job whose id begins so; raises NotFound or, for several, InvalidInput."""
    if not job_id or not all(letter in "0123456789abcdef" for letter in job_id):
        raise NotFound(f"there is no job {job_id!r}; an id is up to 32 digits and letters a to f (`volvox jobs`)")
    rows = here.read(f"SELECT {JOB} FROM jobs WHERE id >= ? AND id <= ? LIMIT 2", (job_id, job_id.ljust(32, "f")))  # noqa: S608
    if not rows:
        raise NotFound(f"there is no job {job_id!r}; it may have been forgotten, or was never made (`volvox jobs`)")
    if len(rows) > 1:
        raise InvalidInput(f"several jobs' ids begin with {job_id!r}; give more of it")
    return job(rows[0])


def jobs(here: Transaction, ids: Sequence[str]) -> dict[str, Job]:
    """Jobs by id."""
    found: dict[str, Job] = {}
    for some in chunks(ids):
        rows = here.read(f"SELECT {JOB} FROM jobs WHERE id IN ({', '.join('?' * len(some))})", some)  # noqa: S608
        found |= {row["id"]: job(row) for row in rows}
    return found


def in_order(found: Mapping[str, Job], ids: Sequence[str]) -> list[Job]:
    """Those that are being started, in the order of `ids`."""
    return [found[one] for one in ids if found[one].state == "STARTING"]


def job(row: Mapping[str, Any]) -> Job:
    """The job of a row."""
    told = {name: value for name, value in row.items() if name not in _READ}
    return Job(
        **told,
        user=row["owner"],
        outputs=tuple(json.loads(row["outputs"])),
        error=json.loads(row["error"]),
        cancel=bool(row["cancel"]),
        steps=tuple(Step(*one) for one in json.loads(f"[{row['steps']}]")),
        foreseen=json.loads(row["foreseen"]),
        bill=json.loads(row["bill"]),
    )


def waiting(row: Mapping[str, Any]) -> Waiting:
    """The arrival of a row."""
    names = ("place", "key", "version", "source", "event", "function", "priority")
    arrival = Arrival(**{name: row[name] for name in names}, user=row["owner"])
    return Waiting(row["number"], arrival, row["received"], row["tries"], row["reason"])


def plain(text: str) -> str:
    """`text` with what LIKE would read as a pattern made plain."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
