"""Every error this project raises on purpose.

VolvoxError              exit 1   HTTP 500
 ├─ InvalidInput         exit 2   HTTP 422   the caller's fault; never retried
 │   ├─ AccessRefused    a bucket or server refuses the credentials; somebody has to mend them
 │   └─ NoPoolFits       no work pool offers what a run needs
 ├─ NotFound             exit 2   HTTP 404   a named thing does not exist
 │   ├─ PlaceGone        a bucket, folder or space itself
 │   └─ UnknownModule
 ├─ GateRefused          exit 3   HTTP 409   the model was evaluated and is not good enough
 ├─ Unavailable          exit 4   HTTP 503   a service did not answer; retried
 │   ├─ Ended            a service of this machine is gone; not retried
 │   └─ PoolDown         no worker of a work pool that fits is alive; not retried
 ├─ ModuleFailed         exit 5   HTTP 500   a model module raised, or its process died
 └─ StageFailed          exit 5   HTTP 500   a stage on a work pool raised what is not ours
     ├─ StageCrashed     its container, pod or task ended, or never began
     └─ StageCancelled   exit 130: somebody cancelled it

A message says what was asked, what is true, and what to do.
"""

from __future__ import annotations

from typing import Any


class VolvoxError(Exception):
    """Anything Volvox refuses or fails at, told in one sentence."""

    exit_code = 1
    status = 500


class InvalidInput(VolvoxError):
    """What the caller gave cannot be used; asking again will not help."""

    exit_code = 2
    status = 422


class AccessRefused(InvalidInput):
    """A bucket or server refuses what it is asked with: no fault of the object that it was asked about."""


class NoPoolFits(InvalidInput):
    """No work pool offers what a run needs, or the stated one does not.

    Attributes:
        reasons: One sentence a pool, the nearest first.
    """

    def __init__(self, message: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class NotFound(VolvoxError):
    """A thing was asked for by a name that nothing has."""

    exit_code = 2
    status = 404


class PlaceGone(NotFound):
    """The bucket, folder or space itself is not there: no fault of the object that was sought in it."""


class UnknownModule(NotFound):
    """No installed distribution offers a model module of this name."""

    def __init__(self, name: str, available: list[str]) -> None:
        installed = ", ".join(available) or "none"
        super().__init__(f"no model module {name!r} is installed; installed: {installed}")
        self.name = name


class GateRefused(VolvoxError):
    """The model was evaluated and is not good enough to be promoted.

    Attributes:
        verdict: The numbers it was refused by, a `volvox.records.Verdict`.
        cycle: What the cycle had made until then, a `volvox.records.Cycle`, where it was a cycle that was refused.
    """

    exit_code = 3
    status = 409

    def __init__(self, message: str, verdict: Any = None) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.cycle: Any = None


class Unavailable(VolvoxError):
    """A service did not answer; the same call may succeed later."""

    exit_code = 4
    status = 503


class Ended(Unavailable):
    """A service of this machine's stack has ended; nothing but a command of its owner starts it again."""


class PoolDown(Unavailable):
    """Nobody would start a run on a work pool; an operator has to."""


class ModuleFailed(VolvoxError):
    """A model module raised an exception, or its process died.

    Attributes:
        trace: The module's own traceback, or the last lines it printed; shown under `--debug`.
    """

    exit_code = 5

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class StageFailed(VolvoxError):
    """A stage that ran on a work pool raised an exception that is none of Volvox."""

    exit_code = 5


class StageCrashed(StageFailed):
    """What ran a stage on a work pool ended without a word of it, or never began."""


class StageCancelled(StageFailed):
    """Somebody cancelled a stage that ran on a work pool."""

    exit_code = 130
