"""Functions in Lambda, and on Batch where Lambda cannot finish: for time, memory, disk, or what its image weighs.

What is known before goes to Batch at once. What is found out during a call is noted, then the same call goes to Batch:
once, as the note is there before, and with the same outputs, as their names come from the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from volvox.disks import replace_text
from volvox.errors import NotFound
from volvox.functions.definition import Function
from volvox.runtimes.aws import images
from volvox.runtimes.aws.account import owner_of, section
from volvox.runtimes.aws.batch_runtime import BatchRuntime
from volvox.runtimes.aws.lambda_runtime import LambdaRuntime
from volvox.runtimes.aws.limits import LAMBDA_SECONDS, beyond_lambda
from volvox.runtimes.aws.payloads import fetched_there
from volvox.runtimes.aws.under_way import heard
from volvox.runtimes.interface import Call, Outcome, Status
from volvox.runtimes.models import Models
from volvox.runtimes.scripts import Secret

_BATCH_SECONDS = 86_400.0
_TO_BATCH = frozenset({"timeout", "memory", "storage"})


class LambdaBatchRuntime:
    """Both, as one runtime."""

    name = "lambda-batch"
    fetches = True
    waits_seconds = 2 * _BATCH_SECONDS

    def __init__(self, folder: Path, models: Models, *, secret: Secret | None = None) -> None:
        """A runtime without functions, or with those that are in its folder; see `LambdaRuntime`."""
        self.folder, self._models = folder, models
        self._lambda = LambdaRuntime(folder / "lambda", models, secret=secret)
        self._batch = BatchRuntime(folder / "batch", models, secret=secret)
        self._lambda.to_batch = True
        self._batch.owner = self._lambda.owner = owner_of(folder)  # role, queue and notifications are one function's
        self._calls: dict[str, set[asyncio.Task[list[Outcome]]]] = {}

    def fetches_from(self, function: Function, place: str) -> bool:
        """Whether the function's role reads files of `place` itself; others are brought with the call."""
        return fetched_there(function, place)

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`.

        At first on Batch, so that what Lambda gives up has somewhere to go; later on Lambda, which proves the image of
        both: a version that fails there gets no calls on Batch either.
        """
        later = function.model_copy(update={"timeout_seconds": batch_seconds(function)})
        before = (await self.status(function.name)).version
        if reasons := await asyncio.to_thread(self._known_before, function):
            await self._lambda.remove(function.name)
            tell(f"every call goes to Batch: {'; '.join(reasons)}")
        first = bool(reasons) or not before
        if first:  # a job of Batch would take minutes to prove what Lambda proves in seconds
            await self._batch.deploy(later, version=version, tell=tell, prove=bool(reasons))
        if not reasons:
            await self._lambda.deploy(function, version=version, tell=tell)
        if not first:
            await self._batch.deploy(later, version=version, tell=tell, prove=False)
        if before not in ("", version) and (calls := self._calls.pop(function.name, None)):
            await asyncio.wait(calls)
            await heard()

    async def status(self, name: str) -> Status:
        """As `Runtime.status`, of both."""
        first, second = await self._lambda.status(name), await self._batch.status(name)
        if first.state == "absent":
            return second
        return replace(first, instances=(*first.instances, *second.instances), reason=first.reason or second.reason)

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`."""
        task = asyncio.ensure_future(self._invoked(name, calls))
        beside = self._calls.setdefault(name, set())
        beside.add(task)
        task.add_done_callback(beside.discard)
        return await task

    async def _invoked(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        status = await self._batch.status(name)
        if status.state == "absent":
            raise NotFound(f"function {name!r} is not deployed on Lambda and Batch; apply its file first")
        only_batch = (await self._lambda.status(name)).state == "absent"
        given_up = [call for call in calls if only_batch or self._note(name, call).exists()]
        others = [call for call in calls if call not in given_up]
        answered, found = await asyncio.gather(self._by_lambda(name, others), self._by_batch(name, given_up))
        by_job = {one.job: one for one in (*answered, *found)}
        return [by_job[call.job] for call in calls]

    async def scale(self, name: str, instances: int) -> None:
        """As `Runtime.scale`, of Lambda."""
        if (await self._lambda.status(name)).state == "absent":
            await self._batch.scale(name, instances)
        else:
            await self._lambda.scale(name, instances)

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """As `Runtime.logs`, of both; who follows sees those of Lambda."""
        if not follow:
            async for line in self._batch.logs(name):
                yield line
        async for line in self._lambda.logs(name, follow=follow):
            yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`."""
        await self._lambda.remove(name)
        await self._batch.remove(name)

    def let_go(self) -> None:
        """Leave what is under way on Batch to the next dispatcher."""
        self._batch.let_go()

    async def close(self) -> None:
        """As `Runtime.close`."""
        await self._lambda.close()
        await self._batch.close()

    # -- inside --------------------------------------------------------------------------------------------------

    async def _by_lambda(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        if not calls:
            return []
        outcomes = await self._lambda.invoke(name, calls)
        given_up: list[Call] = []
        for call, outcome in zip(calls, outcomes, strict=True):
            reason = self._lambda.beyond.pop(call.job, "") or (outcome.reason if outcome.kind in _TO_BATCH else "")
            if outcome.kind and reason:
                replace_text(self._note(name, call), json.dumps({"reason": reason}))
                given_up.append(call)
                if call.log is not None:
                    with contextlib.suppress(OSError), call.log.open("a") as stream:
                        stream.write(f"Lambda could not finish it ({reason}); it goes to Batch\n")
        later = {one.job: one for one in await self._by_batch(name, given_up)}
        return [later.get(one.job, one) for one in outcomes]

    async def _by_batch(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        if not calls:
            return []
        function = self._batch.function(name)
        later = [replace(call, timeout_seconds=batch_seconds(function)) for call in calls]
        outcomes = await self._batch.invoke(name, later)
        for call, outcome in zip(calls, outcomes, strict=True):
            if outcome.kind not in ("transient", "gone"):  # those are begun again, and on Batch
                self._note(name, call).unlink(missing_ok=True)
        return outcomes

    def _known_before(self, function: Function) -> list[str]:
        """Why no call of it could be answered by Lambda; a GPU and several machines are those of Batch alone."""
        needs = function.resources.model_copy(update={"gpus": 0})
        seconds = min(function.timeout_seconds, LAMBDA_SECONDS)
        settings = {**function.settings, "batch": {}}
        small = function.model_copy(update={"resources": needs, "timeout_seconds": seconds, "settings": settings})
        model = self._models.resolve(function.model) if function.model else None
        return list(beyond_lambda(small, images.source_of(function, self._models, model).size))

    def _note(self, name: str, call: Call) -> Path:
        return self.folder / "beyond" / name / f"{call.job}.json"


def batch_seconds(function: Function) -> float:
    """How long a call may take on Batch (`batch.timeout_seconds`): a day, unless something else is said."""
    return float(section(function, "batch").get("timeout_seconds") or max(_BATCH_SECONDS, function.timeout_seconds))
