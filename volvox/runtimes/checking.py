"""What `volvox functions check` asks of runtimes: what a function needs, and whether what was made is as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.functions.checks import Finding
from volvox.functions.definition import Function
from volvox.runtimes.opening import ON_AWS, runtime_of
from volvox.settings import Home

if TYPE_CHECKING:
    from volvox.runtimes.models import Models

T = TypeVar("T")

_CLUSTERS = {"kubernetes": "the Kubernetes cluster", "oscar": "the OSCAR cluster"}


class OfCluster(Protocol):
    """What a runtime of a cluster is asked."""

    async def reached(self, function: Function) -> str:
        """Where a function runs, as people say it; raises Unavailable, or InvalidInput if it cannot."""
        ...

    async def doubts(self, name: str) -> list[str]:
        """What of a function is not as it was made; raises NotFound if it is not deployed."""
        ...

    async def repair(self, name: str) -> list[str]:
        """Mend that."""
        ...

    async def close(self) -> None:
        """As `Runtime.close`."""
        ...


def checks(function: Function, home: Home, *, offline: bool) -> Iterator[Finding]:
    """As `volvox.functions.checks.Checks`; nothing but a wrong trigger is said of functions of this machine."""
    try:
        name = runtime_of(function, home)
    except VolvoxError:  # it fits nowhere, of which another check tells
        return
    if function.trigger == "direct" and name != "lambda":
        yield Finding("trigger", False, f"trigger: direct is Lambda's, and it runs on {name}", "say trigger: inbox")
    if name in ON_AWS:
        from volvox.runtimes.aws import checks as on_aws

        yield from on_aws.checks(_placed(function, name), home, offline=offline)
    elif name in _CLUSTERS:
        yield from _on_cluster(name, function, home, offline=offline)


def repair(function: Function, home: Home) -> list[str]:
    """Mend what was made for a function and is gone or changed; what that was, a sentence each.

    Raises:
        InvalidInput: If it is on a runtime that mends by itself, or AWS refuses.
        NotFound: If it was never deployed.
        Unavailable: If the cluster or AWS does not answer.
    """
    name = runtime_of(function, home)
    if name in ON_AWS:
        from volvox.runtimes.aws import checks as on_aws

        return on_aws.repair(_placed(function, name), home)
    if name in _CLUSTERS:
        return _with_runtime(name, home, lambda runtime: runtime.repair(function.name))
    raise InvalidInput(f"function {function.name!r} runs on {name}, where there is nothing to repair by hand")


def data(function: Function, home: Home, *, remove: bool) -> list[str]:
    """As `volvox.functions.data.Data`: the buckets that were made for a function on AWS."""
    name = runtime_of(function, home)
    if name not in ON_AWS:
        return []
    from volvox.runtimes.aws import buckets
    from volvox.runtimes.aws.account import Account, owner_of

    account = Account.of(function, "batch", "ecs", "lambda")
    do = buckets.remove if remove else buckets.made_for
    owners = {owner_of(home.root / "dispatch" / one) for one in ON_AWS}  # it may have moved since
    return [f"bucket {one}" for one in do(account, function, owners)]


def _placed(function: Function, name: str) -> Function:
    """The same where `auto` has become a runtime."""
    return function.model_copy(update={"runtime": name})


def _on_cluster(name: str, function: Function, home: Home, *, offline: bool) -> Iterator[Finding]:
    if offline:
        yield Finding("cluster", None, f"nobody asked {_CLUSTERS[name]}")
        return
    yield from _with_runtime(name, home, lambda runtime: _looked(runtime, function))


async def _looked(runtime: OfCluster, function: Function) -> list[Finding]:
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


def _with_runtime(name: str, home: Home, do: Callable[[OfCluster], Awaitable[T]]) -> T:
    from volvox.runtimes.opening import open_runtime

    async def done() -> Any:
        # No model is looked for: what is deployed is written down.
        runtime = cast("OfCluster", open_runtime(name, home.root / "dispatch", cast("Models", None)))
        try:
            return await do(runtime)
        finally:
            await runtime.close()

    return asyncio.run(done())
