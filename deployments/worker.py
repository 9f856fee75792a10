"""The workers of a single machine: makes the Prefect server match, then runs what the enabled pools are given."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from volvox.errors import VolvoxError
from volvox.stack.services import Context, ServiceSpec, python

if TYPE_CHECKING:
    from volvox.stack.waking import Bell

_MLFLOW_SECONDS = 60.0
_LOOK_SECONDS = 2.0


def _argv(_: Context) -> list[str]:
    return python("-m", "deployments.worker")


service = ServiceSpec(
    name="worker",
    title="Worker",
    argv=_argv,
    after=("prefect", "mlflow"),
    start_seconds=180.0,
)


def main() -> None:
    """Wait for Prefect and MLflow, apply the deployments if they changed, run what comes until SIGTERM."""
    from volvox.settings import Home
    from volvox.stack import stack

    home = Home.current()
    # After MLflow too: nobody waits for the worker, and on two cores its imports would delay those who are waited for.
    stack.wait_ready(home, "prefect")
    stack.wait_marked(home, "mlflow", _MLFLOW_SECONDS)
    gc.disable()  # importing gains nothing from it
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_work(os.environ["PREFECT_API_URL"]))


async def _work(prefect_url: str) -> None:
    from deployments.apply import is_applied, pools
    from deployments.dead_runs import sweep_forever
    from deployments.workers import work
    from volvox.pools.machine import filled, this_machine
    from volvox.settings import Home
    from volvox.stack.waking import Bell

    current = asyncio.current_task()
    if current is not None:  # Prefect's worker leaves SIGTERM to its caller; cancelled, it ends its runs and reports
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    if not await is_applied(prefect_url):
        await _apply(prefect_url)
    enabled = pools()
    gc.freeze()
    gc.enable()
    machine = this_machine()
    processes = [filled(pool, machine) for pool in enabled.values() if not pool.starts_containers]
    bell = Bell()
    with bell.listening(Home.current()):
        async with asyncio.TaskGroup() as group:
            group.create_task(sweep_forever())
            group.create_task(_containers(prefect_url, bell))
            group.create_task(work(processes, bell, started=_ready))


async def _containers(prefect_url: str, bell: Bell) -> None:
    """Workers of the pools that start containers, begun anew whenever a pool's file has changed.

    Their runs do not notice: such a worker looks away once it has submitted a run.
    """
    from deployments.apply import is_applied, pools
    from deployments.workers import work

    while True:
        try:
            enabled = [pool for pool in pools().values() if pool.starts_containers]
        except VolvoxError as error:  # somebody is writing it
            print(f"error: {error}", flush=True)
            enabled = []
        before = _pool_files()
        working = asyncio.create_task(work(enabled, bell) if enabled else asyncio.sleep(0))
        try:
            while _pool_files() == before:
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        if not await is_applied(prefect_url):
            await _apply(prefect_url)


async def _apply(prefect_url: str) -> None:
    from deployments.apply import apply

    try:
        print("\n".join(await apply(prefect_url)), flush=True)
    except VolvoxError as error:  # what was applied until then can be run all the same
        print(f"error: {error}", flush=True)


def _pool_files() -> list[tuple[str, int]]:
    from volvox.settings import Home

    folder = Home.current().root / "pools"
    with contextlib.suppress(OSError):
        return sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.yaml"))
    return []


def _ready() -> None:
    """Every worker of processes has started, which is when the service is ready."""
    if ready := os.environ.get("VOLVOX_READY_FILE"):
        Path(ready).touch()


if __name__ == "__main__":
    sys.exit(main())
