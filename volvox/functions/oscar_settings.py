"""What `settings` of a function on runtime `oscar` may hold: ours, beside OSCAR's own keys of a service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.functions.document import Value, Wrong
from volvox.functions.entries import Kept, Table
from volvox.functions.oscar_keys import SERVICE
from volvox.functions.values import Kind, choice, matching, near, number

_CLUSTER = matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "write the id of a cluster, as it stands under clusters")

OSCAR: Mapping[str, Kind[Any]] = {
    "cluster": _CLUSTER,
    "cluster_id": _CLUSTER,
    "name": matching(
        r"[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?", "write the name of a service: 1 to 39 lower case letters, digits and '-'"
    ),
    "calls": choice("auto", "run", "job"),
    "run_seconds": number(1, 3_600),
    "start_seconds": number(1, 86_400),
}


def checked(value: Value) -> list[str]:
    """What is wrong with the settings that stand there, a sentence each."""
    return _wrong(value, SERVICE, OSCAR)


def _wrong(value: Value, table: Table, own: Mapping[str, Kind[Any]]) -> list[str]:
    found: list[str] = []
    for name, each in value.entries:
        if name.lower() == "storage_providers" and own:
            continue  # of its places
        kind = own.get(name.lower()) or next((told for key, told in table.items() if key.lower() == name.lower()), None)
        try:
            if kind is None:
                allowed = (*own, *table)
                told = f"is no setting of runtime oscar{near(name, allowed)}; allowed are "
                raise each.wrong(told + ", ".join(allowed))
            if each.kind == "nothing":
                continue
            if isinstance(kind, Mapping):
                if each.kind != "map":
                    raise each.wrong(f"is {each.told}; write keys and values")
                found += _wrong(each, kind, {})
            else:
                (kind.kind if isinstance(kind, Kept) else kind)(each)
        except Wrong as error:
            found.append(str(error))
    return found
