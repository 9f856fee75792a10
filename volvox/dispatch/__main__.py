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
from pathlib import Path
from typing import Any

from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.following import Following, is_warm
from volvox.errors import Unavailable, VolvoxError
from volvox.inbox import open_inbox
from volvox.runtimes.interface import Runtime
from volvox.settings import Home


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
    from volvox.runtimes.models import published

    inbox = open_inbox(home)
    models, open_places = published(), opener()
    dispatcher = Dispatcher(
        home,
        inbox,
        runtimes=_runtimes(home, models),
        open_place=open_places,
        split=split,
        alone=not os.environ.get("VOLVOX_INBOX", "").startswith("postgres"),
        warm_now=lambda applied: is_warm(home, applied),
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


def _runtimes(home: Home, models: Any) -> dict[str, Runtime]:
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
