"""What the inbox keeps: arrivals, which is what somebody told, and jobs, one for each version of an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from volvox.identity import digest_of

State = Literal["PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"]
"""The states of AWS Batch, which the gateways of the field show.

PENDING: recorded, and something must happen first (its turn, a limit, the pause before another try): the reason says
what. RUNNABLE: may run, waits for a place. STARTING: has a place, which is being made ready, and its input is fetched.
RUNNING: the model or script is at it. SUCCEEDED: its outputs are where they belong. FAILED: it will not be tried again
unless somebody asks; the reason says why, also that somebody cancelled it.
"""

ENDED: frozenset[State] = frozenset({"SUCCEEDED", "FAILED"})


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody told that an object is there; whether it is, and which one, the place is asked later.

    Attributes:
        place: URL of the bucket, folder or space, as `volvox.places` normalises it.
        key: The object's key in it.
        version: The store's version id if the notification names one, else empty.
        source: Who told: `upload`, `webhook`, `sqs`, `watch`, `sweep`, `call`.
        user: Who put it there, as far as the teller knows and may be trusted.
        event: The notification as it came, for scripts that read it.
        function: The function that it is for; empty: every function whose input it is in.
        priority: Higher goes first; 0 unless asked for.
    """

    place: str
    key: str
    version: str = ""
    source: str = "upload"
    user: str = ""
    event: str = ""
    function: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enter.

    Attributes:
        function: Name of the function that answers it.
        place: URL of the place its object is in.
        key: The object's key.
        version: As the place itself reports it (`volvox.places.Found.version`).
        size: Bytes of the object.
        user: Whose it is; empty: nobody's.
        priority: Higher goes first.
        deadline: Seconds since the epoch after which it is not begun any more; 0: none.
        event: The notification, for scripts.
        source: Who told of it first.
        inside: The function's input place that it lies in, as a key prefix; what lies below keeps its folders.
        foreseen: What it is thought to wait, take and cost: `{"wait_seconds", "run_seconds", "cost", ...}`, or nothing.
    """

    function: str
    place: str
    key: str
    version: str
    size: int = 0
    user: str = ""
    priority: int = 0
    deadline: float = 0.0
    event: str = ""
    source: str = "upload"
    inside: str = ""
    foreseen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """32 hexadecimal digits: function, place, key and version name one job, however often it is told."""
        return digest_of(["job", self.function, self.place, self.key, self.version])[:32]


@dataclass(frozen=True, slots=True)
class Step:
    """A state that a job came into.

    Attributes:
        time: Seconds since the epoch.
        state: The state.
        reason: Why, one sentence; empty where the state says it all.
    """

    time: float
    state: State
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the inbox has it.

    Attributes:
        number: Jobs are numbered in the order they came.
        id: As `NewJob.id`.
        function, place, key, version, size, user, priority, deadline, event, source, inside: As in `NewJob`.
        state: Where it is.
        reason: Why it is there, one sentence.
        attempts: How often it was begun.
        not_before: Seconds since the epoch before which it is not tried again.
        holder: The dispatcher that is at it, or empty.
        change: Grows with every change of any job; who follows asks for those after the last one that was seen.
        created: Seconds since the epoch.
        ended: Seconds since the epoch, or 0.
        function_version: Digest of the function's version that answered, or empty.
        outputs: What it wrote: `{"url", "key", "size"}` each.
        error: Of a failed one, what a program reads: `{"kind", "exit_code", ...}`.
        cancel: Whether somebody asked to end it.
        steps: Every state it was in.
        foreseen: As in `NewJob`.
        bill: What it did cost: `{"cost", "currency"}`, or nothing where that is not known.
    """

    number: int
    id: str
    function: str
    place: str
    key: str
    version: str
    size: int
    user: str
    priority: int
    deadline: float
    event: str
    source: str
    inside: str
    state: State
    reason: str
    attempts: int
    not_before: float
    holder: str
    change: int
    created: float
    ended: float
    function_version: str
    outputs: tuple[dict[str, Any], ...] = ()
    error: dict[str, Any] = field(default_factory=dict)
    cancel: bool = False
    steps: tuple[Step, ...] = ()
    foreseen: dict[str, Any] = field(default_factory=dict)
    bill: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An arrival that was not looked at yet, or could not be."""

    number: int
    arrival: Arrival
    received: float
    tries: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a job that was taken.

    Attributes:
        id: The job.
        state: SUCCEEDED, FAILED, or PENDING where it shall be tried again.
        reason: One sentence; empty for one that succeeded.
        again_in: Seconds before it is tried again.
        outputs: What it wrote.
        error: What a program reads of a failure.
        function_version: The version that was at it.
        bill: What it has cost until now; empty: nothing new is known.
    """

    id: str
    state: State
    reason: str = ""
    again_in: float = 0.0
    outputs: Sequence[Mapping[str, Any]] = ()
    error: Mapping[str, Any] = field(default_factory=dict)
    function_version: str = ""
    bill: Mapping[str, Any] = field(default_factory=dict)
