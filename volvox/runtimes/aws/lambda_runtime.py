"""Functions in AWS Lambda: the model's serving image, or the script's with our runner in it, asked by events.

What AWS has is looked at whenever a function is deployed; what must be remembered is in `volvox.runtimes.kept`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput, ModuleFailed, NotFound, VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes import printed
from volvox.runtimes.aws import direct, invoking, lambda_deploying, triggers
from volvox.runtimes.aws.account import Account, name_of, owner_of
from volvox.runtimes.aws.beside import elsewhere
from volvox.runtimes.aws.payloads import fetched_there
from volvox.runtimes.aws.scratch import needed
from volvox.runtimes.aws.threads import off
from volvox.runtimes.aws.under_way import UnderWay
from volvox.runtimes.aws.warm import Warm
from volvox.runtimes.interface import Call, Outcome, Status, check_scale
from volvox.runtimes.kept import Kept
from volvox.runtimes.models import Models
from volvox.runtimes.scripts import Secret, finished

_WARM_SECONDS = 240.0  # between two looks at instances that shall stay; Lambda ends them after some minutes
_HOLD_SECONDS = 0.3

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Deployed(UnderWay):
    """A function as calls find it.

    Attributes:
        live: Lambda's own number of the version that calls go to.
        account: Where it is.
        warm: Its instances.
    """

    live: str
    account: Account
    warm: Warm


class LambdaRuntime:
    """Lambda functions of the environment's account, or of the one that a definition names.

    Attributes:
        to_batch: Whether Batch does what is beyond Lambda.
        beyond: Then: jobs that were, and why.
    """

    name = "lambda"
    fetches = True

    def __init__(self, folder: Path, models: Models, *, secret: Secret | None = None) -> None:
        """A runtime without functions, or with those that are in its folder.

        Args:
            folder: This runtime's own.
            models: Where models and their images are found.
            secret: What reads a secret that a script's environment names.
        """
        self.folder = folder
        self.owner = owner_of(folder)
        self._models, self._secret = models, secret
        self._kept = Kept(folder, _read)
        self._warming: dict[str, asyncio.Task[None]] = {}
        self.to_batch = False
        self.beyond: dict[str, str] = {}

    # -- the protocol ----------------------------------------------------------------------------------------------

    def fetches_from(self, function: Function, place: str) -> bool:
        """Whether the function's role reads files of `place` itself; others are brought with the call."""
        return fetched_there(function, place)

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`; a second time nothing is written."""
        async with self._kept.lock(function.name):
            before = self._kept.get(function.name)
            self._kept.begin(function)
            made = await off(lambda: self._deploy(function, version, tell, first=before is None))
            if before is not None:
                await off(lambda: triggers.remove(before.account, before.function, but=function))
            now = Deployed(function, version, made.live, made.account, Warm(function.scaling.idle_seconds))
            new = before is None or (before.version, before.live) != (version, made.live)
            if before is not None and not new:
                before.function, now = function, before
            else:
                for instance in made.instances:
                    now.warm.replied(instance, version)
                now.warm.cold_seconds = made.cold_seconds or (before.warm.cold_seconds if before else None)
                self._kept.present[function.name] = now
            self._kept.write(function.name, {
                "function": function.model_dump(mode="json"), "version": version, "live": made.live,
                "queue": made.queue, "cold_seconds": now.warm.cold_seconds,
            })  # fmt: skip
            if before is not None and new and before.busy:
                tell("the new version answers; the one before ends when it has answered what it is at")
                await before.drained()

    async def status(self, name: str) -> Status:
        """As `Runtime.status`; instances are those whose replies came lately."""
        found = self._kept.get(name)
        if found is None:
            return Status("absent")
        return Status("ready", found.version, "", tuple(found.warm.instances), found.warm.cold_seconds)

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`. Lambda itself cannot be told to stop: what was cancelled ends there at its limit."""
        found = self._kept.get(name)
        if found is None:
            raise NotFound(f"function {name!r} is not deployed in Lambda; apply its file first")
        shares = [calls] if found.function.model else [[call] for call in calls]
        answered = (found.answer(share, partial(self._answered, found, share)) for share in shares)
        return [one for outcomes in await finished(*answered) for one in outcomes]

    async def answered(self, name: str, job: str) -> Outcome | None:
        """What became of a job that a bucket told the function of without us; None: nothing is known of it."""
        found = self._kept.get(name)
        if found is None or found.function.trigger != "direct":
            return None
        return await off(lambda: direct.answered(needed(found.account, found.function), job))

    async def scale(self, name: str, instances: int) -> None:
        """Have so many warm: they are called every few minutes. Lambda starts and ends others by itself.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
        """
        async with self._kept.lock(name):
            found = self._kept.get(name)
            if found is None:
                raise NotFound(f"function {name!r} is not deployed in Lambda")
            check_scale(found.function, instances)
            if not found.function.model:
                return
            if (task := self._warming.pop(name, None)) is not None:
                task.cancel()
            found.warm.kept = instances
            if not instances:
                found.warm.forget()
                return
            if len(found.warm.instances) < instances:
                await self._warmed(found)
            self._warming[name] = asyncio.create_task(self._keep_warm(found))

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """As `Runtime.logs`: what the calls of here printed; of calls by Lambda's own events, CloudWatch knows."""
        found = self._kept.get(name)
        if found is not None and found.function.trigger == "direct" and not follow:
            for line in await off(lambda: invoking.cloud_log(found.account, f"/aws/lambda/{name_of(name)}")):
                yield line
        async for line in printed.lines(self.folder / name / "logs", follow=follow):
            yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`: the function, its role, log, queue and notifications. Buckets and files stay."""
        async with self._kept.lock(name):
            found = self._kept.get(name)
            self._kept.present.pop(name, None)
            if (task := self._warming.pop(name, None)) is not None:
                task.cancel()
            if found is not None:
                await found.end()
            if (begun := self._kept.begun(name)) is not None:
                await off(lambda: self._remove(begun))
            await self._kept.forget(name)

    async def close(self) -> None:
        """As `Runtime.close`: functions go on."""
        for task in self._warming.values():
            task.cancel()

    def _deploy(
        self, function: Function, version: str, tell: Callable[[str], None], *, first: bool
    ) -> lambda_deploying.Made:
        try:
            return lambda_deploying.deploy(
                function, version, models=self._models, owner=self.owner, tell=tell, to_batch=self.to_batch
            )
        except (InvalidInput, ModuleFailed, NotFound):
            if first:  # nothing of it is left: it never answered
                with contextlib.suppress(VolvoxError):
                    self._remove(function)
            raise

    def _remove(self, function: Function) -> None:
        other = elsewhere(self.folder, function.name)
        lambda_deploying.remove(Account.of(function, "lambda"), function, self.owner, other)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def _answered(self, found: Deployed, calls: Sequence[Call]) -> list[Outcome]:
        """Answer calls by one event."""
        began = time.monotonic()
        with found.warm.at_work(found.version):
            reply = await off(
                lambda: invoking.invoke(found.account, found.function, found.live, calls, self._secret)
            )  # fmt: skip
        if self.to_batch:
            self.beyond.update(reply.beyond)
        if reply.instance:
            found.warm.replied(reply.instance, found.version)
        took = max((one.seconds for one in reply.outcomes), default=0.0)
        cold = max(0.001, time.monotonic() - began - took) if reply.cold else 0.0
        if cold:
            found.warm.cold_seconds = cold
        self._print(found.function.name, reply.log)
        return [invoking.with_start(one, cold) for one in reply.outcomes]

    async def _warmed(self, found: Deployed) -> None:
        """Call as many instances at a time as shall be warm; each answers late enough that it is another one."""
        told = await asyncio.gather(
            *(
                off(lambda: invoking.hold(found.account, found.function.name, found.live, _HOLD_SECONDS))
                for _ in range(found.warm.kept)
            )
        )
        for instance, cold_seconds in told:
            found.warm.replied(instance, found.version)
            found.warm.cold_seconds = cold_seconds or found.warm.cold_seconds

    async def _keep_warm(self, found: Deployed) -> None:
        while True:
            await asyncio.sleep(min(_WARM_SECONDS, max(1.0, found.function.scaling.idle_seconds * 0.8)))
            try:
                await self._warmed(self._kept.present.get(found.function.name, found))
            except VolvoxError as error:
                log.warning("function %r is not kept warm now: %s", found.function.name, error)

    def _print(self, name: str, text: str) -> None:
        if text and self._kept.written(name):
            with contextlib.suppress(OSError):
                printed.new_file(self.folder / name / "logs").write_text(text)


def _read(_name: str, told: Mapping[str, Any]) -> Deployed:
    function = Function.model_validate(told["function"])
    warm = Warm(function.scaling.idle_seconds, cold_seconds=told["cold_seconds"])
    return Deployed(function, told["version"], told["live"], Account.of(function, "lambda"), warm)
