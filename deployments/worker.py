"""The one worker of a single machine: makes the Prefect server match, then runs what the pool `local` is given."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from pathlib import Path

from volvox.errors import VolvoxError
from volvox.stack.services import Context, ServiceSpec, python

POOL = "local"

_MLFLOW_SECONDS = 60.0


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
    from prefect.workers.process import ProcessWorker

    from deployments.apply import apply, is_applied
    from deployments.dead_runs import sweep_forever
    from deployments.missed_runs import once_for_missed_times

    current = asyncio.current_task()
    if current is not None:  # Prefect's worker leaves SIGTERM to its caller; cancelled, it ends its runs and reports
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    if not await is_applied(prefect_url):
        try:
            print("\n".join(await apply(prefect_url)), flush=True)
        except VolvoxError as error:  # what was applied until then can be run all the same
            print(f"error: {error}", flush=True)
    gc.freeze()
    gc.enable()
    sweeping = asyncio.create_task(sweep_forever())
    worker = once_for_missed_times(
        ProcessWorker(work_pool_name=POOL, name="this-machine", create_pool_if_not_found=False)
    )
    try:
        await worker.start(printer=_started)
    finally:
        sweeping.cancel()


def _started(text: str) -> None:
    """Prefect's worker says that it has started, which is when it is ready."""
    print(text, flush=True)
    if ready := os.environ.get("VOLVOX_READY_FILE"):
        Path(ready).touch()


if __name__ == "__main__":
    sys.exit(main())
