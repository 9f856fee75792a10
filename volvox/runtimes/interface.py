"""What every runtime can do: deploy, status, invoke, scale, logs, remove."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from volvox.errors import InvalidInput

if TYPE_CHECKING:  # a serving image reads this file before its first answer, and needs no definitions
    from volvox.functions.definition import Function

InstanceState = Literal["starting", "ready", "busy", "draining", "failed"]
Kind = Literal[
    "", "refused", "failed", "transient", "timeout", "memory", "storage", "cancelled", "gone", "missing", "unpublished"
]  # fmt: skip
"""What became of a call. Empty: it was answered. refused: the input cannot be used; failed: the model or script failed;
timeout, memory, storage: it took more than it may; cancelled: somebody asked for that; missing, unpublished: of what
fetches itself, the object is gone, or an output place refuses the answer. None of these is tried again by itself.
transient: something beside the function did not answer; gone: its instance ended beneath it; these are."""

AGAIN: frozenset[Kind] = frozenset({"transient", "gone"})


@dataclass(frozen=True, slots=True)
class Call:
    """One file that a function is asked about.

    Attributes:
        job: The job's id, by which a call that is made again is recognised.
        input: The file, fetched already; None where the runtime fetches it itself, or there is none.
        output: An empty folder for what it writes; None where the runtime writes to the outputs itself.
        log: The file that what it prints is added to, as it is printed; None where the runtime keeps it.
        key: The object's key.
        relative: The key below the function's input folder, with the user's and other folders.
        place: URL of the place that the object is in.
        version: Of the object.
        event: The notification as JSON, for scripts.
        event_time: ISO 8601.
        user: Whose it is, or empty.
        arguments: Beside those of the function.
        timeout_seconds: How long it may take.
    """

    job: str
    input: Path | None = None
    output: Path | None = None
    log: Path | None = None
    key: str = ""
    relative: str = ""
    place: str = ""
    version: str = ""
    event: str = ""
    event_time: str = ""
    user: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    timeout_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Attributes:
        job: The call's job.
        kind: Empty if it was answered, else what went wrong.
        reason: One sentence; empty if it was answered.
        exit_code: Of a script, or None.
        seconds: How long the model or script was at it.
        started_seconds: How long an instance had to be waited for that was being started; 0 with a warm one.
        outputs: What a runtime that writes outputs itself has written: `{"url", "key", "size"}` each.
        printed: What a script wrote to standard output, 1 MB at most: the answer of one that wrote no file.
        notes: What else is worth telling, a sentence each: files that were left out, for one.
        version: The version that answered, as it was deployed; another than was asked for if that took over meanwhile.
            Empty: none did, or nobody knows.
    """

    job: str
    kind: Kind = ""
    reason: str = ""
    exit_code: int | None = None
    seconds: float = 0.0
    started_seconds: float = 0.0
    outputs: tuple[dict[str, Any], ...] = ()
    printed: str = ""
    notes: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """One process, container, pod or task that answers calls.

    Attributes:
        id: What its engine calls it.
        version: `Function.version` that it answers for, with the model's version.
        state: What it is doing.
        since: Seconds since the epoch at which it came into this state.
        memory_mb: What it uses, where that is known.
    """

    id: str
    version: str
    state: InstanceState
    since: float
    memory_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """A function as its runtime has it.

    Attributes:
        state: `ready`: a call would be answered, cold or warm. `absent`: it was never deployed here. `failed`: the
            reason says why calls fail.
        version: The version that calls go to.
        reason: One sentence, or empty.
        instances: Those there are; none: the next call is a cold start.
        cold_start_seconds: What the next cold start will take, from the last ones; None if there was none.
    """

    state: Literal["ready", "absent", "failed"]
    version: str = ""
    reason: str = ""
    instances: tuple[Instance, ...] = ()
    cold_start_seconds: float | None = None


@runtime_checkable
class Runtime(Protocol):
    """Where functions run. All methods are idempotent, and may be called again after a crash in the middle.

    Attributes:
        name: As definitions name it.
        fetches: Whether it fetches inputs and writes outputs itself, by `volvox.runner`; else calls bring files.
    """

    name: str
    fetches: bool

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = ...) -> None:
        """Make `version` of the function the one that calls go to.

        An instance of it is started and asked one of the model's samples first; until it has answered, calls go on
        going to the version before, whose instances are ended when they have nothing left to do.

        Raises:
            InvalidInput: If the runtime cannot run it as it is defined.
            ModuleFailed: If its instance does not start, or does not pass the test; the version before goes on.
            Unavailable: If the engine does not answer.
        """
        ...

    async def status(self, name: str) -> Status:
        """What there is of the function `name`."""
        ...

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """Answer calls on one instance, together where the model can; an instance is started if there is none.

        Cancelled, what it is at is interrupted and ended. Never raises for what a call did: that is its outcome.

        Raises:
            NotFound: If the function is not deployed here.
            Unavailable: If the engine does not answer.
        """
        ...

    async def scale(self, name: str, instances: int) -> None:
        """Have so many warm instances: more are started, those that are too many end when they have nothing to do."""
        ...

    def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """Lines that its instances printed, the oldest first."""
        ...

    async def remove(self, name: str) -> None:
        """End its instances and remove what was made for it; nothing if there is none. Data is never touched."""
        ...

    async def close(self) -> None:
        """Let go of everything; instances of this process end, those of an engine go on."""
        ...


def check_scale(function: Function, instances: int) -> None:
    """See that a function may have so many instances.

    Raises:
        InvalidInput: If these are fewer than none, or more than its `max_scale`.
    """
    most = function.scaling.max_scale
    if not 0 <= instances <= most:
        raise InvalidInput(f"function {function.name!r} has 0 to {most} instances (its max_scale), not {instances}")
