"""The runtime `flow`: a file that lands starts a flow of the cycle, and is answered when its run has ended.

The job is recorded in the inbox first, since Prefect loses what triggers it when its server is killed. The run is made
with the job's id as its idempotency key, so that a job which is begun again joins the run it had begun; and the event
`volvox.data.landed` is raised, so that an operator's own automations see it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from time import monotonic
from urllib.parse import quote

from volvox.errors import InvalidInput, NotFound, StageCancelled, StageCrashed, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes.interface import Call, Outcome, Status


class FlowRuntime:
    """Starts flows by their deployments on the Prefect server of this home."""

    name = "flow"
    fetches = True  # the flow reads its source itself

    def __init__(self) -> None:
        """Nothing is deployed yet."""
        self._all: dict[str, tuple[Function, str]] = {}

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`; there is nothing to start before a file comes."""
        del tell
        if not function.flow:
            raise InvalidInput(f"function {function.name!r} names no flow; a model or an image runs on another runtime")
        self._all[function.name] = (function, version)

    async def status(self, name: str) -> Status:
        """As `Runtime.status`; runs are seen in Prefect."""
        found = self._all.get(name)
        return Status("ready", found[1]) if found else Status("absent")

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`."""
        if name not in self._all:
            raise NotFound(f"the function {name!r} is not deployed here")
        function, version = self._all[name]
        outcomes = await asyncio.gather(*(self._run(function, call) for call in calls))
        return [replace(one, version=version) for one in outcomes]

    async def scale(self, name: str, instances: int) -> None:
        """Nothing: work pools have limits of their own."""

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """Nothing: a run's log is in Prefect."""
        del name, follow
        for line in ():
            yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`; runs that were started go on."""
        self._all.pop(name, None)

    async def close(self) -> None:
        """As `Runtime.close`."""

    async def _run(self, function: Function, call: Call) -> Outcome:
        from volvox import submitting

        began = monotonic()
        try:
            await self._told(function, call)
            parameters = {"source": source(call.place, call.key, call.version), **function.arguments, **call.arguments}
            on = str(function.settings.get("on") or "local")
            run = await submitting.adopt(function.flow, on=on, key=f"volvox-{call.job}", parameters=parameters)
            if call.log:
                call.log.parent.mkdir(parents=True, exist_ok=True)
                call.log.write_text(f"{function.flow} on {on}: {run.url}\n")
            await run.aresult()
        except asyncio.CancelledError:
            raise
        except (Unavailable, StageCrashed) as error:
            return Outcome(call.job, "transient", str(error), seconds=monotonic() - began)
        except StageCancelled as error:
            return Outcome(call.job, "cancelled", str(error), seconds=monotonic() - began)
        except InvalidInput as error:
            return Outcome(call.job, "refused", str(error), seconds=monotonic() - began)
        except VolvoxError as error:
            return Outcome(call.job, "failed", str(error), seconds=monotonic() - began)
        told = ({"url": run.url, "key": "", "size": 0},)
        return Outcome(call.job, seconds=monotonic() - began, outputs=told)

    async def _told(self, function: Function, call: Call) -> None:
        from volvox import landing

        bucket = call.place.partition("://")[2] or call.place
        await landing.alanded(bucket, call.key, call.version, function=function.name, job=call.job)


def source(place: str, key: str, version: str) -> str:
    """The address of an object for the data stage: a path, or `s3://bucket/key`, with its version if it has one."""
    if place.startswith("file://"):
        from volvox.places.addresses import parsed

        return f"{parsed(place).name}/{key}"
    exact = version and "@" not in version and version != "null"
    return f"{place}/{key}" + (f"?versionId={quote(version, safe='')}" if exact else "")
