"""What a work pool is: a kind of engine, what it offers, what an hour of it costs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

PoolType = Literal["process", "docker", "kubernetes", "ecs"]
# A run's turn among those that wait for the same pool; Prefect's work queues of these names, the first first.
Priority = Literal["high", "default", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

# This very process, which is a place like the others when one is chosen; no file defines it.
HERE = "here"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_REFERENCE = re.compile(r"^\s*\{\{\s*prefect\.(blocks|variables)\.[^{}]+\}\}\s*$")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|(API|ACCESS|PRIVATE)_KEY$", re.IGNORECASE)
_NO_SECRET = re.compile(r"(_FILE|_PATH|_URL|_URI|_ARN|_SECONDS|^AWS_ACCESS_KEY_ID)$", re.IGNORECASE)
_VOLUME = re.compile(r"[^:\s]+:/[^:\s]*(:(ro|rw))?")


class Offers(BaseModel):
    """What one job of a pool can have; None: whatever there is.

    Attributes:
        cpu: Cores; half a core is 0.5.
        memory_mb: Main memory in MB of 2**20 bytes.
        gpus: How many GPUs; 0: none.
        gpu_memory_mb: Memory of one GPU in MB of 2**20 bytes.
        gpu_model: What the vendor calls the GPU, e.g. `NVIDIA A100`.
        gpu_compute_capability: NVIDIA's number for the generation, e.g. 8.0.
        storage_mb: Scratch disk in MB of 2**20 bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: Annotated[float, Field(gt=0)] | None = None
    memory_mb: Annotated[int, Field(gt=0)] | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    gpu_memory_mb: Annotated[int, Field(ge=0)] | None = None
    gpu_model: str | None = None
    gpu_compute_capability: Annotated[float, Field(ge=0)] | None = None
    storage_mb: Annotated[int, Field(gt=0)] | None = None


class PoolDefinition(BaseModel):
    """A work pool, as its file states it.

    Attributes:
        name: The work pool's name in Prefect, and the file's.
        type: The kind of engine, which is also the type of the Prefect worker.
        description: A sentence for people.
        enabled: Whether this installation uses it: applies it, runs its worker, chooses it.
        image: The training image; empty where the pool starts no container.
        offers: What one job can have.
        cost_per_hour: Price of an hour of one job, in whatever currency the operator thinks.
        startup_seconds: From a free place to the first line of user code.
        concurrency_limit: How many jobs run at a time; None: as many as come.
        gpus_total: How many GPUs there are for all of its jobs together; None: for a pool of processes those of the
            machine, for another as many as are asked for.
        environment: Variables of every job; a value is plain or a reference such as
            `{{ prefect.blocks.secret.NAME }}`, which the worker resolves when a job starts.
        volumes: `source:/target` or `source:/target:ro` of every job. The source is a folder of the engine's host, or
            by a name a Docker volume, a Kubernetes claim, an EFS file system.
        job_variables: Variables of that worker type's job template, as Prefect names them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: PoolType
    description: str = ""
    enabled: bool = True
    image: str = ""
    offers: Offers = Offers()
    cost_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    startup_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    concurrency_limit: Annotated[int, Field(ge=1)] | None = None
    gpus_total: Annotated[int, Field(ge=0)] | None = None
    environment: dict[str, str] = {}
    volumes: tuple[str, ...] = ()
    job_variables: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("use 1 to 63 lower case letters, digits and '-', the first and the last no '-'")
        return name

    @field_validator("environment", mode="before")
    @classmethod
    def _as_text(cls, told: Any) -> Any:
        """YAML reads `OMP_NUM_THREADS: 2` as a number and `on` as a truth value; variables are text."""
        if not isinstance(told, dict):
            return told
        for name, value in told.items():
            if isinstance(value, bool):
                raise ValueError(f"{name} is read as {str(value).lower()}; put the value in quotes")
        return {str(name): str(value) if isinstance(value, int | float) else value for name, value in told.items()}

    @field_validator("environment")
    @classmethod
    def _no_plain_secret(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a variable: use letters, digits and '_'")
            secret = _SECRET.search(name) and not _NO_SECRET.search(name)
            if secret and value and not _REFERENCE.match(value):
                raise ValueError(
                    f"{name} looks like a secret, and what stands here is stored in plain text; save it as a block and "
                    f'write {name}: "{{{{ prefect.blocks.secret.NAME }}}}"'
                )
        return environment

    @field_validator("volumes")
    @classmethod
    def _mounted(cls, volumes: tuple[str, ...]) -> tuple[str, ...]:
        for volume in volumes:
            if not _VOLUME.fullmatch(volume):
                raise ValueError(f"{volume!r} is not `source:/target` or `source:/target:ro`")
        return volumes

    @field_validator("gpus_total")
    @classmethod
    def _enough_for_one(cls, gpus_total: int | None, told: ValidationInfo) -> int | None:
        offers = told.data.get("offers")
        if gpus_total is not None and offers is not None and (offers.gpus or 0) > gpus_total:
            raise ValueError(f"it is {gpus_total}, and offers.gpus promises {offers.gpus} to a single job")
        return gpus_total

    @property
    def starts_containers(self) -> bool:
        """Whether a job of it is a container, which needs an image and reaches services over a network."""
        return self.type != "process"
