"""Run the dispatcher of VOLVOX_HOME: `python -m volvox.dispatch`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.following import Following, is_warm
from volvox.errors import Unavailable, VolvoxError
from volvox.inbox import open_inbox
from volvox.runtimes.interface import Runtime
from volvox.runtimes.models import Models
from volvox.settings import Home
from volvox.store import Store

_THREADS = 64


def main() -> int:
    """Dispatch until SIGTERM or Ctrl-C; its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every address, which may hold a signature
    try:
        home = Home.current().ensure()
        with _alone(home):
            asyncio.run(_run(home))
    except VolvoxError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


async def _run(home: Home) -> None:
    from volvox.dispatch.opening import opener
    from volvox.dispatch.sources import Sources
    from volvox.places import split
    from volvox.runtimes.bulk import BatchInference
    from volvox.runtimes.models import PublishedModels

    # Each sweep of a place that does not answer has one, and those of two cores are six.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "beside"))
    inbox = open_inbox(home)
    store, open_places = _store(), opener()
    models = PublishedModels(store)
    dispatcher = Dispatcher(
        home,
        inbox,
        runtimes=_runtimes(home, models),
        open_place=open_places,
        split=split,
        alone=not os.environ.get("VOLVOX_INBOX", "").startswith("postgres"),
        warm_now=lambda applied: is_warm(home, applied),
        bulk=BatchInference(home, store, models),
    )
    following = Following(home, dispatcher, lambda name: models.resolve(name).digest)
    sources = Sources(home, inbox, open_places)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, dispatcher.end)
    beside = [asyncio.create_task(following.run()), asyncio.create_task(sources.run())]
    if ready := os.environ.get("VOLVOX_READY_FILE"):
        Path(ready).touch()
    try:
        await dispatcher.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        inbox.close()


def _store() -> Store:
    """The store of this home, with the published models; the room that knows its credentials brings it."""
    from importlib.metadata import distribution

    (point,) = distribution("volvox").entry_points.select(group="volvox.store", name="local")
    return point.load().local().open()


def _runtimes(home: Home, models: Models) -> dict[str, Runtime]:
    from volvox.functions.secrecy import secret
    from volvox.runtimes.opening import HERE, open_runtime

    return {name: open_runtime(name, home.folder("dispatch"), models, secret) for name in HERE}


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Only one dispatcher works for a home, however the last one ended."""
    folder = home.folder("dispatch")
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Unavailable(
                f"another dispatcher already works for {home.root}; end it first (`volvox down`)"
            ) from error
        yield


if __name__ == "__main__":
    sys.exit(main())
