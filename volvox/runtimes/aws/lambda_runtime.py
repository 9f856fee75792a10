"""Functions in AWS Lambda: the model's serving image, or the script's with our runner in it, asked by events.

What must be remembered lies in the runtime's folder, `NAME/deployed.json`; the truth is what AWS has, which is looked
at whenever a function is deployed. `NAME/begun.json` is there before anything is made, so that removing finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from volvox.disks import replace_text
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable, VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes import printed
from volvox.runtimes.aws import direct, invoking, lambda_deploying, triggers
from volvox.runtimes.aws.account import Account, name_of, owner_of
from volvox.runtimes.aws.beside import elsewhere
from volvox.runtimes.aws.payloads import fetched_there
from volvox.runtimes.aws.scratch import needed
from volvox.runtimes.aws.threads import off
from volvox.runtimes.aws.warm import Warm
from volvox.runtimes.interface import Call, Outcome, Status, check_scale
from volvox.runtimes.models import Models
from volvox.runtimes.scripts import Secret, finished

_WARM_SECONDS = 240.0  # between two looks at instances that shall stay; Lambda ends them after some minutes
_HOLD_SECONDS = 0.3

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Deployed:
    """A function as calls find it.

    Attributes:
        function: Its definition.
        version: What the dispatcher calls it.
        live: Lambda's own number of the version that calls go to.
        account: Where it is.
        warm: Its instances.
        calls: What is being answered.
    """

    function: Function
    version: str
    live: str
    account: Account
    warm: Warm
    calls: set[asyncio.Task[list[Outcome]]] = field(default_factory=set)
    removed: bool = False

    def __post_init__(self) -> None:
        """As many events at once as the definition says."""
        scaling = self.function.scaling
        self.places = asyncio.Semaphore(scaling.max_scale * scaling.concurrency)


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
        self._all: dict[str, Deployed] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._warming: dict[str, asyncio.Task[None]] = {}
        self.to_batch = False
        self.beyond: dict[str, str] = {}

    # -- the protocol ----------------------------------------------------------------------------------------------

    def fetches_from(self, function: Function, place: str) -> bool:
        """Whether the function's role reads files of `place` itself; others are brought with the call."""
        return fetched_there(function, place)

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`; a second time nothing is written."""
        async with self._lock(function.name):
            before = self._there(function.name)
            replace_text(self._file(function.name, "begun"), function.model_dump_json())
            made = await off(lambda: self._deploy(function, version, tell, first=before is None))
            if before is not None:
                await off(lambda: triggers.remove(before.account, before.function, but=function))
            now = Deployed(function, version, made.live, made.account, Warm(function.scaling.idle_seconds))
            if before is not None and (before.version, before.live) == (version, made.live):
                before.function = function
            else:
                for instance in made.instances:
                    now.warm.replied(instance, version)
                now.warm.cold_seconds = made.cold_seconds or (before.warm.cold_seconds if before else None)
                self._all[function.name] = now
            replace_text(
                self._file(function.name),
                json.dumps({"function": function.model_dump(mode="json"), "version": version, "live": made.live,
                            "queue": made.queue, "cold_seconds": now.warm.cold_seconds}),
            )  # fmt: skip
            if before is not None and self._all[function.name] is not before and before.calls:
                tell("the new version answers; the one before ends when it has answered what it is at")
                await asyncio.wait([*before.calls])
                await off(lambda: None)  # who asked hears of the answers first

    async def status(self, name: str) -> Status:
        """As `Runtime.status`; instances are those whose replies came lately."""
        found = self._there(name)
        if found is None:
            return Status("absent")
        return Status("ready", found.version, "", tuple(found.warm.instances), found.warm.cold_seconds)

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`. Lambda itself cannot be told to stop: what was cancelled ends there at its limit."""
        if self._there(name) is None:
            raise NotFound(f"function {name!r} is not deployed in Lambda; apply its file first")
        found = self._all[name]
        shares = [calls] if found.function.model else [[call] for call in calls]
        outcomes = await finished(*(self._share(name, share) for share in shares))  # pyright: ignore[reportArgumentType]
        return [one for share in outcomes for one in share]  # pyright: ignore[reportGeneralTypeIssues]

    async def answered(self, name: str, job: str) -> Outcome | None:
        """What became of a job that a bucket told the function of without us; None: nothing is known of it."""
        found = self._there(name)
        if found is None or found.function.trigger != "direct":
            return None
        return await off(lambda: direct.answered(needed(found.account, found.function), job))

    async def scale(self, name: str, instances: int) -> None:
        """Have so many warm: they are called every few minutes. Lambda starts and ends others by itself.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
        """
        async with self._lock(name):
            found = self._there(name)
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
        found = self._there(name)
        if found is not None and found.function.trigger == "direct" and not follow:
            for line in await off(lambda: invoking.cloud_log(found.account, f"/aws/lambda/{name_of(name)}")):
                yield line
        async for line in printed.lines(self.folder / name / "logs", follow=follow):
            yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`: the function, its role, log, queue and notifications. Buckets and files stay."""
        async with self._lock(name):
            found = self._there(name)
            self._all.pop(name, None)
            if (task := self._warming.pop(name, None)) is not None:
                task.cancel()
            if found is not None:
                found.removed = True
                calls = [*found.calls]
                for one in calls:
                    one.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            if (begun := self._begun(name)) is not None:
                await off(lambda: self._remove(begun))
            await asyncio.to_thread(shutil.rmtree, self.folder / name, ignore_errors=True)

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

    async def _share(self, name: str, calls: Sequence[Call]) -> Any:
        """Answer calls by one event, ended with it if it is cancelled."""
        task: asyncio.Task[list[Outcome]] = asyncio.ensure_future(self._answered(name, calls))
        found = self._all.get(name)
        if found is None:
            task.cancel()
            return [Outcome(call.job, "cancelled", f"function {name!r} was removed") for call in calls]
        found.calls.add(task)
        task.add_done_callback(found.calls.discard)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            if not found.removed:
                raise
            return [Outcome(call.job, "cancelled", f"function {name!r} was removed") for call in calls]

    async def _answered(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        found = self._all[name]
        clock = asyncio.get_running_loop().time
        async with found.places:
            began = clock()
            with found.warm.at_work(found.version):
                try:
                    reply = await off(
                        lambda: invoking.invoke(found.account, found.function, found.live, calls, self._secret)
                    )  # fmt: skip
                except Unavailable as error:
                    return [Outcome(call.job, "transient", str(error)) for call in calls]
                except VolvoxError as error:
                    return [Outcome(call.job, "refused", str(error)) for call in calls]
            if self.to_batch:
                self.beyond.update(reply.beyond)
            if reply.instance:
                found.warm.replied(reply.instance, found.version)
            took = max((one.seconds for one in reply.outcomes), default=0.0)
            cold = max(0.001, clock() - began - took) if reply.cold else 0.0
            if cold:
                found.warm.cold_seconds = cold
            self._print(name, reply.log)
        return [replace(invoking.with_start(one, cold), version=found.version) for one in reply.outcomes]

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
                await self._warmed(self._all.get(found.function.name, found))
            except VolvoxError as error:
                log.warning("function %r is not kept warm now: %s", found.function.name, error)

    def _print(self, name: str, text: str) -> None:
        if text and self._file(name).exists():
            with contextlib.suppress(OSError):
                printed.new_file(self.folder / name / "logs").write_text(text)

    # -- what is kept ----------------------------------------------------------------------------------------------

    def _there(self, name: str) -> Deployed | None:
        """What calls find; after a start of the dispatcher it is read from where it is kept."""
        if name not in self._all:
            try:
                told: Mapping[str, Any] = json.loads(self._file(name).read_text())
                function = Function.model_validate(told["function"])
                warm = Warm(function.scaling.idle_seconds, cold_seconds=told["cold_seconds"])
                account = Account.of(function, "lambda")
                self._all[name] = Deployed(function, told["version"], told["live"], account, warm)
            except FileNotFoundError:
                return None
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("what is deployed as %r cannot be read (%s); deploy it again", name, error)
                return None
        return self._all[name]

    def _begun(self, name: str) -> Function | None:
        """What something may have been made of."""
        try:
            return Function.model_validate_json(self._file(name, "begun").read_text())
        except (OSError, ValueError):
            return None

    def _file(self, name: str, what: str = "deployed") -> Path:
        return self.folder / name / f"{what}.json"

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())
