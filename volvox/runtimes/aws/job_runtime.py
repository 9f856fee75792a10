"""What the runtimes `batch` and `ecs` share: functions whose calls are answered by containers that end then."""

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
from volvox.identity import digest_of
from volvox.runtimes import printed
from volvox.runtimes.aws import images, roles, script_images, triggers
from volvox.runtimes.aws.account import Account
from volvox.runtimes.aws.jobs import Engine, Jobs
from volvox.runtimes.aws.payloads import fetched_there
from volvox.runtimes.aws.scratch import Scratch, needed
from volvox.runtimes.aws.threads import off
from volvox.runtimes.interface import Call, Instance, Outcome, Status
from volvox.runtimes.models import Models
from volvox.runtimes.scripts import Secret, finished

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """What deploying came to.

    Attributes:
        engine: What the engine is found again by.
        queue: URL of the queue that buckets tell of new objects, or empty.
    """

    engine: dict[str, str]
    queue: str = ""


@dataclass(eq=False)
class Deployed:
    """A function as calls find it.

    Attributes:
        function: Its definition.
        version: What the dispatcher calls it.
        jobs: What has its calls answered.
        calls: What is being answered.
        removed: Whether it was.
    """

    function: Function
    version: str
    jobs: Jobs
    calls: set[asyncio.Task[list[Outcome]]] = field(default_factory=set)
    removed: bool = False

    def __post_init__(self) -> None:
        """As many containers at once as the definition says."""
        scaling = self.function.scaling
        self.places = asyncio.Semaphore(scaling.max_scale * scaling.concurrency)


class JobRuntime:
    """A runtime whose containers answer one event each; a class below says what starts them.

    Attributes:
        together: Whether calls that come together are one container's.
        waits_seconds: How long a call may wait for a container, beside its own time.
    """

    name = ""
    fetches = True
    together = False
    waits_seconds = 86_400.0

    def __init__(self, folder: Path, models: Models, *, secret: Secret | None = None) -> None:
        """A runtime without functions, or with those that are in its folder.

        Args:
            folder: This runtime's own.
            models: Where models and their images are found.
            secret: What reads a secret that a script's environment names.
        """
        self.folder = folder
        self.owner = digest_of(str(folder.absolute()))[:16]
        self._models, self._secret = models, secret
        self._all: dict[str, Deployed] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    # -- what a class below says -----------------------------------------------------------------------------------

    def ensure(self, account: Account, function: Function, image: str, role: str) -> dict[str, str]:
        """Have everything there; by what is returned it is found again."""
        raise NotImplementedError

    def engine(self, account: Account, function: Function, made: Mapping[str, str]) -> Engine:
        """What starts its containers."""
        raise NotImplementedError

    def unmake(self, account: Account, function: Function) -> None:
        """Remove what `ensure` made."""
        raise NotImplementedError

    def refuse(self, function: Function) -> None:
        """Refuse what the engine cannot do."""

    def function(self, name: str) -> Function:
        """The function as it is deployed.

        Raises:
            NotFound: If it is not.
        """
        if (found := self._there(name)) is None:
            raise NotFound(f"function {name!r} is not deployed on {self.name}; apply its file first")
        return found.function

    # -- the protocol ----------------------------------------------------------------------------------------------

    def fetches_from(self, function: Function, place: str) -> bool:
        """Whether the function's role reads files of `place` itself; others are brought with the call."""
        return fetched_there(function, place)

    async def deploy(self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None) -> None:
        """As `Runtime.deploy`; a second time nothing is written. Nothing is started before a call comes."""
        async with self._lock(function.name):
            before = self._there(function.name)
            replace_text(self._file(function.name, "begun"), function.model_dump_json())
            made = await off(lambda: self._deploy(function, tell, first=before is None))
            replace_text(
                self._file(function.name),
                json.dumps({"function": function.model_dump(mode="json"), "version": version, "engine": made.engine,
                            "queue": made.queue}),
            )  # fmt: skip
            if before is not None and before.version == version:
                return
            self._all[function.name] = self._made(function, version, made.engine)
            if before is not None and before.calls:
                await asyncio.wait([*before.calls])
                await off(lambda: None)  # who asked hears of the answers first

    async def status(self, name: str) -> Status:
        """As `Runtime.status`; the reason is why the first of those that wait does so."""
        found = self._there(name)
        if found is None:
            return Status("absent")
        running = sorted(found.jobs.running, key=lambda one: one.since)
        instances = tuple(Instance(one.identifier, found.version, one.state, one.since) for one in running)
        waits = next((one.seen for one in running if not one.seen.begun and one.seen.reason), None)
        return Status("ready", found.version, f"{waits.state}: {waits.reason}" if waits else "", instances)

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`."""
        found = self._there(name)
        if found is None:
            raise NotFound(f"function {name!r} is not deployed on {self.name}; apply its file first")
        shares = [list(calls)] if self.together else [[call] for call in calls]
        done: list[Any] = await finished(*(self._share(found, share) for share in shares))  # pyright: ignore[reportArgumentType]
        return [one for share in done for one in share]

    async def scale(self, name: str, instances: int) -> None:
        """Nothing but a look at the number: a container is started for each call, and ends with it.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
        """
        if (found := self._there(name)) is None:
            raise NotFound(f"function {name!r} is not deployed on {self.name}")
        most = found.function.scaling.max_scale
        if not 0 <= instances <= most:
            raise InvalidInput(f"function {name!r} has 0 to {most} instances (its max_scale), not {instances}")

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """As `Runtime.logs`: what the calls of here printed."""
        async for line in printed.lines(self.folder / name / "logs", follow=follow):
            yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`. Buckets and files stay."""
        async with self._lock(name):
            found = self._there(name)
            self._all.pop(name, None)
            if found is not None:
                found.removed = True
                calls = [*found.calls]
                for one in calls:
                    one.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            if (begun := self._begun(name)) is not None:
                await off(lambda: self._remove(begun))
            await asyncio.to_thread(shutil.rmtree, self.folder / name, ignore_errors=True)

    def let_go(self) -> None:
        """Leave what is under way to the next dispatcher: what is cancelled from now on goes on there."""
        for one in self._all.values():
            one.jobs.let_go = True

    async def close(self) -> None:
        """As `Runtime.close`: containers go on, and are joined by who comes next."""

    # -- inside ----------------------------------------------------------------------------------------------------

    def _deploy(self, function: Function, tell: Callable[[str], None], *, first: bool) -> Made:
        try:
            return self._ensured(function, tell)
        except (InvalidInput, ModuleFailed, NotFound):
            if first:  # nothing of it is left: it never answered
                with contextlib.suppress(VolvoxError):
                    self._remove(function)
            raise

    def _ensured(self, function: Function, tell: Callable[[str], None]) -> Made:
        if function.trigger == "direct":
            raise InvalidInput(
                f"function {function.name!r} says trigger: direct, by which AWS calls Lambda without us; "
                f"{self.name} is called by the inbox: say trigger: inbox"
            )
        self.refuse(function)
        model = self._models.resolve(function.model) if function.model else None
        account = Account.of(function, "batch", "ecs", "lambda")
        scratch = needed(account, function)
        source = images.source_of(function, self._models, model)
        images.check_architecture(function, source)
        policy = roles.policy(account, function, f"{scratch.bucket}/{scratch.prefix}")
        role = roles.ensure(account, function, self.owner, policy)
        engine = self.ensure(account, function, images.placed(account, function, source, self.owner), role)
        queue = ""
        if triggers.watched(function):
            queue = triggers.ensure_queue(account, function, self.owner)
            arn = triggers.queue_arn(account, function.name)
            for changed in triggers.ensure(account, function, "QueueConfigurations", arn):
                tell(changed)
        return Made(engine, queue)

    def _remove(self, function: Function) -> None:
        account = Account.of(function, "batch", "ecs", "lambda")
        triggers.remove(account, function)
        triggers.remove_queue(account, function.name)
        self.unmake(account, function)
        roles.remove(account, function.name)
        if account.is_amazon:
            images.remove(account, function.name)
        if not function.model:
            script_images.forget(function.name)
        with contextlib.suppress(InvalidInput):  # no bucket, so nothing was begun; or it is gone
            needed(account, function).clear()

    async def _share(self, found: Deployed, calls: list[Call]) -> Any:
        """Answer calls by one container, ended with it if it is cancelled."""
        task: asyncio.Task[list[Outcome]] = asyncio.ensure_future(self._answered(found, calls))
        found.calls.add(task)
        task.add_done_callback(found.calls.discard)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            if not found.removed:
                raise
            return [Outcome(call.job, "cancelled", f"function {found.function.name!r} was removed") for call in calls]

    async def _answered(self, found: Deployed, calls: list[Call]) -> list[Outcome]:
        async with found.places:
            try:
                return [replace(one, version=found.version) for one in await found.jobs.answer(calls)]
            except Unavailable as error:
                return [Outcome(call.job, "transient", str(error)) for call in calls]
            except VolvoxError as error:
                return [Outcome(call.job, "refused", str(error)) for call in calls]

    def _made(self, function: Function, version: str, engine: Mapping[str, str]) -> Deployed:
        account = Account.of(function, "batch", "ecs", "lambda")
        scratch: Scratch = needed(account, function)
        jobs = Jobs(
            function, account, self.engine(account, function, engine), scratch, self.folder / function.name,
            self._secret, off,
        )  # fmt: skip
        return Deployed(function, version, jobs)

    def _there(self, name: str) -> Deployed | None:
        """What calls find; after a start of the dispatcher it is read from where it is kept."""
        if name not in self._all:
            try:
                told: Mapping[str, Any] = json.loads(self._file(name).read_text())
                function = Function.model_validate(told["function"])
                self._all[name] = self._made(function, told["version"], told["engine"])
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
