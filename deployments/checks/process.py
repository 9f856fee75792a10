"""The checks of a pool of processes: the same environment as the worker's, in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

from deployments.checks.check import Check, Target, probed

_PROBE_SECONDS = 40.0


async def checks(target: Target, *, with_probe: bool) -> AsyncIterator[Check]:
    """See `deployments.checks.check.EngineChecks`."""
    yield Check("engine", True, "processes of this machine")
    if not with_probe:
        return
    environment = {**os.environ, **{name: value for name, value in target.configuration.env.items() if value}}
    environment.setdefault("VOLVOX_STORE", str(_store()))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "volvox.pools.probe",
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        yield Check("probe", False, f"it did not end within {_PROBE_SECONDS:.0f} s", "see the load of this machine")
        return
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    for check in probed(output.decode(errors="replace"), process.returncode, ""):
        yield check


def _store() -> str:
    from volvox.settings import Home

    home = Home.current()
    if home.store == str(home.root / "store"):
        home.folder("store")
    return home.store
