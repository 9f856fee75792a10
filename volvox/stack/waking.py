"""Wakes the workers of this home when they have something to do, which they would find when they look next.

Who hands a run to a pool writes the pool's name into a pipe that the workers' process reads. Nothing depends on it:
runs that were made elsewhere, and those that nobody read of, are found by looking.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections import defaultdict
from collections.abc import Iterator

from volvox.settings import Home

_PIPE = "runs"
_MOST_BYTES = 1 << 16


def wake(home: Home, pool: str) -> None:
    """Tell the workers of `home`, if there are any, that `pool` was given a run."""
    with contextlib.suppress(OSError):  # nobody listens, or so much was told already that all will be looked at
        pipe = os.open(home.root / "stack" / _PIPE, os.O_WRONLY | os.O_NONBLOCK)
        try:
            if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                os.write(pipe, f"{pool}\n".encode())
        finally:
            os.close(pipe)


class Bell:
    """Wakes who waits for a pool; one that rings while nobody waits is heard by who waits next."""

    def __init__(self) -> None:
        self._rung: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def ring(self, pool: str) -> None:
        """There may be something to do for `pool`."""
        self._rung[pool].set()

    async def wait(self, pool: str) -> None:
        """Wait until there may be."""
        rung = self._rung[pool]
        await rung.wait()
        rung.clear()

    @contextlib.contextmanager
    def listening(self, home: Home) -> Iterator[None]:
        """Ring for what `wake` tells of `home`, in the running event loop, as long as the block lasts."""
        try:
            pipe = _opened(home)
        except OSError:  # a file system without pipes: then all is found by looking
            yield
            return
        loop = asyncio.get_running_loop()

        def read() -> None:
            with contextlib.suppress(BlockingIOError):
                for pool in os.read(pipe, _MOST_BYTES).decode(errors="replace").split("\n"):
                    if pool:
                        self.ring(pool)

        loop.add_reader(pipe, read)
        try:
            yield
        finally:
            loop.remove_reader(pipe)
            os.close(pipe)


def _opened(home: Home) -> int:
    path = home.stack / _PIPE
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISFIFO(path.lstat().st_mode):
            path.unlink()
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    # For writing too: a pipe whose last writer has gone is at its end, and would be read for ever.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)
