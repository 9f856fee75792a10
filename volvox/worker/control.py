"""A page of memory that the server and a worker share: what the worker is at, and what it is asked to leave.

A socket cannot tell this: a worker that is at work reads nothing, and one that was killed answers nothing.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from typing import Any

INTERRUPT = signal.SIGUSR1
_PAGE = 4096
_NUMBER = struct.Struct("=Q")
_TAKEN, _LEAVE = 0, 8


class Interrupted(BaseException):
    """Nobody waits for the answer any more. No `Exception`, so that a module does not catch it by accident."""


class Control:
    """One end of the page; requests are numbered in the order they were sent, from 1."""

    def __init__(self, descriptor: int) -> None:
        """Map the page behind `descriptor`, a file of at least one page."""
        self._page = mmap.mmap(descriptor, _PAGE)
        self._working = False

    @classmethod
    def create(cls) -> tuple[Control, int]:
        """A new page, and the descriptor to hand to the worker (the caller closes its own copy)."""
        descriptor = os.memfd_create("volvox-worker")
        os.ftruncate(descriptor, _PAGE)
        return cls(descriptor), descriptor

    @property
    def taken(self) -> int:
        """The number of the last request that the worker began with."""
        return _NUMBER.unpack_from(self._page, _TAKEN)[0]

    def leave(self, number: int) -> None:
        """Ask the worker to leave its work if it is at no later request than `number`; then send it `INTERRUPT`."""
        _NUMBER.pack_into(self._page, _LEAVE, number)

    # -- the worker's side ---------------------------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """The worker begins with every request up to `number`."""
        _NUMBER.pack_into(self._page, _TAKEN, number)
        self._working = True

    def resume(self) -> None:
        """Go on after `end` with what was begun, unless it was asked meanwhile to leave it."""
        self._working = True
        self._interrupt()

    def end(self) -> None:
        """The worker is done with what it began; from here on no `Interrupted` is raised."""
        self._working = False

    def listen(self) -> None:
        """Raise `Interrupted` in the main thread when the server asks to leave what is being worked at."""
        signal.signal(INTERRUPT, self._interrupt)

    def _interrupt(self, *_: Any) -> None:
        if self._working and _NUMBER.unpack_from(self._page, _LEAVE)[0] >= self.taken:
            self._working = False
            raise Interrupted

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()
