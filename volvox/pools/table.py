"""Work pools for people: a table of all, a page of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volvox.pools.definition import Offers, PoolDefinition
from volvox.pools.placement import PoolState


def state_word(pool: PoolDefinition, state: PoolState | None) -> str:
    """One word: `online`, `offline`, `paused`, `off`, `not applied`, or `unknown` where the server was not reached."""
    if not pool.enabled:
        return "off"
    if state is None:
        return "unknown"
    if not state.exists:
        return "not applied"
    return "paused" if state.paused else "online" if state.online else "offline"


def as_values(pool: PoolDefinition, state: PoolState | None) -> dict[str, Any]:
    """A pool with its state for machines; what stands in its environment is left out, its names are not."""
    told = pool.model_dump(mode="json")
    told["environment"] = sorted(pool.environment)
    known = state if state is not None and state.exists else None
    return {
        **told,
        "state": state_word(pool, state),
        "queued": known.queued if known else None,
        "running": known.running if known else None,
        "free": known.free if known else None,
        "limit": known.limit if known else pool.concurrency_limit,
    }


def row(pool: PoolDefinition, state: PoolState | None) -> tuple[str, ...]:
    """Name, type, state, queue, free places, offers, cost an hour and image, as the table shows them."""
    told = as_values(pool, state)
    free, limit = told["free"], told["limit"]
    places = "-" if told["queued"] is None else "any" if limit is None else f"{free} of {limit}"
    return (
        pool.name, pool.type, told["state"], "-" if told["queued"] is None else str(told["queued"]), places,
        offers_words(pool.offers), f"{pool.cost_per_hour:.2f}", pool.image or "-",
    )  # fmt: skip


def offers_words(offers: Offers) -> str:
    """What one job can have, in a few words."""
    words = [
        f"{offers.cpu:g} CPU" if offers.cpu else "",
        _memory(offers.memory_mb),
        _gpus(offers),
        f"{_memory(offers.storage_mb)} disk" if offers.storage_mb else "",
    ]
    return ", ".join(filter(None, words)) or "what the machine has"


def page(pool: PoolDefinition, state: PoolState | None, path: str, reasons: Mapping[str, str]) -> str:
    """Everything about one pool.

    Args:
        pool: The pool.
        state: What the server says of it, or None.
        path: The file that defines it.
        reasons: Lines to add, title -> text.
    """
    told = as_values(pool, state)
    lines: list[tuple[str, str]] = [
        ("pool", pool.name), ("type", pool.type), ("description", pool.description), ("file", path),
        ("state", told["state"]), *reasons.items(),
        ("queue", "-" if told["queued"] is None else f"{told['queued']} waiting, {told['running']} running"),
        ("limit", "none" if told["limit"] is None else f"{told['limit']} at a time"),
        ("offers", offers_words(pool.offers)), ("cost", f"{pool.cost_per_hour:.2f} an hour"),
        ("start-up", f"about {pool.startup_seconds:g} s"), ("image", pool.image),
        ("volumes", ", ".join(pool.volumes)), ("environment", ", ".join(sorted(pool.environment))),
        ("job variables", ", ".join(f"{name}={value}" for name, value in pool.job_variables.items())),
    ]  # fmt: skip
    width = max(len(title) for title, _ in lines)
    return "\n".join(f"{title.ljust(width)}  {text}" for title, text in lines if text)


def _memory(megabytes: int | None) -> str:
    return f"{megabytes} MB" if megabytes else ""


def _gpus(offers: Offers) -> str:
    if offers.gpus is None:
        return ""
    if not offers.gpus:
        return "no GPU"
    kind = offers.gpu_model or ("GPU" if offers.gpus == 1 else "GPUs")
    memory = f" {_memory(offers.gpu_memory_mb)}" if offers.gpu_memory_mb else ""
    return f"{offers.gpus} {kind}{memory}"
