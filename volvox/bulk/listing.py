"""What a run is told: which function, which version of its model, and which files. One object of the store.

A flow's parameters are kept in Prefect's database and shown in its pages, so they hold the digest of this object alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.identity import canonical_json
from volvox.inbox import Job
from volvox.runtimes.models import Model
from volvox.store import Store


@dataclass(frozen=True, slots=True)
class Listed:
    """A job of the list; the names of its answers follow from it (`volvox.dispatch.publishing.name_of`).

    Attributes:
        id, place, key, version, inside, user, source: As `volvox.inbox.Job`.
        change: The number of the change by which it was taken: taken another time, it is another list.
    """

    id: str
    place: str
    key: str
    version: str
    inside: str
    user: str
    source: str
    change: int

    @classmethod
    def of(cls, job: Job) -> Listed:
        """A job of the inbox."""
        return cls(job.id, job.place, job.key, job.version, job.inside, job.user, job.source, job.change)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one run answers.

    Attributes:
        function: What is asked; where secrets stand is in it, none of them is.
        version: What the dispatcher calls this version of it.
        model: The version of the model that its name meant when the list was made.
        jobs: The files.
    """

    function: Function
    version: str
    model: Model
    jobs: tuple[Listed, ...]

    def keep(self, store: Store) -> str:
        """Keep it in the store; its digest."""
        told = {
            "function": self.function.model_dump(mode="json"),
            "version": self.version,
            "model": self.model.as_json(),
            "jobs": [[getattr(job, name) for name in _COLUMNS] for job in self.jobs],
        }
        return store.put_bytes(canonical_json(told))


_COLUMNS = [field.name for field in fields(Listed)]


def read(store: Store, digest: str) -> Listing:
    """The list that is kept under `digest`.

    Raises:
        NotFound: If the store has no such object.
        InvalidInput: If it is no list of files.
    """
    data = store.path(digest).read_bytes()
    try:
        told: dict[str, Any] = json.loads(data)
        rows: Sequence[Sequence[Any]] = told["jobs"]
        return Listing(
            Function.model_validate(told["function"]),
            told["version"],
            Model.from_json(told["model"]),
            tuple(Listed(**dict(zip(_COLUMNS, row, strict=True))) for row in rows),
        )
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise InvalidInput(
            f"object {digest[:12]} of {store.address} is no list of files that this release reads "
            f"({type(error).__name__}); a dispatcher makes one from files that wait"
        ) from error
