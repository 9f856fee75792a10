"""What a function is, whatever file it was read from: Volvox's own, one of SCAR or one of OSCAR."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from volvox.identity import digest_of

RuntimeName = Literal[
    "auto", "local", "docker", "flow", "kubernetes", "lambda", "batch", "lambda-batch", "ecs", "oscar"
]  # fmt: skip
Origin = Literal["volvox", "scar", "oscar"]
Preference = Literal["cheapest", "fastest"] | Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Part):
    """A place whose files the function answers.

    Attributes:
        url: The place and, below it, the folder: `file:///data/in`, `s3://bucket/in`, `webdavs://host/in`, ...
        prefix: A file's path below the folder must begin with one of these; empty: any.
        suffix: And end with one of these; empty: any.
        provider: The credentials that its file names, as `minio.default`; empty: what the place's block or the
            environment says.
        per_user: Whether the first folder below it is a user's, whose files these are.
    """

    url: str
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    provider: str = ""
    per_user: bool = False


class Output(_Part):
    """A place that outputs are written to; every output that fits goes to each place.

    Attributes:
        url: The place and, below it, the folder.
        prefix: An output's path must begin with one of these; empty: any.
        suffix: And end with one of these; empty: any.
        provider: As for `Input`.
    """

    url: str
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    provider: str = ""


class Resources(_Part):
    """What one instance may use; what is None, the model's metadata says, else the runtime.

    Attributes:
        memory_mb: Main memory in MB of 2**20 bytes.
        cpu: Cores; half a core is 0.5.
        gpus: How many GPUs.
        storage_mb: Scratch disk in MB of 2**20 bytes.
    """

    memory_mb: Annotated[int, Field(gt=0)] | None = None
    cpu: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    gpus: Annotated[int, Field(ge=0)] = 0
    storage_mb: Annotated[int, Field(gt=0)] | None = None


class Scaling(_Part):
    """How many instances there are.

    Attributes:
        min_scale: So many are warm always.
        max_scale: Never more than so many.
        idle_seconds: One that had nothing to do for so long is ended, down to `min_scale`.
        warm: Cron expressions with a duration, `"0 8 * * 1-5 for 10h"`: one is warm in these times.
        concurrency: Jobs that one instance is at, at a time.
        batch: Files that are given to an instance together at most, where the model answers several at once.
    """

    min_scale: Annotated[int, Field(ge=0, le=1000)] = 0
    max_scale: Annotated[int, Field(ge=1, le=1000)] = 1
    idle_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0
    warm: tuple[str, ...] = ()
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 1
    batch: Annotated[int, Field(ge=1, le=1024)] = 16

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min_scale > self.max_scale:
            raise ValueError(f"min_scale is {self.min_scale} and max_scale {self.max_scale}; the first is never larger")
        return self


class Retries(_Part):
    """What happens to a job that failed by no fault of its own.

    Attributes:
        attempts: So often it is begun at most.
        first_pause_seconds: Before the second attempt; each later pause is twice the one before, with jitter.
        longest_pause_seconds: But never longer than this.
    """

    attempts: Annotated[int, Field(ge=1, le=100)] = 4
    first_pause_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    longest_pause_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0


class Placement(_Part):
    """What its owner expects and prefers, by which `runtime: auto` chooses; 0: not known.

    Attributes:
        prefer: `cheapest`, `fastest`, or a number between them: 0 is all cost, 1 all time.
        call_seconds: What one call takes.
        calls_per_hour: How many come.
        image_mb: Size of the image, in MB of 2**20 bytes.
        payload_mb: Size of the largest file that is handed over in a call, in MB of 2**20 bytes.
        among: Only these runtimes; empty: any.
    """

    prefer: Preference = "cheapest"
    call_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    calls_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    image_mb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    payload_mb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    among: tuple[RuntimeName, ...] = ()


class Bulk(_Part):
    """Many files that wait together go to one run of the flow `batch-inference`.

    Attributes:
        least: So many files of one user, none of them tried before, must wait; `from` in a definition file.
        on: The deployment of the flow, which is named after its work pool.
        most: So many go to one run; what is beyond goes to the next one.
    """

    least: Annotated[int, Field(ge=2, le=1_000_000)]
    on: str = "local"
    most: Annotated[int, Field(ge=2, le=100_000)] = 10_000

    @model_validator(mode="after")
    def _ordered(self) -> Bulk:
        if self.least > self.most:
            raise ValueError(f"from is {self.least} and most {self.most}; the first is never larger")
        return self


class Function(_Part):
    """A function: what answers, where its files come from and go to, what it may use and how often it may be there.

    Attributes:
        name: Its name in commands, URLs and labels.
        description: A sentence for people.
        origin: Whose form of file it was read from.
        model: A published model: `NAME` (its champion, whenever that changes), `NAME/VERSION`, `NAME@ALIAS`.
        image: Instead of a model: a container image; `docker-archive:/PATH` is a file that `docker save` wrote.
        flow: Instead of a model: a flow that each file starts, `cycle` or a stage, by its deployment `settings.on`;
            the file is its `source`, and `arguments` are its other parameters.
        script: The script that runs in the image, its text.
        command: Instead of a script: what the image is started with; neither: its own command.
        runtime: Where it runs.
        placement: By what `auto` chooses that.
        inputs: Places whose files it answers; none: it is only called.
        outputs: Places that answers go to; none: the answer is kept with the job.
        arguments: Arguments of the model's `predict`, beside the file.
        accept: Media type of the answer; empty: the model's first.
        environment: Variables of the script or image; a value is plain, `{{ prefect.blocks.secret.NAME }}`, or
            `{{ file:PATH#KEY }}`, which `volvox.functions.secrecy.resolved` reads.
        resources: What one instance may use.
        scaling: How many instances there are.
        retries: What happens to a job that failed by no fault of its own.
        timeout_seconds: How long one job may run.
        deadline_seconds: A job that was not begun so long after it came fails; 0: it waits for ever.
        priority: Of its jobs unless they state their own; higher goes first.
        per_user: How many jobs of one user are under way at a time; 0: as many as fit.
        keep_days: How long the record of an ended job, its log and what was kept with it stay.
        max_object_mb: A larger file is refused before it is fetched, in MB of 2**20 bytes; 0: one that does not fit on
            the scratch disk (`resources.storage_mb`).
        fetches: Whether the job runner fetches the file; a script that does so itself says no.
        trigger: `inbox`: events are recorded here and jobs sent out; `direct`: the runtime's own events call it.
        settings: What only one runtime understands, under its own names (`batch.compute_resources`, `synchronous`,
            `annotations`, ...), as the file says it.
        providers: Name of credentials (`minio.default`) -> where they stand, `block:NAME` or `file:PATH#KEY`; never a
            secret. `volvox.functions.providers.given` is what a place is opened with.
        bulk: When many files that wait are answered by one run on a work pool; None: never.
    """

    name: str
    description: str = ""
    origin: Origin = "volvox"
    model: str = ""
    image: str = ""
    flow: str = ""
    script: str = ""
    command: tuple[str, ...] = ()
    runtime: RuntimeName = "auto"
    placement: Placement = Placement()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    arguments: dict[str, Any] = {}
    accept: str = ""
    environment: dict[str, str] = {}
    resources: Resources = Resources()
    scaling: Scaling = Scaling()
    retries: Retries = Retries()
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    deadline_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    per_user: Annotated[int, Field(ge=0)] = 0
    keep_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    max_object_mb: Annotated[int, Field(ge=0)] = 0
    fetches: bool = True
    trigger: Literal["inbox", "direct"] = "inbox"
    settings: dict[str, Any] = {}
    providers: dict[str, str] = {}
    bulk: Bulk | None = None

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("use 1 to 64 letters, digits, '-', '.' and '_', the first and the last a letter or digit")
        return name

    @field_validator("bulk")
    @classmethod
    def _fits(cls, bulk: Bulk | None, info: ValidationInfo) -> Bulk | None:
        told = info.data
        if bulk is None or "name" not in told:
            return bulk
        if not told.get("model"):
            raise ValueError("a run answers files with a model; this function has none")
        if not told.get("inputs") or not told.get("outputs"):
            raise ValueError("a run needs places that it reads files from and writes answers to; state in and out")
        if told.get("per_user"):
            raise ValueError("a run has thousands of one user's files under way, per_user allows fewer; leave one out")
        if told.get("trigger") == "direct":
            raise ValueError("files gather in the inbox, which trigger direct passes by; leave one of them out")
        return bulk

    @model_validator(mode="before")
    @classmethod
    def _takes_its_time(cls, told: Any) -> Any:
        """A flow has a day, unless something else is said: a training takes as long as it takes."""
        if isinstance(told, dict) and told.get("flow") and "timeout_seconds" not in told:
            return {**told, "timeout_seconds": 86_400.0}
        return told

    @model_validator(mode="after")
    def _answers(self) -> Function:
        given = [one for one in (self.model, self.image, self.flow) if one]
        if len(given) != 1:
            raise ValueError("give a model, or an image, or a flow" + (", not several" if given else ""))
        if bool(self.flow) != (self.runtime == "flow") and (not self.flow or self.runtime != "auto"):
            raise ValueError("a flow runs where its deployment says: runtime flow or none, and no other function does")
        if self.model and (self.script or self.command):
            raise ValueError("a model needs no script; give an image for one")
        return self

    @property
    def version(self) -> str:
        """Digest of all it says; what a second `apply` of it is recognised by. A model's own version is beside it."""
        told = self.model_dump(mode="json", exclude=None if self.bulk else {"bulk"})  # as before there was a `bulk`
        return digest_of(["function", told])
