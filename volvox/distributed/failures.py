"""Which of many failures was the first: when one process of a training ends, the others fail for that reason alone."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import Any

# What kills a process without asking it; no loss of a peer ends in one of these.
_FATAL = {signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
_HEADER = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Failure:
    """The end of a process, or of a whole node, before its time.

    Attributes:
        message: What happened, as a sentence without its subject.
        node: Where, from 0.
        rank: Which process; None for the node itself.
        code: Its exit code; negative for a signal.
        at: When, by this machine's `time.monotonic()`, in seconds.
    """

    message: str
    node: int
    rank: int | None = None
    code: int = 1
    at: float = field(default_factory=time.monotonic)

    @property
    def fatal(self) -> bool:
        """Whether it cannot be the consequence of another failure: a process that was killed, a node that is gone."""
        return self.rank is None or -self.code in _FATAL

    @property
    def exit_code(self) -> int:
        """As a shell gives it: 128 and the number for a signal."""
        return 128 - self.code if self.code < 0 else self.code

    def __str__(self) -> str:
        where = f"node {self.node}" if self.rank is None else f"rank {self.rank} on node {self.node}"
        return f"{where} {self.message}"

    def to_json(self) -> dict[str, Any]:
        """For another machine, whose clock is another one: with its age instead of its time."""
        told = asdict(self)
        told["age"] = time.monotonic() - told.pop("at")
        return told

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Failure:
        """What another machine told."""
        at = time.monotonic() - float(told["age"])
        return cls(str(told["message"]), int(told["node"]), told["rank"], int(told["code"]), at)


def first(failures: list[Failure]) -> Failure:
    """The one that all others follow from."""
    return min(failures, key=lambda failure: (not failure.fatal, failure.at))


def of_process(node: int, rank: int, code: int, errors: str, at: float) -> Failure:
    """The failure of a process that ended with `code` and had written `errors` to its standard error."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        memory = ", most likely for lack of memory" if code == -signal.SIGKILL else ""
        return Failure(f"was ended by {name}{memory}", node, rank, code, at)
    said = last_words(errors)
    return Failure(f"ended with exit code {code}{': ' if said else ''}{said}", node, rank, code, at)


def last_words(errors: str) -> str:
    """The exception of the last traceback in `errors`, else its last line; empty where there is none."""
    _, header, after = errors.rpartition(_HEADER)
    if header and (found := re.search(r"^\S.*$", after.partition("\n")[2], re.MULTILINE)):
        return found[0].strip()
    return next((line.strip() for line in reversed(errors.splitlines()) if line.strip()), "")


def is_header(line: bytes) -> bool:
    """Whether a traceback begins here."""
    return _HEADER.encode() in line
