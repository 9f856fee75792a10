"""Large drops: files of one user that wait together go to one run on a work pool, and are followed until it has ended.

    dispatch/bulk/<list>.json     which jobs a run answers, written before there is a run

A dispatcher that ends, or is killed, leaves the run and this file; the next one adopts the jobs as they are and follows
the same run, whether the function is still applied or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from volvox.disks import replace_text
from volvox.dispatch.doing import Applied, Doing
from volvox.errors import (
    InvalidInput,
    NotFound,
    PoolDown,
    StageCancelled,
    StageCrashed,
    StageFailed,
    Unavailable,
    VolvoxError,
)
from volvox.functions.definition import Function
from volvox.inbox import Ending, Inbox, Job
from volvox.inbox.database import chunks
from volvox.results import ENDED_WITH_ITS_SERVER
from volvox.runtimes.bulk import FLOW, Asked, Way
from volvox.runtimes.interface import Outcome
from volvox.settings import Home

_SETTLE_SECONDS = 2.0  # nothing more has come for so long: the drop is whole
_PATIENCE_SECONDS = 30.0  # and if more always comes, so long after the first look
_LOOK_SECONDS = 0.5
_RUNS = 2  # of a function: while the pool is at one, the next waits there
_SOME = 500  # jobs in one transaction, so that single files are not held up
_FRUITLESS = 3  # runs of one list that ended beneath it one after the other, and brought nothing
_AGAIN_SECONDS = 5.0
_UNHEARD_SECONDS = 60.0  # Prefect may take so long to answer before there is a run; then instances answer the files
_UNMADE_SECONDS = 20.0  # and so long may a server that was started a moment ago lack its deployments
_LATER_SECONDS = 60.0  # before another run is tried after one that could not begin

log = logging.getLogger(__name__)


@dataclass
class Group:
    """The jobs that one run answers.

    Attributes:
        asked: What the run is asked.
        ids: The jobs.
        holders: The dispatchers that had them; the last one has them now, or is about to.
        run: The run's page in Prefect; empty before there is one.
        fruitless: How many runs in a row ended before they told of a file.
        still: The jobs that have not ended yet.
    """

    asked: Asked
    ids: list[str]
    holders: list[str]
    run: str = ""
    fruitless: int = 0
    still: set[str] = field(default_factory=set)

    @property
    def where(self) -> str:
        """The flow and its deployment."""
        bulk = self.asked.function.bulk
        return f"{FLOW} on {bulk.on if bulk else 'local'!r}"

    def as_json(self) -> str:
        """As it is kept."""
        told = {
            "function": self.asked.function.model_dump(mode="json"), "listing": self.asked.listing,
            "version": self.asked.version, "module": self.asked.module, "tries": self.asked.tries,
            "ids": self.ids, "holders": self.holders, "run": self.run, "fruitless": self.fruitless,
        }  # fmt: skip
        return json.dumps(told)

    @classmethod
    def from_json(cls, text: str) -> Group:
        """What `as_json` gave."""
        told = json.loads(text)
        asked = Asked(
            Function.model_validate(told["function"]), told["listing"], told["version"], told["module"],
            told["tries"], begun=bool(told["run"]),
        )  # fmt: skip
        return cls(asked, told["ids"], told["holders"], told["run"], told["fruitless"])


@dataclass
class _Drop:
    """What is known of the files of one function that gather.

    Attributes:
        user: Whose they are; None: none gather.
        count: How many there were at the last look.
        began: When they were seen first; `time.monotonic`, as the others.
        grown: When there were more than before.
        again: When to look again.
        not_before: When there may be a run again; until then instances take all.
    """

    user: str | None = None
    count: int = 0
    began: float = 0.0
    grown: float = 0.0
    again: float = 0.0
    not_before: float = 0.0


class Bulks:
    """The runs of a dispatcher."""

    def __init__(
        self,
        home: Home,
        inbox: Inbox,
        holder: str,
        *,
        way: Way | None,
        doing: Doing,
        wake: Callable[[], None],
    ) -> None:
        """`way` is how files are answered by runs; None: they never are. `wake` is called when jobs have ended."""
        self._folder = home.root / "dispatch" / "bulk"
        self._inbox, self._holder, self._way, self._doing, self._wake = inbox, holder, way, doing, wake
        self._groups: dict[asyncio.Task[None], Group] = {}
        self._beginning: dict[asyncio.Task[None], str] = {}  # no list is kept yet: the function
        self._drops: dict[str, _Drop] = {}

    # -- what gathers --------------------------------------------------------------------------------------------

    async def gather(self, applied: Applied) -> int:
        """Begin a run if enough files wait; from how many on files of one user are for a run, 0: instances take all."""
        function, now = applied.function, time.monotonic()
        bulk, drop = function.bulk, self._drops.setdefault(function.name, _Drop())
        if bulk is None or self._way is None or now < drop.not_before or self.under_way(function.name) >= _RUNS:
            drop.user = None
            return 0
        if now < drop.again:
            return bulk.least
        if drop.user is None and await self._in_turn(self._inbox.runnable, function.name, bulk.least) < bulk.least:
            return bulk.least
        found: tuple[str, int] | None = await self._in_turn(self._inbox.crowd, function.name, bulk.least, bulk.most)
        drop.again = now + _LOOK_SECONDS
        if found is None:
            drop.user = None
            return bulk.least
        user, count = found
        if drop.user != user:
            drop.user, drop.began, drop.grown = user, now, now
        elif count > drop.count:
            drop.grown = now
        drop.count = count
        if count < bulk.most and now - drop.grown < _SETTLE_SECONDS and now - drop.began < _PATIENCE_SECONDS:
            return bulk.least
        self._drops[function.name] = _Drop()
        await self._take(function, user)
        return await self.gather(applied)  # of what is left, or of another user

    def forget(self, function: str) -> None:
        """Gather no more files of a function; its runs go on."""
        self._drops.pop(function, None)

    def gathering(self, function: str) -> int:
        """How many files of a function gather."""
        drop = self._drops.get(function)
        return drop.count if drop and drop.user is not None else 0

    @property
    def next_look(self) -> float:
        """In how many seconds `gather` has something to look at."""
        gathering = [drop.again for drop in self._drops.values() if drop.user is not None]
        return max(0.0, min(gathering, default=math.inf) - time.monotonic())

    def under_way(self, function: str) -> int:
        """How many runs answer files of a function."""
        names = [*self._beginning.values(), *(group.asked.function.name for group in self._groups.values())]
        return names.count(function)

    async def _take(self, function: Function, user: str) -> None:
        assert function.bulk is not None
        assert self._way is not None
        jobs: list[Job] = []
        while (room := function.bulk.most - len(jobs)) > 0:
            some = await self._in_turn(self._inbox.take_together, function.name, user, min(_SOME, room), self._holder)
            if not some:
                break
            jobs += some
        if jobs:  # not here: a store that is slow must not hold up single files
            task = asyncio.create_task(self._begin(function, jobs))
            self._beginning[task] = function.name
            task.add_done_callback(self._beginning.pop)

    async def _begin(self, function: Function, jobs: Sequence[Job]) -> None:
        """Keep the list of jobs that were taken, and follow the run that answers them."""
        assert self._way is not None
        if not (jobs := await self._doing.fitting(function, jobs)):
            return
        ids = [job.id for job in jobs]
        try:
            asked = await asyncio.to_thread(self._way.keep, function, jobs)
            group = Group(asked, ids, [self._holder], still=set(ids))
            await asyncio.to_thread(self._write, group)
        except asyncio.CancelledError:
            for some in chunks(ids, _SOME):
                await asyncio.shield(self._told(self._inbox.give_back, some, self._holder, "its dispatcher ended"))
            raise
        except Exception as error:  # a fault of ours too: the jobs must not be left to nobody
            await self._leave(function, ids, str(error) or type(error).__name__)
        else:
            self._follow(group)

    async def _leave(self, function: Function, ids: Iterable[str], reason: str) -> None:
        """Let instances answer these jobs: no run could begin with them."""
        log.error("function %r: no run answers its files: %s", function.name, reason)
        self._drops[function.name] = _Drop(not_before=time.monotonic() + _LATER_SECONDS)
        for some in chunks([*ids], _SOME):
            await self._in_turn(self._inbox.give_back, some, self._holder, f"no run could begin: {reason}")
        self._wake()

    # -- what runs -----------------------------------------------------------------------------------------------

    async def adopt(self) -> None:
        """Go on with the runs of a dispatcher that is gone. To be called before its jobs are begun again."""
        if self._way is None:
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                group = Group.from_json(path.read_text())
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("%s cannot be read (%s); its jobs are begun again", path, error)
                path.replace(path.with_suffix(".unreadable"))
                continue
            before, group.holders = group.holders, [*group.holders, self._holder]
            await asyncio.to_thread(self._write, group)  # first, so that a kill after the next line loses nothing
            for some in chunks(group.ids, _SOME):
                group.still |= {*await self._in_turn(self._inbox.adopt, some, before, self._holder)}
            log.warning("%d jobs are answered by a run that goes on: %s", len(group.still), group.run or "not made yet")
            self._follow(group)

    @property
    def any(self) -> bool:
        """Whether there is a run."""
        return bool(self._groups)

    async def cancel(self, ids: Sequence[str]) -> set[str]:
        """End jobs that somebody cancelled; their run is told, and passes over those that it has not begun.

        Returns:
            Those that are a run's.
        """
        found: set[str] = set()
        for group in [*self._groups.values()]:
            mine = [one for one in ids if one in group.still]
            if not mine or self._way is None:
                continue
            found |= {*mine}
            group.still -= {*mine}
            said = "cancelled; if the run was at it already, its answer may be written all the same"
            await self._ended([Ending(one, "FAILED", said, error={"kind": "cancelled"}) for one in mine])
            with contextlib.suppress(VolvoxError, OSError):
                await asyncio.to_thread(self._way.pass_over, group.asked, mine)
        return found

    async def finish(self) -> None:
        """Look away; the runs go on, and the next dispatcher follows them."""
        tasks = [*self._beginning, *self._groups]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _follow(self, group: Group) -> None:
        task = asyncio.create_task(self._see_through(group))
        self._groups[task] = group

        def done(task: asyncio.Task[None]) -> None:
            del self._groups[task]
            if not task.cancelled() and (error := task.exception()):
                log.error("the run %s is followed no more", group.run, exc_info=error)
            self._wake()

        task.add_done_callback(done)

    async def _see_through(self, group: Group) -> None:
        """Follow the run until each of its jobs has ended, or waits for an instance."""
        await self.cancel(await self._in_turn(self._inbox.cancelled, self._holder))  # before anybody was at them
        since: float | None = None
        while group.still:
            try:
                await self._once(group)
                rest = Outcome("", "transient", f"{group.where} tells nothing of it: {group.run}")
            except (StageCancelled, StageCrashed) as error:
                if await self._begins_again(group, error):
                    since = None
                    continue
                rest = Outcome("", "transient", str(error))
                if isinstance(error, StageCancelled):
                    rest = Outcome("", "cancelled", f"{str(error).rstrip('.')}; see {group.run}")
            except (Unavailable, NotFound, InvalidInput) as error:
                since = time.monotonic() if since is None else since
                if time.monotonic() - since < _patience(error, begun=bool(group.run)):
                    await asyncio.sleep(_AGAIN_SECONDS)
                    continue
                if not group.run:
                    await self._leave(group.asked.function, group.still, str(error))
                    break
                rest = Outcome("", "transient", str(error))
            except VolvoxError as error:  # the flow itself: no file is to blame, instances are asked one by one
                rest = Outcome("", "transient", str(error))
            await self._take_in(group, [replace(rest, job=one) for one in group.still])
        await asyncio.to_thread(self._path(group).unlink, missing_ok=True)

    async def _begins_again(self, group: Group, error: StageFailed) -> bool:
        """Whether another run goes on with the list: this one ended beneath it, or with the whole stack."""
        if isinstance(error, StageCancelled) and ENDED_WITH_ITS_SERVER not in str(error):
            return False
        group.fruitless += 1
        if group.fruitless >= _FRUITLESS:
            return False
        log.warning("%s; begun again, it goes on where it was", error)
        group.asked, group.run = replace(group.asked, tries=group.asked.tries + 1, begun=False), ""
        await asyncio.to_thread(self._write, group)
        return True

    async def _once(self, group: Group) -> None:
        """Begin or join the run, and take in what it tells until it has completed."""
        assert self._way is not None
        run, still = await self._way.begin(group.asked), [*group.still]
        among = f"one of {len(group.ids):,} files for {group.where}: {run.url}"
        if group.run != run.url:
            group.run, group.asked = run.url, replace(group.asked, begun=True)
            await asyncio.to_thread(self._write, group)
            for some in chunks(still, _SOME):
                await self._in_turn(self._inbox.tell, some, self._holder, f"{among} (it waits for the pool)")
        begun = False
        async with contextlib.aclosing(self._way.follow(run, group.asked)) as told:
            async for outcomes in told:
                for some in () if begun else chunks(still, _SOME):
                    await self._in_turn(self._inbox.running, some, self._holder, group.asked.version, among)
                begun = True
                await self._take_in(group, outcomes)

    async def _take_in(self, group: Group, outcomes: Iterable[Outcome]) -> None:
        """End the jobs that the run tells of, or have them tried again."""
        applied = Applied(group.asked.function, group.asked.version)
        new = [one for one in outcomes if one.job in group.still]
        group.fruitless = 0 if new else group.fruitless
        for some in chunks(new, _SOME):
            jobs: dict[str, Job] = await self._in_turn(self._inbox.some, [one.job for one in some])
            await self._ended(
                [self._doing.ended_elsewhere(applied, jobs[one.job], one) for one in some if one.job in jobs]
            )
            group.still -= {one.job for one in some}
            self._wake()

    async def _ended(self, endings: Sequence[Ending]) -> None:
        await asyncio.shield(self._told(self._inbox.end, endings, self._holder))

    # -- inside --------------------------------------------------------------------------------------------------

    def _write(self, group: Group) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_text(self._path(group), group.as_json())

    def _path(self, group: Group) -> Path:
        return self._folder / f"{group.asked.listing}.json"

    async def _in_turn(self, do: Callable[..., Any], *values: Any) -> Any:
        return await self._doing.in_turn(lambda: do(*values))

    def _told(self, do: Callable[..., Any], *values: Any) -> asyncio.Task[Any]:
        """The same, done also if its caller is cancelled meanwhile."""
        return asyncio.create_task(self._in_turn(do, *values))


def _patience(error: VolvoxError, *, begun: bool) -> float:
    """For how long it is worth asking again, in seconds; a run that has begun goes on, whoever hears of it."""
    if begun:
        return math.inf if isinstance(error, Unavailable) else 0.0
    if isinstance(error, PoolDown | InvalidInput):
        return 0.0
    return _UNMADE_SECONDS if isinstance(error, NotFound) else _UNHEARD_SECONDS
