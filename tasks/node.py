"""One of the further nodes of a training, in a pod of its own: `python -m tasks.node`.

The first node is the stage's own job. It leaves in the store what is to be done; here it is waited for, the data is
fetched, and as many processes as there are started. What they write counts for nothing: only the first process of all
writes. The exit code is 0 if all nodes did well.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from blocks.store import ObjectStore
from volvox.distributed.together import STAGE, Together
from volvox.errors import ModuleFailed, Unavailable, VolvoxError
from volvox.modules.calling import call_module
from volvox.store import Store

_LOOK_SECONDS = 0.5


def main() -> int:
    """Do what the first node says; the exit code."""
    try:
        with tempfile.TemporaryDirectory(prefix="volvox-node-") as folder:
            asyncio.run(_ending_on_signal(Path(folder)))
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except VolvoxError as error:
        sys.stderr.write(f"{error}\n{error.trace if isinstance(error, ModuleFailed) else ''}")
        return error.exit_code
    return 0


async def _ending_on_signal(folder: Path) -> None:
    """The first process of a container has no signal end it unless it says so."""
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    together = Together.told()
    store = (await asyncio.to_thread(ObjectStore.local)).open()
    await join(together, store, folder)


async def join(together: Together, store: Store, folder: Path) -> None:
    """Take part in the training that the first node of the group begins.

    Args:
        together: Which node this is.
        store: Where the data is, and what is to be done.
        folder: An empty one.

    Raises:
        Unavailable: If the first node does not begin in time.
        ModuleFailed: If any process of any node fails.
    """
    told = await _told(together, store)
    places = {"data": await asyncio.to_thread(store.tree, told["data"])}
    if told["weights"]:
        places["weights"] = await asyncio.to_thread(store.tree, told["weights"])
    for name in ("output", "checkpoints"):
        places[name] = folder / name
        places[name].mkdir()
    log = folder / "log"
    try:
        await call_module(
            told["module"], "train", told["arguments"], places=places, log=log, processes=told["processes"],
            together=together,
        )  # fmt: skip
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.write(log.read_text(errors="replace"))


async def _told(together: Together, store: Store) -> dict[str, Any]:
    try:
        async with asyncio.timeout(together.wait_seconds):
            while (told := await asyncio.to_thread(store.record, STAGE, together.group)) is None:
                await asyncio.sleep(_LOOK_SECONDS)
            return told
    except TimeoutError as error:
        raise Unavailable(
            f"node {together.node} waited {together.wait_seconds:g} s for the first one, which did not begin"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
