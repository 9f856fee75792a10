"""What a stage that ran elsewhere leaves in the store: its record or its error, both as JSON.

JSON and not pickle: what a container wrote is read as data, validated, and never run.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from volvox import errors
from volvox.errors import (
    GateRefused,
    ModuleFailed,
    StageCancelled,
    StageCrashed,
    StageFailed,
    UnknownModule,
    VolvoxError,
)  # fmt: skip
from volvox.records import Cycle, Record, Verdict

R = TypeVar("R", bound=Record)

# What a run is told that was cancelled because its Prefect server ended: nobody wanted that of the run itself.
ENDED_WITH_ITS_SERVER = "`volvox down` ended it together with the Prefect server; the same command again goes on."

STAGE = "runs"  # the records' place in the store; the key is the id of the flow run


def finished(
    record: Record, *, worked_seconds: float, reused: bool, progress: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What to keep of a stage that returned `record`.

    Args:
        record: What it returned.
        worked_seconds: How long it worked itself.
        reused: Whether the record was there already.
        progress: The last it said of how far it was, which an event may tell too late.
    """
    told = {"record": record.model_dump(mode="json"), "worked_seconds": worked_seconds, "reused": reused}
    return {**told, "progress": progress} if progress else told


def failed(error: BaseException) -> dict[str, Any]:
    """What to keep of a stage that raised `error`; whoever keeps it may add when the stage began."""
    told: dict[str, Any] = {"class": type(error).__name__, "message": str(error) or type(error).__name__}
    if isinstance(error, ModuleFailed):
        told["trace"] = error.trace
    if isinstance(error, GateRefused) and error.verdict is not None:
        told["verdict"] = error.verdict.model_dump(mode="json")
    if isinstance(error, GateRefused) and error.cycle is not None:
        told["cycle"] = error.cycle.model_dump(mode="json")
    if isinstance(error, UnknownModule):
        told["name"] = error.name
    return {"error": told}


def record_of(kept: dict[str, Any], kind: type[R], where: str) -> R:
    """The record that a stage returned.

    Args:
        kept: What it left in the store.
        kind: What it must be.
        where: Which stage on which pool, for messages.

    Raises:
        VolvoxError: The stage's own error, of its own class; `StageFailed` for an exception that is not ours, or if
            the record is none of this release.
    """
    if (told := kept.get("error")) is not None:
        raise _error(told, where)
    try:
        return kind.model_validate(kept["record"])
    except (KeyError, ValidationError) as error:
        raise StageFailed(
            f"{where} returned what is no {kind.__name__} of this release; build the pool's image again: "
            "`volvox images --training`"
        ) from error


def ended(state: str, message: str, kept: dict[str, Any] | None, kind: type[R], *, where: str, url: str = "") -> R:
    """The record of a flow run that has ended.

    Args:
        state: The type of its last state, as Prefect writes it: `COMPLETED`, `FAILED`, `CRASHED` or `CANCELLED`.
        message: That state's message.
        kept: What the run left in the store, or None.
        kind: What its record must be.
        where: Which flow on which pool, for messages.
        url: Its page in Prefect, for messages.

    Raises:
        StageCancelled: If somebody cancelled it.
        StageCrashed: If what it ran on is gone.
        VolvoxError: As `record_of`.
    """
    see = f"; see {url}" if url else ""
    if state == "CANCELLED":
        raise StageCancelled(f"{where} was cancelled: {message or 'in Prefect'}")
    if state == "CRASHED":
        raise StageCrashed(f"{where} crashed: {message or 'its process or its machine is gone'}{see}")
    if kept is not None:
        return record_of(kept, kind, where)
    if state == "COMPLETED":
        raise StageFailed(
            f"{where} completed, but its record is not in the store that VOLVOX_STORE or VOLVOX_HOME names here; ask "
            f"for it where the store of its pool is reached{see}"
        )
    raise StageFailed(f"{where} failed: {message or 'without a message'}{see}")


def _error(told: dict[str, Any], where: str) -> VolvoxError:
    name, message = str(told.get("class")), str(told.get("message"))
    if name == "UnknownModule":
        error = UnknownModule(str(told.get("name")), [])
        error.args = (f"{where}: {message}",)
        return error
    if name == "GateRefused":
        refused = GateRefused(message, Verdict.model_validate(told["verdict"]) if told.get("verdict") else None)
        refused.cycle = Cycle.model_validate(told["cycle"]) if told.get("cycle") else None
        return refused
    known = getattr(errors, name, None)
    if isinstance(known, type) and issubclass(known, ModuleFailed):
        return known(f"{where}: {message}", str(told.get("trace", "")))
    if isinstance(known, type) and issubclass(known, VolvoxError):
        return known(f"{where}: {message}")
    return StageFailed(f"{where} raised {name}: {message}")
