"""The records of finished stages, and the versions of models among them."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from volvox.errors import InvalidInput, NotFound
from volvox.records import ModelVersion, Record
from volvox.store import Store

R = TypeVar("R", bound=Record)

CHAMPION, PREVIOUS = "champion", "previous"


def published_version(store: Store, reference: str) -> ModelVersion:
    """The registered version `NAME` (its champion), `NAME@ALIAS` or `NAME/VERSION`, as this store remembers it.

    Raises:
        NotFound: If the store knows no such version.
        InvalidInput: If the alias is neither `champion` nor `previous`.
    """
    name, _, number = reference.partition("/")
    name, _, alias = name.partition("@")
    if alias and (number or alias not in (CHAMPION, PREVIOUS)):
        raise InvalidInput(
            f"{reference!r} names no published model; write NAME, NAME@champion, NAME@previous or NAME/1"
        )
    place = ("version", f"{name}-{number}") if number else (alias or CHAMPION, name)
    found = find(store, *place, ModelVersion)
    if found is None:
        wanted = f"version {number} of a model" if number else f"{alias or CHAMPION} of a model"
        raise NotFound(
            f"the store at {store.address} knows no {wanted} named {name!r}; `volvox models` lists what there is"
        )
    return found


def find(store: Store, stage: str, key: str, record: type[R]) -> R | None:
    """The kept record of `stage` under `key` if it is whole: it parses, and the store holds its objects."""
    value = store.record(stage, key)
    if value is None:
        return None
    try:
        kept = record.model_validate(value)
    except ValidationError:  # written by another release: the stage is run again
        return None
    return kept if all(map(store.has, kept.objects())) else None
