"""Whether the jobs of a work pool reach what a function's files need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from volvox.functions.definition import Function
from volvox.functions.locations import parts_of
from volvox.pools.definition import PoolDefinition


def unreached(function: Function, pool: PoolDefinition) -> Iterator[tuple[str, str]]:
    """What containers of `pool` would not find, a sentence each, and how to mend it.

    Folders of this machine are there if a volume brings them under the path that they have here.
    """
    if not pool.starts_containers:
        return
    mounted = [target for source, target, *_ in (one.split(":") for one in pool.volumes) if source == target]
    places = [parts_of(place.url) for place in (*function.inputs, *function.outputs)]
    for folder in sorted({parts.folder for parts in places if parts.kind == "directory"}):
        if not any(Path(folder).is_relative_to(target) for target in mounted):
            said = f"containers of work pool {pool.name!r} do not have the folder {folder}"
            yield said, f"add {folder}:{folder} to the pool's volumes"
    for name, reference in sorted(function.providers.items()):
        if reference.startswith("file:"):
            said = f"containers of work pool {pool.name!r} do not have the file with the credentials of {name}"
            yield said, "save them as a block, and write block:NAME"
