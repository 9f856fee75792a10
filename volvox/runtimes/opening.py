"""Runtimes by name."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.runtimes.interface import Runtime
from volvox.runtimes.models import Models
from volvox.runtimes.scripts import Secret
from volvox.settings import Home

if TYPE_CHECKING:
    from volvox.pricing.choice import Choice

HERE = ("local", "docker", "kubernetes", "lambda", "batch", "lambda-batch", "ecs", "flow")
ON_AWS = ("lambda", "batch", "lambda-batch", "ecs")

_KUBECONFIG = Path("~/.kube/config")
_AWS_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
             "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")  # fmt: skip
_IN_FILES = re.compile(r"^\s*(aws_access_key_id|sso_\w+|role_arn|credential_process)\s*=", re.MULTILINE)


def runtime_of(function: Function, home: Home | None = None, opened: Collection[str] = HERE) -> str:
    """Name of the runtime that a function runs on; `auto` goes where its needs, time and price say.

    Args:
        function: The function, filled with what its model's metadata says.
        home: Whose pools and prices count; None: the environment's.
        opened: The runtimes that there are.

    Raises:
        InvalidInput: If it is `auto` and fits none of these; the message says why for each.
    """
    if function.flow:
        return "flow"
    if function.runtime != "auto":
        return function.runtime
    choice = choice_of(function, home or Home.current(), opened)
    if not choice.runtime:
        reasons = "; ".join(one.reason for one in choice.candidates if not one.place.closed)
        closed = [one.place.runtime for one in choice.candidates if one.place.closed and not one.lacks]
        would = f"; {' and '.join(closed)} would fit and {'is' if len(closed) == 1 else 'are'} not set up here"
        raise InvalidInput(
            f"function {function.name!r} fits no runtime that is here: {reasons or 'it allows none of them'}"
            + (would if closed else "")
        )
    return choice.runtime


def choice_of(function: Function, home: Home, opened: Collection[str] = HERE) -> Choice:
    """Where a function would go if its runtime is `auto`, with a reason for each runtime.

    Raises:
        InvalidInput: If a file of pools or prices is wrong.
    """
    from volvox.pricing.placing import placed

    known = set_up()
    return placed(function, home, [one for one in opened if one in known])


def set_up() -> tuple[str, ...]:
    """The runtimes that `auto` may choose: a cluster and AWS only where this account is told of them."""
    unknown = [*(() if _knows_a_cluster() else ("kubernetes",)), *(() if _knows_amazon() else ON_AWS)]
    return tuple(one for one in HERE if one not in unknown)


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
    if name == "kubernetes":
        from volvox.runtimes.kubernetes import KubernetesRuntime

        return KubernetesRuntime(folder / name, models, secret=secret)
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


def _knows_a_cluster() -> bool:
    named = any(map(os.environ.get, ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")))
    return named or _KUBECONFIG.expanduser().is_file()


def _knows_amazon() -> bool:
    """Whether there are credentials of an Amazon account here; nobody is asked.

    Where an endpoint is set they are another server's: of a store, or of one that speaks as AWS does. Amazon's prices
    do not hold there, so a function goes there only if it names such a runtime.
    """
    if any(name.startswith("AWS_ENDPOINT_URL") and value for name, value in os.environ.items()):
        return False
    if find_spec("boto3") is None:
        return False
    files = (Path(os.environ.get(name) or usual).expanduser() for name, usual in _AWS_FILES.items())
    return any(map(os.environ.get, _AWS_KEYS)) or any(map(_names_credentials, files))


def _names_credentials(file: Path) -> bool:
    try:
        return bool(_IN_FILES.search(file.read_text(errors="replace")))
    except OSError:
        return False
