"""What the runtimes `batch` and `ecs` share: functions whose calls are answered by containers that end then."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from volvox.errors import InvalidInput, ModuleFailed, NotFound, VolvoxError
from volvox.functions.definition import Function
from volvox.runtimes import answers, printed
from volvox.runtimes.aws import buckets, images, proving, roles, script_images, triggers
from volvox.runtimes.aws.account import Account, owner_of
from volvox.runtimes.aws.beside import elsewhere
from volvox.runtimes.aws.jobs import Engine, Jobs
from volvox.runtimes.aws.payloads import fetched_there
from volvox.runtimes.aws.scratch import Scratch, needed
from volvox.runtimes.aws.threads import off
from volvox.runtimes.aws.under_way import UnderWay
from volvox.runtimes.interface import Call, Instance, Outcome, Status, check_scale
from volvox.runtimes.kept import Kept
from volvox.runtimes.models import Models
from volvox.runtimes.scripts import Secret, finished
from volvox.worker.describing import file_argument

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
class Deployed(UnderWay):
    """A function as calls find it.

    Attributes:
        jobs: What has its calls answered.
        engine: What the engine is found again by.
        cold_seconds: How long the last container was waited for; None: there was none.
    """

    jobs: Jobs
    engine: Mapping[str, str]
    cold_seconds: float | None = None


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
        self.owner = owner_of(folder)
        self._models, self._secret = models, secret
        self._kept = Kept(folder, self._read)

    # -- what a class below says -----------------------------------------------------------------------------------

    def ensure(self, account: Account, function: Function, image: str, role: str) -> dict[str, str]:
        """Have everything there; by what is returned it is found again. What calls go to now stays."""
        raise NotImplementedError

    def keep(self, account: Account, function: Function, made: Mapping[str, str]) -> None:
        """Remove what `ensure` made at other times than this, where that is not of use any more."""
        raise NotImplementedError

    def prover(self, account: Account, function: Function, made: Mapping[str, str]) -> Engine:
        """What starts the container by which a new version is proven, beside those that answer."""
        return self.engine(account, function, made)

    def memory_mb(self, function: Function) -> int:
        """What a call may use; 0: what its container has."""
        return function.resources.memory_mb or 0

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
        if (found := self._kept.get(name)) is None:
            raise NotFound(f"function {name!r} is not deployed on {self.name}; apply its file first")
        return found.function

    # -- the protocol ----------------------------------------------------------------------------------------------

    def fetches_from(self, function: Function, place: str) -> bool:
        """Whether the function's role reads files of `place` itself; others are brought with the call."""
        return fetched_there(function, place)

    async def deploy(
        self, function: Function, *, version: str, tell: Callable[[str], None] = lambda _: None, prove: bool = True
    ) -> None:
        """As `Runtime.deploy`; a second time nothing is written. Of a script nothing is started before a call comes.

        Args:
            function: Its definition.
            version: What the dispatcher calls it.
            tell: Hears of what is done.
            prove: Whether a container of a new version of a model is asked first.
        """
        async with self._kept.lock(function.name):
            before = self._kept.get(function.name)
            self._kept.begin(function)
            new = before is None or before.version != version
            try:
                made = await off(lambda: self._ensured(function, tell))
                if new and prove and function.model:
                    await self._proved(self._made(function, version, made.engine, proves=True), tell)
            except (InvalidInput, ModuleFailed, NotFound):
                with contextlib.suppress(VolvoxError):  # nothing of it is left: it never answered
                    await off(lambda: self._forget(function, before))
                raise
            await off(lambda: self.keep(self._account(function), function, made.engine))
            if before is not None:
                await off(lambda: triggers.remove(self._account(before.function), before.function, but=function))
            self._kept.write(function.name, {
                "function": function.model_dump(mode="json"), "version": version, "engine": made.engine,
                "queue": made.queue,
            })  # fmt: skip
            if not new:
                return
            self._kept.present[function.name] = self._made(function, version, made.engine)
            if before is not None:
                await before.drained()

    async def status(self, name: str) -> Status:
        """As `Runtime.status`; the reason is why the first of those that wait does so."""
        found = self._kept.get(name)
        if found is None:
            return Status("absent")
        running = sorted(found.jobs.running, key=lambda one: one.since)
        instances = tuple(Instance(one.identifier, found.version, one.state, one.since) for one in running)
        waits = next((one.seen for one in running if not one.seen.begun and one.seen.reason), None)
        return Status(
            "ready", found.version, f"{waits.state}: {waits.reason}" if waits else "", instances, found.cold_seconds
        )

    async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
        """As `Runtime.invoke`."""
        found = self._kept.get(name)
        if found is None:
            raise NotFound(f"function {name!r} is not deployed on {self.name}; apply its file first")
        shares = [list(calls)] if self.together else [[call] for call in calls]
        answered = (found.answer(share, partial(self._answered, found, share)) for share in shares)
        return [one for outcomes in await finished(*answered) for one in outcomes]

    async def scale(self, name: str, instances: int) -> None:
        """Nothing but a look at the number: a container is started for each call, and ends with it.

        Raises:
            NotFound: If it is not deployed here.
            InvalidInput: If that is more than its `max_scale`.
        """
        if (found := self._kept.get(name)) is None:
            raise NotFound(f"function {name!r} is not deployed on {self.name}")
        check_scale(found.function, instances)

    async def logs(self, name: str, *, follow: bool = False) -> AsyncIterator[str]:
        """As `Runtime.logs`: what the calls of here printed."""
        async for line in printed.lines(self.folder / name / "logs", follow=follow):
            yield line

    async def remove(self, name: str) -> None:
        """As `Runtime.remove`. Buckets and files stay."""
        async with self._kept.lock(name):
            found = self._kept.get(name)
            self._kept.present.pop(name, None)
            if found is not None:
                await found.end()
            if (begun := self._kept.begun(name)) is not None:
                await off(lambda: self._remove(begun))
            await self._kept.forget(name)

    def let_go(self) -> None:
        """Leave what is under way to the next dispatcher: what is cancelled from now on goes on there."""
        for one in self._kept.present.values():
            one.jobs.let_go = True

    async def close(self) -> None:
        """As `Runtime.close`: containers go on, and are joined by who comes next."""

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _proved(self, made: Deployed, tell: Callable[[str], None]) -> None:
        """Ask a container of a new version what it must be able to answer."""
        function = made.function
        model = await off(lambda: self._models.resolve(function.model))
        samples = await off(lambda: self._models.samples(model))
        tell(f"starting a container of version {model.version} on {self.name}")
        with tempfile.TemporaryDirectory(prefix="volvox-proof-") as folder:
            calls = proving.calls_of(samples, Path(folder))
            outcomes, described = await made.jobs.prove(made.version, calls)
            answers.check_arguments(described, function.arguments, takes_files=bool(function.inputs))
            if file_argument(described) is not None:
                proving.look_at(calls, outcomes, model.labels)

    def _forget(self, function: Function, before: Deployed | None) -> None:
        """Go back to the version before, or to nothing."""
        if before is None:
            self._remove(function)
        else:
            self.keep(self._account(before.function), before.function, before.engine)

    @staticmethod
    def _account(function: Function) -> Account:
        return Account.of(function, "batch", "ecs", "lambda")

    def _ensured(self, function: Function, tell: Callable[[str], None]) -> Made:
        if function.trigger == "direct":
            raise InvalidInput(
                f"function {function.name!r} says trigger: direct, by which AWS calls Lambda without us; "
                f"{self.name} is called by the inbox: say trigger: inbox"
            )
        self.refuse(function)
        model = self._models.resolve(function.model) if function.model else None
        account = self._account(function)
        scratch = needed(account, function)
        source = images.source_of(function, self._models, model)
        images.check_architecture(function, source)
        for made in buckets.ensure(account, function, self.owner):
            tell(f"made the bucket {made}")
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
        account, other = self._account(function), elsewhere(self.folder, function.name)
        triggers.remove(account, function, but=other)
        if other is None:
            triggers.remove_queue(account, function.name)
        self.unmake(account, function)
        if other is not None:
            return
        roles.remove(account, function.name)
        if account.is_amazon:
            images.remove(account, function.name)
        if not function.model:
            script_images.forget(function.name)
        with contextlib.suppress(InvalidInput):  # no bucket, so nothing was begun; or it is gone
            needed(account, function).clear()

    @staticmethod
    async def _answered(found: Deployed, calls: list[Call]) -> list[Outcome]:
        """Answer calls by one container, ended with it if it is cancelled."""
        outcomes = await found.jobs.answer(calls)
        found.cold_seconds = max(one.started_seconds for one in outcomes)
        return outcomes

    def _made(self, function: Function, version: str, engine: Mapping[str, str], *, proves: bool = False) -> Deployed:
        account = self._account(function)
        scratch: Scratch = needed(account, function)
        starts = (self.prover if proves else self.engine)(account, function, engine)
        jobs = Jobs(
            function, account, starts, scratch, self.folder / function.name, self._secret, off,
            self.memory_mb(function),
        )  # fmt: skip
        return Deployed(function, version, jobs, dict(engine))

    def _read(self, _name: str, told: Mapping[str, Any]) -> Deployed:
        return self._made(Function.model_validate(told["function"]), told["version"], told["engine"])
