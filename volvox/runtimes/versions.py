"""One version of a model function on this machine, and how it is remembered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volvox.functions.definition import Function
from volvox.runtimes.instances import Instances, Scale
from volvox.runtimes.models import Model
from volvox.serving.served import Deployed
from volvox.serving.worker import Worker


@dataclass(eq=False)
class Version:
    """One version of one function, as it is deployed.

    Attributes:
        function: Its definition.
        version: What the dispatcher calls it.
        model: What answers.
        start: Starts an instance of it, and says where what it prints is kept.
        described: What its module says of itself.
        libraries: What a process for it may have imported before; empty: nothing is known.
        plain_seconds: How long a start takes that is not forked.
        zygote: What the process is called that has these libraries; empty: there is none.
        instances: Its instances; none is started by making it.
    """

    function: Function
    version: str
    model: Model
    start: Callable[[Version], Awaitable[tuple[Worker, Path]]]
    described: dict[str, Any] = field(default_factory=dict)
    libraries: list[str] = field(default_factory=list)
    plain_seconds: float = 0.0
    zygote: str = ""

    def __post_init__(self) -> None:
        """Make its instances."""
        function, scaling = self.function, self.function.scaling
        deployed = Deployed(
            name=function.name,
            version=self.model.version,
            model_version=self.model.digest,
            module=self.model.module,
            python=python_of(function),
            labels=self.model.labels,
        )
        scale = Scale(scaling.min_scale, scaling.max_scale, scaling.idle_seconds, function.resources.memory_mb)
        self.instances = Instances(deployed, scale, lambda: self.start(self), scaling.batch)
        self.instances.description = self.described

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "function": self.function.model_dump(mode="json"),
            "version": self.version,
            "model": self.model.as_json(),
            "described": self.described,
            "libraries": self.libraries,
            "plain_seconds": self.plain_seconds,
            "cold_seconds": self.instances.start_seconds,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any], start: Callable[[Version], Awaitable[tuple[Worker, Path]]]) -> Version:
        """What `as_json` gave."""
        made = cls(
            Function.model_validate(told["function"]), told["version"], Model.from_json(told["model"]), start,
            told["described"], told["libraries"], told["plain_seconds"],
        )  # fmt: skip
        made.instances.start_seconds = told["cold_seconds"]
        return made


def python_of(function: Function) -> str:
    """The interpreter that the definition asks for; empty: this one."""
    return str(function.settings.get("python") or "")
