"""What the dispatcher tells commands and pages: its functions, their instances, what jobs take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from volvox.settings import Home


def state_file(home: Home) -> Path:
    """Where the dispatcher says what it has deployed."""
    return home.root / "dispatch" / "state.json"


def deployed(home: Home) -> dict[str, Any]:
    """What the dispatcher said last: `{"functions": [...], "troubles": {NAME: REASON}}`; empty if it never ran."""
    try:
        return json.loads(state_file(home).read_bytes())
    except (OSError, ValueError):
        return {"functions": [], "troubles": {}}


def trouble(home: Home, name: str) -> str:
    """Why the function's present version cannot be deployed, as the dispatcher said last; empty if it can."""
    state = deployed(home)
    return "" if any(lane["function"] == name for lane in state["functions"]) else state["troubles"].get(name, "")
