"""Read definition files: Volvox's own, those of SCAR and those of OSCAR, all into the same functions."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from volvox.errors import InvalidInput
from volvox.functions import oscar_form, own_form, scar_form
from volvox.functions.definition import NAME, Function
from volvox.functions.document import Value, read_documents, read_text
from volvox.functions.entries import Entries, Missing, Reading
from volvox.functions.providers import Providers
from volvox.functions.values import near

_THEIRS = ("aws", "oscar")


@dataclass(frozen=True, slots=True)
class Definitions:
    """What one file defines.

    Attributes:
        path: The file, absolute.
        functions: In the order of the file; a name stands once.
        warnings: What is kept and does nothing, looks wrong, or is a secret; each with file, line and key.
        missing: Files that it names and that are not there; a function whose script is missing has none.
    """

    path: Path
    functions: tuple[Function, ...]
    warnings: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()


def read(path: Path) -> Definitions:
    """The functions that the file at `path` defines.

    Raises:
        InvalidInput: If the file cannot be read or is wrong; the message tells every mistake with file, line and key,
            what is there, and what is allowed.
    """
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - `..` goes, links stay
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> Definitions:
    """The functions that `text` defines, which stands in the file `path`.

    Raises:
        InvalidInput: As for `read`.
    """
    reading = Reading(path)
    documents = read_documents(text, str(path))
    if not documents:
        raise InvalidInput(
            f"{path}: it is empty; a function's file says at least model (or image), runtime and places, "
            "e.g. {model: digits, places: {in: ~/drop, out: ~/answers}}"
        )
    _refuse_other_things(documents)
    found: list[_Found] = []
    for document in documents:
        several = document.get("functions")
        if several is not None and several.kind == "map":
            found += _theirs(document, several, reading)
        elif several is not None:
            found += _several_own(document, several, reading)
        else:
            found += _one(lambda each: own_form.read(each, reading, alone=len(documents) == 1), document, reading)
    functions = _kept_apart(found, reading)
    if reading.mistakes:
        raise InvalidInput("\n".join(dict.fromkeys(reading.mistakes)))
    if not functions:
        raise InvalidInput(f"{documents[0].where}: functions holds none; name at least one")
    return Definitions(path, tuple(functions), tuple(sorted(reading.warnings, key=_line)), tuple(reading.missing))


def _refuse_other_things(documents: Sequence[Value]) -> None:
    """Files that are YAML and no definitions, told as what they are."""
    for document in documents:
        if document.kind != "map":
            raise InvalidInput(
                f"{document.where}: it holds {document.told}; a function's file holds keys and values, "
                "several functions under functions: [...]"
            )
        kind = document.get("kind")
        if document.get("apiVersion") is not None and kind is not None:
            raise InvalidInput(
                f"{document.where}: it is a manifest of Kubernetes ({kind.text or 'of some kind'}) and no function"
            )
        found = document.get("functions")
        if found is not None and found.kind == "map" and len(documents) > 1:
            raise InvalidInput(
                f"{found.where}: a file in SCAR's or OSCAR's form holds one document, and this one holds "
                f"{len(documents)}; write all functions below one functions:, or one file each"
            )
        known = {key.lower() for key in (*own_form.KEYS, "functions")}
        if not any(name.lower() in known for name, _ in document.entries):
            names = ", ".join(name for name, _ in document.entries[:5]) or "nothing"
            raise InvalidInput(
                f"{document.where}: it defines no function: it holds {names}; expected are model, image, runtime, "
                "places, ..., or functions: with aws: (SCAR) or oscar: (OSCAR) below"
            )


class _Found(NamedTuple):
    """A function and where it stands; `cluster` tells it from another of its name, `missing` are places in a list."""

    function: Function
    value: Value
    cluster: str
    missing: range


def _one(read: Callable[[Value], Function | None], value: Value, reading: Reading, cluster: str = "") -> list[_Found]:
    """What one reader makes of a value."""
    before = len(reading.missing)
    function = read(value)
    return [_Found(function, value, cluster, range(before, len(reading.missing)))] if function else []


def _theirs(document: Value, functions: Value, reading: Reading) -> list[_Found]:
    top, entries = Entries(document, reading), Entries(functions, reading)
    top.get("functions")
    providers = Providers(reading)
    providers.read(top.get("storage_providers"), top.get("clusters"))
    found: list[_Found] = []
    for item in entries.items("aws"):
        found += _one(lambda each: scar_form.read(each, providers, reading), item, reading, "aws")
    for item in entries.items("oscar"):
        if item.kind != "map" or not item.entries:
            told = f"is {item.told}; write CLUSTER: and below it the keys of the service"
            reading.mistakes.append(str(item.wrong(told)))
        for cluster, service in item.entries:
            one = _one(lambda each, at=cluster: oscar_form.read(at, each, providers, reading), service, reading)
            found += [each._replace(cluster=str(each.function.settings["cluster_id"])) for each in one]
    for name, value in entries.rest():
        told = f"is no provider of functions{near(name, _THEIRS)}; there are aws and oscar"
        reading.mistakes.append(str(value.wrong(told)))
    for name, value in top.rest():
        known = ("functions", "storage_providers", "clusters")
        reading.warn(value, f"is not known{near(name, known)}; it does nothing")
    return found


def _several_own(document: Value, functions: Value, reading: Reading) -> list[_Found]:
    top = Entries(document, reading)
    top.get("functions")
    shared = top.get("providers")
    for name, value in top.rest():
        reading.mistakes.append(
            f"{value.where}: there is no key {value.key!r}{near(name, ('functions', 'providers'))}; beside functions "
            "there is providers alone"
        )
    if functions.kind != "list":
        reading.mistakes.append(str(functions.wrong(f"is {functions.told}; write a list of functions")))
    alone = len(functions.items) == 1
    found: list[_Found] = []
    for item in functions.items:
        found += _one(lambda each: own_form.read(each, reading, alone=alone, shared=shared), item, reading)
    return found


def _kept_apart(found: Sequence[_Found], reading: Reading) -> list[Function]:
    """One name each: services of the same name on several clusters have the cluster's added."""
    names = Counter(each.function.name for each in found)
    functions: list[Function] = []
    lines: dict[str, int] = {}
    for function, value, cluster, missing in found:
        name, spot = function.name, value.get("name") or (value.get("lambda") or value).get("name") or value
        if names[name] > 1 and cluster:
            name = f"{function.name}.{cluster}"
            if not NAME.fullmatch(name):
                told = f"would be called {name!r} to be told from the others of its name, and no function can be"
                reading.mistakes.append(str(spot.wrong(f"{told}; give them names of their own")))
                continue
            told = f"is called {name!r} here, as {function.name!r} stands in the file several times"
            reading.warn(spot, told)
        if name in lines:
            told = f"is {name!r}, which stands in line {lines[name]} too; use another name"
            reading.mistakes.append(str(spot.wrong(told)))
            continue
        lines[name] = spot.line
        for index in missing:
            reading.missing[index] = replace(reading.missing[index], function=name)
        changes = {"name": name, "settings": {**function.settings, "name": function.name}}
        functions.append(function if name == function.name else Function.model_validate({**dict(function), **changes}))
    return functions


def _line(told: str) -> int:
    found = re.search(r":(\d+): ", told)
    return int(found[1]) if found else 0
