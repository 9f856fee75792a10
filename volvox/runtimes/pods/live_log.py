"""What the script of a call prints, taken from the log of its pod while it runs."""

from __future__ import annotations

import asyncio
import contextlib

from volvox.infrastructure.cluster import Cluster
from volvox.runner.work import Work

LATE_SECONDS = 2.0  # so long is waited for a log when the script has ended
_AGAIN_SECONDS = 0.5
_LOG_BYTES = 64 << 20
_STREAMS = 2  # standard output and error


async def follow(cluster: Cluster, pod: str, container: str, work: Work, token: str) -> None:
    """Add what a container prints to the log of its work, until both its streams have said that this was all.

    Cancelled, it writes what it has held back.

    Args:
        cluster: Where it runs.
        pod: The path of its pod.
        container: Which of its containers.
        work: Whose log it is.
        token: What stands in the last line of either stream; they come by ways of their own, so the last line of one
            may come after the end of the other.
    """
    taken, log = 0, Log(work, token)
    try:
        while not log.over:
            skip = taken
            with contextlib.suppress(Exception):  # whatever the connection ended with: it is made again
                async for piece in cluster.stream(f"{pod}/log", [("follow", "true"), ("container", container)]):
                    new = piece[skip:]
                    skip = max(0, skip - len(piece))
                    taken += len(new)
                    log.add(new)
                    if log.over:
                        return
            await asyncio.sleep(_AGAIN_SECONDS)
    finally:
        log.rest()


class Log:
    """The file of what a script prints; the last bytes are held back while they may be the beginning of the token."""

    def __init__(self, work: Work, token: str) -> None:
        """Nothing is written before something is added."""
        self._path, self._token, self._held, self._size = work.log, f"{token}\n".encode(), b"", 0
        self._open = _STREAMS

    @property
    def over(self) -> bool:
        """Whether both streams have ended."""
        return not self._open

    def add(self, piece: bytes) -> None:
        """Take the next bytes; what comes after the end of both streams is nobody's."""
        self._held += piece
        while self._open and (at := self._held.find(self._token)) >= 0:
            self._write(self._held[:at])
            self._open, self._held = self._open - 1, self._held[at + len(self._token) :]
        if self.over:
            self._held = b""
            return
        longest = min(len(self._token) - 1, len(self._held))
        keep = next((n for n in range(longest, 0, -1) if self._held.endswith(self._token[:n])), 0)
        whole, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        self._write(whole)

    def rest(self) -> None:
        """Write what is held back."""
        self._write(self._held)
        self._held = b""

    def _write(self, piece: bytes) -> None:
        if piece and self._path and self._size < _LOG_BYTES:
            self._size += len(piece)
            with contextlib.suppress(OSError), open(self._path, "ab") as stream:  # noqa: PTH123 - a text, often
                stream.write(piece)
