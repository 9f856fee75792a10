"""Whether a pool's job variables are such as its worker type knows, by name and by kind."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from volvox.pools.definition import PoolDefinition


def faults(pool: PoolDefinition, template: dict[str, Any]) -> list[str]:
    """What is wrong with the pool's job variables, one sentence each.

    Args:
        pool: What its file says.
        template: A base job template of its worker type.
    """
    from jsonschema import Draft202012Validator

    schema = template["variables"]
    known = schema["properties"]
    found: list[str] = []
    for name, value in pool.job_variables.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            found.append(f"a {pool.type} job has no variable {name!r}{hint}; there are {', '.join(sorted(known))}")
            continue
        asked = {**known[name], "$defs": schema.get("definitions") or schema.get("$defs") or {}}
        plain = _without_references(value)
        if plain is None and value is not None:
            continue
        for error in Draft202012Validator(asked).iter_errors(plain):
            found.append(f"job variable {name!r}: {error.message}")
    return found


def _without_references(value: Any) -> Any:
    """None for a value that holds a reference, which only the worker resolves."""
    return None if "{{" in repr(value) else value
