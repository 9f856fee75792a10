"""What `volvox functions check` asks of runtimes: whether the cluster is there, and what was made is as it was made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.functions.checks import Finding
from volvox.functions.definition import Function
from volvox.runtimes.opening import runtime_of
from volvox.settings import Home

if TYPE_CHECKING:
    from volvox.runtimes.kubernetes import KubernetesRuntime
    from volvox.runtimes.models import Models

T = TypeVar("T")


def checks(function: Function, home: Home, *, offline: bool) -> Iterator[Finding]:
    """As `volvox.functions.checks.Checks`, for functions on runtime `kubernetes`."""
    try:
        if runtime_of(function, home) != "kubernetes":
            return
    except VolvoxError:  # it fits nowhere, of which another check tells
        return
    if offline:
        yield Finding("cluster", None, "nobody asked the Kubernetes cluster")
        return
    yield from _with_runtime(home, lambda runtime: _looked(runtime, function))


def repair(function: Function, home: Home) -> list[str]:
    """Mend what was made for a function and is gone or changed; what that was, a sentence each.

    Raises:
        InvalidInput: If it is on a runtime that mends by itself.
        NotFound: If it was never deployed.
        Unavailable: If the cluster does not answer.
    """
    name = runtime_of(function, home)
    if name != "kubernetes":
        raise InvalidInput(f"function {function.name!r} runs on {name}, where there is nothing to repair by hand")
    return _with_runtime(home, lambda runtime: runtime.repair(function.name))


async def _looked(runtime: KubernetesRuntime, function: Function) -> list[Finding]:
    try:
        where = await runtime.reached(function)
    except Unavailable as error:
        return [Finding("cluster", None, str(error), "it is asked again when the function is deployed")]
    except VolvoxError as error:
        return [Finding("cluster", False, str(error))]
    found = [Finding("cluster", True, f"{where} answers")]
    try:
        doubts = await runtime.doubts(function.name)
    except NotFound:
        return found
    mend = f"volvox functions check {function.name} --repair"
    found += [Finding("deployed", False, told, mend, made=True) for told in doubts]
    return found if doubts else [*found, Finding("deployed", True, "everything is as it was made")]


def _with_runtime(home: Home, do: Callable[[KubernetesRuntime], Awaitable[T]]) -> T:
    from volvox.runtimes.kubernetes import KubernetesRuntime

    async def done() -> Any:
        # No model is looked for: what is deployed is written down.
        runtime = KubernetesRuntime(home.root / "dispatch" / "kubernetes", cast("Models", None))
        try:
            return await do(runtime)
        finally:
            await runtime.close()

    return asyncio.run(done())
