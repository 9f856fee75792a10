"""What a module says of itself, made complete with the facts of a version, and checked against its schema.

The schemas are those of the AI4EOSC catalogue, which grew out of DEEP's (`schemas/NOTICE`). Formats such as `uri` are
annotations there and are not asserted: nearly every published file would fail.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEWEST = "2.3.0"
INVALID = "invalid metadata"
_FIRST = "1.0.0"
_SCHEMAS = Path(__file__).parent / "schemas"
_CATEGORIES = {"pre-trained": "AI4 pre trained", "trainable": "AI4 trainable", "api-v2": "AI4 inference"}


def faults(metadata: Any) -> list[str]:
    """What the schema of the metadata's own version objects to, one sentence each; empty if it is valid.

    Args:
        metadata: The parsed file. One without `metadata_version` is of the first version, DEEP's.
    """
    from jsonschema.validators import validator_for

    if not isinstance(metadata, dict):
        return ["it holds no keys and values"]
    version = metadata.get("metadata_version", _FIRST)
    schema = _SCHEMAS / f"ai4-apps-v{version}.json"
    if version not in versions():
        return [f"metadata_version is {version!r}; known are {', '.join(versions())}"]
    validator = validator_for(loaded := json.loads(schema.read_text()))(loaded)
    plain = json.loads(json.dumps(metadata, default=str))  # YAML reads an unquoted date as a date
    return [_sentence(error) for error in sorted(validator.iter_errors(plain), key=lambda error: list(error.path))]


def versions() -> list[str]:
    """The schema versions that are known."""
    return sorted(path.stem.removeprefix("ai4-apps-v") for path in _SCHEMAS.glob("ai4-apps-v*.json"))


def placeholder(name: str, reason: str) -> dict[str, Any]:
    """Valid metadata that stands in for metadata that is not: it says why."""
    return {
        "metadata_version": NEWEST,
        "title": name,
        "summary": "The metadata of this model's module is not valid.",
        "description": reason,
        "links": {"source_code": ""},
        "tags": [INVALID],
        "tasks": [],
        "categories": [],
        "libraries": [],
    }


def as_newest(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Valid metadata of any version, in the words of the newest; what has no place there stays under its own name.

    A file of the first version says neither libraries nor tasks: those lists are empty then, not guessed.
    """
    told = json.loads(json.dumps(dict(metadata), default=str))
    if "metadata_version" in told:
        return told | {"metadata_version": NEWEST}
    sources = told.pop("sources", {})
    keywords = told.pop("keywords", [])
    created = told.pop("date_creation", None)
    links = {
        "source_code": sources.get("code"),
        "docker_image": sources.get("docker_registry_repo"),
        "weights": sources.get("pre_trained_weights"),
        "dataset": told.pop("dataset_url", None),
        "citation": told.pop("cite_url", None),
    }
    told.pop("tosca", None)
    return told | {
        "metadata_version": NEWEST,
        "description": "\n\n".join(told["description"]),
        "links": {name: link for name, link in links.items() if link},
        "tags": keywords,
        "tasks": [],
        "libraries": [],
        "categories": [ours for theirs, ours in _CATEGORIES.items() if theirs in keywords],
        **({"dates": {"created": created, "updated": created}} if created else {}),
    }


def complete(
    name: str, stated: Mapping[str, Any], facts: Mapping[str, Any], *, reason: str = "", today: datetime.date
) -> dict[str, Any]:
    """The metadata of a published version: what the module states, and the facts of the version.

    Args:
        name: The model's name.
        stated: The module's metadata file.
        facts: Keys to add; what the module states itself under the same name stays, except inside `dates`, `links`,
            `provenance` and `metrics`, where a fact replaces what the file says.
        reason: Why the file could not be read, if it could not.
        today: The day of publication.

    Returns:
        Metadata that is valid by the newest schema: a placeholder with the reason where the module's own is not.
    """
    wrong = [reason] if reason else faults(dict(stated)) if stated else ["the module has no metadata file"]
    found = placeholder(name, "; ".join(wrong)) if wrong else as_newest(stated)
    day = today.isoformat()
    dates = {"created": day, **(found.get("dates") or {}), "updated": day}
    made = {**found, **{key: fact for key, fact in facts.items() if key not in found}, "dates": dates}
    for key in ("links", "provenance", "metrics", "resources"):
        if key in facts or key in found:
            made[key] = {**(found.get(key) or {}), **(facts.get(key) or {})}
    if late := faults(made):  # a fact of ours that the schema refuses is ours to mend, and breaks nothing here
        return {**placeholder(name, "; ".join(late)), **facts, "links": {"source_code": ""}, "dates": dates}
    return made


def _sentence(error: Any) -> str:
    place = ".".join(map(str, error.absolute_path))
    return f"{place}: {error.message}"[:300] if place else error.message[:300]
