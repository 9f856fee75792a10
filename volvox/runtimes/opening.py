"""Runtimes by name."""

from __future__ import annotations

import os
from collections.abc import Collection
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

_KUBECONFIG = Path("~/.kube/config")
OSCAR_ENDPOINT = "VOLVOX_OSCAR_ENDPOINT"

HERE = ("local", "docker", "kubernetes", "oscar", "flow")


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
    """The runtimes that `auto` may choose: a cluster only where this account is told of one."""
    cluster = any(map(os.environ.get, ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"))) or _KUBECONFIG.expanduser().is_file()
    told = {"kubernetes": cluster, "oscar": bool(os.environ.get(OSCAR_ENDPOINT))}
    return tuple(one for one in HERE if told.get(one, True))


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
    if name == "oscar":
        from volvox.runtimes.oscar import OscarRuntime

        return OscarRuntime(folder / name, models, secret=secret)
    if name == "flow":
        from volvox.runtimes.flows import FlowRuntime

        return FlowRuntime()
    raise InvalidInput(f"there is no runtime {name!r} here; name {' or '.join(HERE)}")
