"""One flow run's job on an engine, and the sentences that say why it did not go well."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

State = Literal["waiting", "starting", "running", "ended", "stuck"]
Reason = Literal["", "out_of_memory", "image_not_found", "image_refused", "unschedulable", "gone", "error"]

OUTPUT_LINES = 40
_SHOWN_CHARACTERS = 400
_CREDENTIALS = {
    "docker": "`docker login{}` as somebody who may pull it, on the worker's machine, or give the pool credentials "
    "(job_variables.registry_credentials)",
    "kubernetes": "give the pool the credentials as a secret of its namespace "
    "(`kubectl create secret docker-registry`, job_variables.image_pull_secrets)",
    "ecs": "let the execution role pull it (job_variables.execution_role_arn; of ECR: ecr:GetAuthorizationToken, "
    "ecr:BatchGetImage, ecr:GetDownloadUrlForLayer)",
}
_NOT_FOUND = re.compile(
    r"not found|manifest unknown|no such image|no image |name unknown|repository does not exist|InvalidImageName"
    r"|invalid reference format|couldn't parse image",
    re.I,
)
_REFUSED = re.compile(r"unauthorized|denied|forbidden|authentication|no basic auth|\b40[13]\b", re.I)


@dataclass(frozen=True, slots=True)
class Job:
    """What one engine runs, or ran, for one flow run.

    Attributes:
        run_id: Id of the flow run, from the label that Prefect's worker sets.
        identifier: Name that Prefect keeps as `infrastructure_pid`, so that both can be compared.
        name: What to call it in a sentence.
        state: `waiting` (for a place), `starting` (fetches its image), `running`, `ended`, or `stuck`: it will never
            run, though the engine goes on trying.
        pool_id: Id of the work pool, which only the Prefect server that made it uses.
        exit_code: Of the process, once it ended.
        reason: Why it ended or is stuck; empty for one that ended well or goes on.
        message: That reason in plain words and what to do; for one that waits, what for.
        output: The last lines that it printed, if it ended badly.
        created: When it was made.
        started: When its process started.
        ended: When its process ended.
    """

    run_id: str
    identifier: str
    name: str
    state: State
    pool_id: str = ""
    exit_code: int | None = None
    reason: Reason = ""
    message: str = ""
    output: str = ""
    created: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def live(self) -> bool:
        """Whether it runs, or may still come to run."""
        return self.state in ("waiting", "starting", "running")


class Engine(Protocol):
    """Where jobs run. Every call is bounded in time."""

    kind: str

    async def jobs(self) -> list[Job]:
        """Every job of any Prefect server's flow runs here.

        Raises:
            Unavailable: If the engine does not answer.
        """
        ...

    async def end(self, job: Job, grace_seconds: float) -> None:
        """End a job and remove what is left of it; returns when nothing is. One that is gone already is no error.

        Args:
            job: As `jobs` told it.
            grace_seconds: Time between the request to end (SIGTERM) and the end by force.

        Raises:
            Unavailable: If the engine does not answer.
        """
        ...

    def covers(self, identifier: str) -> bool:
        """Whether `jobs` would show the job of this identifier if it were there."""
        ...

    async def why_not(self) -> str:
        """Why the engine cannot be used, in one sentence; empty if it answers."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


def out_of_memory(limit_bytes: float | None, what: str = "container") -> str:
    """The sentence for a job that needed more memory than it was given."""
    if not limit_bytes:
        return f"out of memory: the machine had no more for the {what}; state a limit (memory_mb), or use a larger one"
    return f"out of memory: the {what} had {limit_bytes / 2**20:.0f} MB; give the pool or the stage more (memory_mb)"


def image_trouble(image: str, said: str, kind: str = "docker") -> tuple[Reason, str]:
    """Why an image could not be had, and the sentence for it.

    Args:
        image: Its reference.
        said: What the engine or the registry said.
        kind: The engine's, which decides who needs which credentials.
    """
    said = " ".join(said.split())[:_SHOWN_CHARACTERS]
    refused, credentials = _REFUSED.search(said), _CREDENTIALS[kind].format(_registry(image))
    # Registries that hide what exists say "denied: ... does not exist or may require login": that is not found.
    if _NOT_FOUND.search(said) or "does not exist" in said:
        hidden = f"; if it is there, {credentials}" if refused else ""
        return "image_not_found", f"image {image} was not found: {said}; push it, or correct the pool's `image`{hidden}"
    if refused:
        return "image_refused", f"image {image} was refused by its registry: {said}; {credentials}"
    return "image_refused", f"image {image} could not be fetched: {said}"


def _registry(image: str) -> str:
    """The registry of a reference, as a further word; empty for Docker's own."""
    first, slash, _ = image.partition("/")
    return f" {first}" if slash and ("." in first or ":" in first or first == "localhost") else ""


def ended_badly(code: int | None, what: str, output: str = "") -> str:
    """The sentence for a job whose process ended before its flow run did."""
    if code is None:
        said = f"the {what} was ended from outside before the run told how it went"
    elif code > 128 and (name := _signal(code - 128)):
        said = f"the {what} was ended by {name} (exit code {code}), not for lack of its own memory"
    else:
        said = f"the {what} ended with exit code {code} before the run told how it went"
    last = " / ".join(line.strip() for line in output.splitlines() if line.strip())[-_SHOWN_CHARACTERS:]
    return f"{said}; it printed last: {last}" if last else said


def vanished(what: str) -> str:
    """The sentence for a job that is no longer there."""
    return f"the {what} was removed while it ran: somebody, or the engine, took it away; run it again"


def interrupted() -> str:
    """The sentence for a run whose process was asked to end, by somebody other than Volvox."""
    return "its process was ended from outside while it ran"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
