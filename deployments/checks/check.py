"""One thing that a work pool needs: whether it is there, and what mends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from volvox.pools import probe
from volvox.pools.definition import PoolDefinition


@dataclass(frozen=True)
class Check:
    """What came of looking for one thing.

    Attributes:
        name: The thing, in a word or two.
        ok: Whether it is as it must be; None: nobody could tell.
        said: What is true, in a sentence.
        mend: What to do where it is not; empty otherwise.
    """

    name: str
    ok: bool | None
    said: str
    mend: str = ""

    def line(self) -> str:
        """The check for people."""
        word = {True: "ok", False: "missing", None: "unknown"}[self.ok]
        mend = f"\n{' ' * 29}-> {self.mend}" if self.mend and self.ok is not True else ""
        return f"{word:<8} {self.name:<20} {self.said}{mend}"

    def values(self) -> dict[str, Any]:
        """The check for machines."""
        return asdict(self)


@dataclass(frozen=True)
class Target:
    """A pool as a worker of it would see it.

    Attributes:
        pool: What its file says.
        worker: The class of Prefect's worker.
        configuration: Prefect's job configuration of a run, prepared for the probe, with every reference resolved.
    """

    pool: PoolDefinition
    worker: Any
    configuration: Any


class EngineChecks(Protocol):
    """The checks of one kind of engine; each call is bounded in time and leaves nothing behind."""

    def __call__(self, target: Target, *, with_probe: bool) -> AsyncIterator[Check]:
        """Look for one thing after the other; what cannot be looked for without another ends the row."""
        ...


def probed(output: str, code: int | None, ended: str) -> list[Check]:
    """The checks that a probe made from inside, one for each thing it tried.

    Args:
        output: What the job printed, or nothing where that cannot be read.
        code: Its exit code; None: it never ended.
        ended: What the engine says of its end, for a job that did not come to the probe.
    """
    told = probe.parse(output)
    if told is not None:
        return [
            Check(f"from inside: {name}", one["ok"], one["said"], "" if one["ok"] else _MENDS[name])
            for name, one in told.items()
        ]
    known = probe.failed(code) if code is not None else None
    if known is not None:
        return [
            Check(f"from inside: {name}", ok, "is reached" if ok else "cannot be reached from the job",
                  "" if ok else _MENDS[name])
            for name, ok in known.items()
        ]  # fmt: skip
    last = " / ".join(line.strip() for line in output.splitlines() if line.strip())[-400:]
    said = ended or ("the probe never ended" if code is None else f"the probe ended with exit code {code}")
    if "No module named" in last and "volvox" in last:
        return [Check("probe", False, f"{said}: {last}", "build the image again from this release: `make images`")]
    return [Check("probe", False, f"{said}{': ' + last if last else ''}", "see what the engine says of it")]


_MENDS = {
    "prefect": "give Prefect an address that the job reaches (PREFECT_API_URL), or the job the host's network",
    "mlflow": "give MLflow an address that the job reaches (MLFLOW_TRACKING_URI), or the job the host's network",
    "store": "mount the store's folder at the same path with rights for the job's user, or set VOLVOX_STORE to "
    "s3://BUCKET/PREFIX or block:NAME",
}
