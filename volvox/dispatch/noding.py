"""Nodes for functions: what the functions of a runtime want is counted, and the node groups that serve them are kept.

It stands beside `Dispatcher`, which decides about instances: the same lanes are looked at, the same policy is asked.
Each group has a task of its own, so that one whose cloud is slow holds up neither jobs nor another group.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping

from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.lane import Lane
from volvox.errors import VolvoxError
from volvox.nodes.cloud import Cloud, open_cloud
from volvox.nodes.group import FOLDER, NodeGroup, read_groups
from volvox.nodes.keeping import Keeper, Need
from volvox.settings import Home

_LOOK_SECONDS = 1.0  # between two looks at the files of groups

log = logging.getLogger(__name__)


class Nodes:
    """Keeps every node group of a home."""

    def __init__(
        self, home: Home, dispatcher: Dispatcher, open_group: Callable[[NodeGroup], Cloud] = open_cloud
    ) -> None:
        """`open_group` gives what starts and stops the nodes of a group."""
        self._home, self._dispatcher, self._open = home, dispatcher, open_group
        self._at_it: dict[str, tuple[NodeGroup, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Keep them until cancelled; nodes that are on stay on."""
        seen = ""
        try:
            while True:
                now = await asyncio.to_thread(_signature, self._home)
                if now != seen:
                    seen = now
                    await self._follow()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await self._let_go([*self._at_it])

    async def _follow(self) -> None:
        try:
            groups = await asyncio.to_thread(read_groups, self._home)
        except VolvoxError as error:
            log.error("node groups are kept as they were: %s", error)
            return
        await self._let_go([name for name, (group, _) in self._at_it.items() if groups.get(name) != group])
        for name, group in groups.items():
            if name not in self._at_it:
                self._at_it[name] = group, asyncio.create_task(self._keep(group))

    async def _let_go(self, names: list[str]) -> None:
        tasks = [self._at_it.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, group: NodeGroup) -> None:
        cloud = self._open(group)
        try:
            keeper = await asyncio.to_thread(Keeper, self._home, group, cloud)
            while True:
                try:
                    await keeper.once(need_of(group, self._dispatcher.lanes, self._dispatcher.deploying))
                except Exception:  # the disk is full, or a fault of ours: looked at again soon
                    log.exception("node group %r could not be looked after", group.name)
                await asyncio.sleep(group.look_seconds)
        except (OSError, ValueError) as error:
            log.error("node group %r is not looked after: what is kept of it cannot be read: %s", group.name, error)
        finally:
            await asyncio.shield(cloud.close())


def need_of(group: NodeGroup, lanes: Mapping[str, Lane], deploying: Mapping[str, str]) -> Need:
    """What the functions that a group serves want of its nodes, in turns of an instance."""
    mine = [lane for name, lane in lanes.items() if group.serves(name, lane.runtime.name)]
    wants = [(lane, _turns(lane, lane.waiting + lane.at_work), _turns(lane, lane.at_work)) for lane in mine]
    tried = sum(group.serves(name, runtime) for name, runtime in deploying.items())
    busy = [(lane, turns) for lane, turns, _ in wants if turns]
    return Need(
        turns=sum(turns for _, turns in busy) + tried,
        under_way=sum(under_way for *_, under_way in wants) + tried,
        job_seconds=_mean((_turn_seconds(lane), turns) for lane, turns in busy),
        first_done_in=min((_first_done_in(lane) for lane in mine if lane.begun), default=0.0),
        most_instances=sum(lane.applied.function.scaling.max_scale for lane, _ in busy) + tried,
    )


def _turns(lane: Lane, jobs: int) -> int:
    """How many turns so many jobs of a function take; at least the instances that it is to have without jobs."""
    least = max(lane.applied.function.scaling.min_scale, 1 if lane.warm else 0) if lane.applied.function.model else 0
    return max(least, math.ceil(jobs / _at_once(lane)))


def _at_once(lane: Lane) -> int:
    return max(1, lane.applied.function.scaling.concurrency * lane.share)


def _turn_seconds(lane: Lane) -> float:
    """How long a turn takes a slot; 0: nobody knows. A script's container is started for each."""
    if not lane.job_seconds:
        return 0.0
    return lane.job_seconds + (0.0 if lane.applied.function.model else lane.start_seconds)


def _first_done_in(lane: Lane) -> float:
    return max(0.0, min(lane.begun.values()) + _turn_seconds(lane) - time.monotonic())


def _mean(told: Iterable[tuple[float, int]]) -> float:
    """Of the seconds that are known, each with how often."""
    known = [(seconds, count) for seconds, count in told if seconds]
    return sum(seconds * count for seconds, count in known) / sum(count for _, count in known) if known else 0.0


def _signature(home: Home) -> str:
    found: list[str] = []
    for path in sorted((home.root / FOLDER).glob("*.yaml")):
        try:
            told = path.stat()
        except OSError:
            continue
        found.append(f"{path.name} {told.st_mtime_ns} {told.st_ino}")
    return "\n".join(found)
