"""Read definition files: Volvox's own, those of SCAR and those of OSCAR, all into the same functions."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volvox.errors import InvalidInput
from volvox.functions import oscar_form, own_form, scar_form
from volvox.functions.definition import Function
from volvox.functions.document import Value, read_documents, read_text
from volvox.functions.entries import Entries, Missing, Reading
from volvox.functions.providers import Providers
from volvox.functions.values import near

_THEIRS = ("aws", "oscar")
_LONGEST_NAME = 64


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
    pairs: list[tuple[Function, Value, str]] = []
    for document in documents:
        found = document.get("functions")
        if found is not None and found.kind == "map":
            pairs += _theirs(document, found, reading)
        elif found is not None:
            pairs += _several_own(document, found, reading)
        else:
            function = own_form.read(document, reading, alone=len(documents) == 1)
            pairs += [(function, document, "")] if function else []
    functions = _kept_apart(pairs, reading)
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


def _theirs(document: Value, functions: Value, reading: Reading) -> list[tuple[Function, Value, str]]:
    top, entries = Entries(document, reading), Entries(functions, reading)
    top.get("functions")
    providers = Providers(reading)
    providers.read(top.get("storage_providers"), top.get("clusters"))
    found: list[tuple[Function, Value, str]] = []
    for item in entries.items("aws"):
        if function := scar_form.read(item, providers, reading):
            found.append((function, item.get("lambda") or item, "aws"))
    for item in entries.items("oscar"):
        if item.kind != "map" or not item.entries:
            reading.mistakes.append(
                str(item.wrong(f"is {item.told}; write CLUSTER: and below it the keys of the service"))
            )
        for cluster, service in item.entries:
            if function := oscar_form.read(cluster, service, providers, reading):
                found.append((function, service, str(function.settings["cluster_id"])))
    for name, value in entries.rest():
        reading.mistakes.append(
            str(value.wrong(f"is no provider of functions{near(name, _THEIRS)}; there are aws and oscar"))
        )
    for name, value in top.rest():
        reading.warn(
            value, f"is not known{near(name, ('functions', 'storage_providers', 'clusters'))}; it does nothing"
        )
    return found


def _several_own(document: Value, functions: Value, reading: Reading) -> list[tuple[Function, Value, str]]:
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
    found = [
        (own_form.read(item, reading, alone=len(functions.items) == 1, shared=shared), item) for item in functions.items
    ]
    return [(function, item, "") for function, item in found if function]


def _kept_apart(pairs: Sequence[tuple[Function, Value, str]], reading: Reading) -> list[Function]:
    """One name each: services of the same name on several clusters have the cluster's added."""
    names = Counter(function.name for function, _, _ in pairs)
    found: list[Function] = []
    lines: dict[str, Value] = {}
    for function, value, where in pairs:
        name = function.name
        if names[name] > 1 and where:
            name = f"{function.name}.{where}"
            if len(name) > _LONGEST_NAME:
                reading.mistakes.append(
                    str(value.wrong(f"has a name with its cluster, {name!r}, of more than 64 characters"))
                )
                continue
            reading.warn(value, f"is called {name!r} here, as {function.name!r} stands in the file several times")
        if name in lines:
            spot, other = value.get("name") or value, lines[name]
            reading.mistakes.append(
                str(spot.wrong(f"is {name!r}, which stands in line {other.line} too; use another name"))
            )
            continue
        lines[name] = value.get("name") or value
        changes = {"name": name, "settings": {**function.settings, "name": function.name}}
        found.append(function if name == function.name else Function.model_validate({**dict(function), **changes}))
    return found


def _line(told: str) -> int:
    found = re.search(r":(\d+): ", told)
    return int(found[1]) if found else 0
