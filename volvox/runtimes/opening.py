"""Runtimes by name."""

from __future__ import annotations

from pathlib import Path

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes.interface import Runtime
from volvox.runtimes.models import Models
from volvox.runtimes.scripts import Secret

HERE = ("local", "docker", "flow", "lambda", "batch", "lambda-batch", "ecs")


def runtime_of(function: Function) -> str:
    """Name of the runtime that a function runs on; `auto` is `local` for a model and `docker` for an image.

    An image whose script is to run as a plain process (`settings: {as_process: true}`) runs on `local` too.
    """
    if function.flow:
        return "flow"
    if function.runtime != "auto":
        return function.runtime
    return "local" if function.model or function.settings.get("as_process") else "docker"


def open_runtime(name: str, folder: Path, models: Models, secret: Secret | None = None) -> Runtime:
    """The runtime `name`, which keeps what it must remember in `folder/NAME`; to be opened inside of a running loop.

    Raises:
        InvalidInput: If there is none of this name yet.
    """
    if name == "local":
        from volvox.runtimes.local import LocalRuntime

        return LocalRuntime(folder / name, models, secret=secret)
    if name == "docker":
        from volvox.runtimes.docker import DockerRuntime

        return DockerRuntime(folder / name, models, secret=secret)
    if name == "lambda":
        from volvox.runtimes.aws.lambda_runtime import LambdaRuntime

        return LambdaRuntime(folder / name, models, secret=secret)
    if name == "batch":
        from volvox.runtimes.aws.batch_runtime import BatchRuntime

        return BatchRuntime(folder / name, models, secret=secret)
    if name == "lambda-batch":
        from volvox.runtimes.aws.lambda_batch_runtime import LambdaBatchRuntime

        return LambdaBatchRuntime(folder / name, models, secret=secret)
    if name == "ecs":
        from volvox.runtimes.aws.ecs_runtime import EcsRuntime

        return EcsRuntime(folder / name, models, secret=secret)
    if name == "flow":
        from volvox.runtimes.flows import FlowRuntime

        return FlowRuntime()
    raise InvalidInput(f"there is no runtime {name!r} here; name {', '.join(HERE[:-1])} or {HERE[-1]}")
