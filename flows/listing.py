"""What was made, as tables for people and as plain values for machines."""

from __future__ import annotations

from typing import Any

from blocks.store import ObjectStore
from volvox.errors import NotFound
from volvox.records import Cycle, Dataset, ModelVersion

_MOST_CLASSES = 20
_MOST_REJECTED = 10


def versions() -> list[dict[str, Any]]:
    """Every registered version that the store remembers: name, version, module, metric, value, champion, run."""
    store = ObjectStore.local().open()
    champions = {name: (store.record("champion", name) or {}).get("version") for name in store.keys("champion")}
    found = []
    for key in store.keys("version"):
        version = ModelVersion.model_validate(store.record("version", key))
        found.append(
            {
                "name": version.name,
                "version": version.version,
                "champion": champions.get(version.name) == version.version,
                "module": version.module,
                "metric": version.verdict.metric,
                "value": version.verdict.value,
                "run_id": version.run_id,
                "digest": version.digest,
            }
        )
    return sorted(found, key=lambda version: (version["name"], int(version["version"])))


def versions_table(found: list[dict[str, Any]]) -> str:
    """The versions for people."""
    if not found:
        return "no model is registered yet; `volvox cycle FOLDER` makes one"
    rows = [
        (f"{version['name']}/{version['version']}", "champion" if version["champion"] else "", version["module"],
         f"{version['metric']} {version['value']:.3f}")
        for version in found
    ]  # fmt: skip
    return table(("model", "", "module", "held-out"), rows)


def dataset_table(dataset: Dataset) -> str:
    """What a dataset holds and what was left out, for people."""
    rows = [
        (name, *(str(dataset.counts[part][label]) for part in ("train", "val", "test")))
        for label, name in enumerate(dataset.classes[:_MOST_CLASSES])
    ]
    if len(dataset.classes) > _MOST_CLASSES:
        rows.append((f"... {len(dataset.classes) - _MOST_CLASSES} more classes", "", "", ""))
    rows.append(("in all", *(str(dataset.total(part)) for part in ("train", "val", "test"))))
    lines = [table(("class", "train", "val", "test"), rows)]
    if dataset.grouped_by:
        lines.append(f"kept together in the split by {dataset.grouped_by}")
    if dataset.rejected_total:
        lines.append(f"left out: {dataset.rejected_total}")
        lines += [f"  {rejected.file}: {rejected.reason}" for rejected in dataset.rejected[:_MOST_REJECTED]]
        if dataset.rejected_total > _MOST_REJECTED:
            lines.append(f"  ... {dataset.rejected_total - _MOST_REJECTED} more; --json lists them")
    lines.append(f"digest {dataset.content}")
    return "\n".join(lines)


def cycles(names: tuple[str, ...] = ()) -> list[Cycle]:
    """The last cycle of every model, or of those named.

    Raises:
        NotFound: If a named model has none.
    """
    store = ObjectStore.local().open()
    known = store.keys("cycle")
    if unknown := [name for name in names if name not in known]:
        raise NotFound(f"no cycle of a model named {unknown[0]!r} is known; known: {', '.join(known) or 'none'}")
    return [Cycle.model_validate(store.record("cycle", name)) for name in (names or known)]


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows under their heads, each column as wide as its widest cell."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )
