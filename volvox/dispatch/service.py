"""The dispatcher as a service of the stack; it is started with the others once there is a function."""

from __future__ import annotations

from volvox.settings import Home
from volvox.stack.services import Context, ServiceSpec, python


def _argv(_: Context) -> list[str]:
    return python("-m", "volvox.dispatch")


def _wanted(home: Home) -> bool:
    """Whether a function was applied here: `VOLVOX_HOME/functions/<name>/active.json`."""
    return any((home.root / "functions").glob("*/active.json"))


service = ServiceSpec(name="functions", title="Functions", argv=_argv, start_seconds=60.0, wanted=_wanted)
