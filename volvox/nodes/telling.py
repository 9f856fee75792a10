"""Nodes for people and programs: a table, JSON, and why a job waits for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from volvox.errors import VolvoxError
from volvox.nodes.group import NodeGroup, read_groups
from volvox.nodes.ledger import Ledger, Node, read_ledger
from volvox.settings import Home

TITLES = ("node", "state", "since", "at work", "cost", "why")
_KEPT_SECONDS = 1.0


def groups_as_json(home: Home, now: float | None = None) -> list[dict[str, Any]]:
    """Every group with its nodes; times are ISO 8601 with a zone, seconds and costs are numbers.

    Raises:
        InvalidInput: If a group's file is wrong.
        OSError, ValueError: If what is kept of one cannot be read.
    """
    now = time.time() if now is None else now
    return [_group(group, read_ledger(home, name), now) for name, group in read_groups(home).items()]


def _group(group: NodeGroup, ledger: Ledger, now: float) -> dict[str, Any]:
    return {
        "group": group.name, "runtime": group.runtime, "functions": [*group.functions],
        "least": group.limits.least, "most": group.limits.most, "slots": group.limits.slots,
        "idle_seconds": group.limits.idle_seconds,
        "boot_seconds": round(ledger.boot_seconds or group.boot_seconds, 1), "boot_seen": bool(ledger.boot_seconds),
        "wanted": ledger.wanted, "trouble": ledger.trouble,
        "nodes": [_node(node, group, now) for node in ledger.nodes],
    }  # fmt: skip


def _node(node: Node, group: NodeGroup, now: float) -> dict[str, Any]:
    until = node.since if node.state == "failed" else now
    return {
        "name": node.id or node.name, "state": node.state, "since": _moment(node.since),
        "since_seconds": round(max(0.0, now - node.since), 1), "asked": _moment(node.asked), "at_work": node.at_work,
        "idle_seconds": round(now - node.idle, 1) if node.idle else None,
        "cost": round(max(0.0, until - node.asked) / 3600 * group.cost_per_hour, 6), "why": why(node, group, now),
    }  # fmt: skip


def why(node: Node, group: NodeGroup, now: float) -> str:
    """Why a node is as it is, and what comes next."""
    if node.state != "on" or node.why:
        return node.why
    if node.at_work is None:
        return "nobody tells what is at work on it, so it is never stopped"
    if not node.idle:
        return ""
    return f"nothing is on it since {now - node.idle:.0f} s; it is stopped after {group.limits.idle_seconds:g} s"


def row(told: dict[str, Any]) -> tuple[str, ...]:
    """The cells under `TITLES` of one node of `groups_as_json`."""
    work = "?" if told["at_work"] is None else str(told["at_work"])
    seconds = f"{told['since_seconds']:,.0f} s"
    return told["name"], told["state"], seconds, work, f"{told['cost']:.4f}" if told["cost"] else "-", told["why"]


def heading(told: dict[str, Any]) -> str:
    """One line on a group of `groups_as_json`."""
    boot = f"a boot takes {told['boot_seconds']:g} s" + ("" if told["boot_seen"] else " (as its file says)")
    whose = ", ".join(told["functions"]) or "all functions"
    return (
        f"{told['group']}: {whose} of {told['runtime']}; {told['wanted']} wanted of {told['least']} to {told['most']}, "
        f"{told['slots']} {'instance' if told['slots'] == 1 else 'instances'} on one; {boot}"
    )


def why_no_node(home: Home, function: str, runtime: str, now: float | None = None) -> str:
    """Why a function's job has no node, as a sentence; empty if it does not wait for one, or nobody knows."""
    now = time.time() if now is None else now
    try:
        groups = [one for one in read_groups(home).values() if one.serves(function, runtime)]
        ledgers = [(one, read_ledger(home, one.name)) for one in groups]
    except (VolvoxError, OSError, ValueError):
        return ""  # `volvox nodes` tells what is wrong
    for group, ledger in ledgers:
        if booting := [node for node in ledger.nodes if node.state in ("asking", "booting")]:
            first = min(booting, key=lambda node: node.asked)
            more = f", and {len(booting) - 1} more" if len(booting) > 1 else ""
            name = f"{first.id or first.name} of group {group.name}{more}"
            return f"a node boots since {now - first.asked:.0f} s ({name})"
        if ledger.trouble:
            return f"node group {group.name}: {ledger.trouble}"
    return ""


def coming(home: Home, runtime: str, now: Callable[[], float] = time.time) -> Callable[[], bool]:
    """A function that says whether a node for functions of a runtime may come; what it finds counts for a second."""
    kept, until = False, 0.0

    def found() -> bool:
        nonlocal kept, until
        if now() < until:
            return kept
        try:
            groups = [one for one in read_groups(home).values() if one.runtime == runtime]
            kept = any(_may_come(one, read_ledger(home, one.name), now()) for one in groups)
        except (VolvoxError, OSError, ValueError):
            kept = False
        until = now() + _KEPT_SECONDS
        return kept

    return found


def _may_come(group: NodeGroup, ledger: Ledger, now: float) -> bool:
    if any(node.state in ("asking", "booting") for node in ledger.nodes):
        return True
    return not ledger.trouble and now >= ledger.not_before and len(ledger.counted) < group.limits.most


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
