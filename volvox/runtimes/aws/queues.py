"""The queues that buckets tell of new objects, as the runtimes of AWS remember them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volvox.runtimes.aws.beside import FOLDERS
from volvox.runtimes.kept import DEPLOYED
from volvox.settings import Home

_WAIT_SECONDS = 60.0

_read: dict[Path, tuple[int, dict[str, Any]]] = {}  # a file that has not changed is not read again


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of SQS.

    Attributes:
        url: Its URL.
        client: Makes a client that may read it.
    """

    url: str
    client: Callable[[], Any]


def of_home(home: Home) -> dict[str, Queue]:
    """Those of everything that is deployed on AWS, by URL."""
    found: dict[str, Queue] = {}
    for folder in FOLDERS:
        for path in (home.root / "dispatch" / folder).glob(f"*/{DEPLOYED}"):
            told = _told(path)
            if url := told.get("queue"):
                found[url] = Queue(url, lambda told=told: _client(told["function"]))
    return found


def _client(function: dict[str, Any]) -> Any:
    from volvox.functions.definition import Function
    from volvox.runtimes.aws.account import Account

    account = Account.of(Function.model_validate(function), "lambda", "batch", "ecs")
    return account.client("sqs", seconds=_WAIT_SECONDS)


def _told(path: Path) -> dict[str, Any]:
    try:
        changed = path.stat().st_mtime_ns
        if (known := _read.get(path)) is None or known[0] != changed:
            known = _read[path] = changed, json.loads(path.read_bytes())
        return known[1]
    except (OSError, ValueError):
        return {}
