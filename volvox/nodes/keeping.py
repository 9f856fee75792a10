"""Have as many nodes as the policy wants: look, decide, write it down, then ask.

The one rule of `volvox.elasticity.policy` decides, which `volvox simulate` plays. Here is only what a simulation need
not do: nodes that were asked for by a dispatcher that was killed, that never come, that somebody else starts and stops,
that were given work while they were to be stopped.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from volvox.elasticity.policy import START_WEIGHT, NodeDemand, last_begins_in, learned, wanted_nodes
from volvox.errors import VolvoxError
from volvox.nodes.cloud import Cloud, Seen
from volvox.nodes.group import NodeGroup
from volvox.nodes.ledger import Node, keep, read_ledger
from volvox.settings import Home

_AGAIN_SECONDS = (60.0, 3600.0)  # after one that never came, before another is asked for: at first, at most
_TOLD_AGAIN_SECONDS = 300.0  # the longest pause before a node that was not asked for, or not stopped, is told again
_FAILED_SECONDS = 3600.0  # so long one that never came is shown

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Need:
    """What functions want of the nodes of a group, in turns of an instance: jobs that one does together are one.

    Attributes:
        turns: Those that wait and those under way.
        under_way: Those that were given to an instance, which may have to be started yet.
        job_seconds: What a turn takes; 0: nobody knows.
        first_done_in: In how long the first of those under way is done.
        most_instances: Instances that there may be at a time.
    """

    turns: int = 0
    under_way: int = 0
    job_seconds: float = 0.0
    first_done_in: float = 0.0
    most_instances: int = 0


class Keeper:
    """Keeps the nodes of one group."""

    def __init__(self, home: Home, group: NodeGroup, cloud: Cloud, now: Callable[[], float] = time.time) -> None:
        """Nothing is asked yet.

        Args:
            home: Where the ledger is.
            group: Which nodes.
            cloud: What starts and stops them.
            now: Seconds since the epoch; a simulation has its own.

        Raises:
            OSError, ValueError: If the ledger cannot be read.
        """
        self.group, self.cloud = group, cloud
        self._home, self._now = home, now
        self.ledger = read_ledger(home, group.name)
        self._kept = self._told = ""
        self._asked_here: set[str] = set()  # a boot that nobody watched from its beginning teaches nothing

    async def once(self, need: Need) -> None:
        """Look at the nodes, and start or stop some if the policy wants that.

        Raises:
            OSError: If the ledger cannot be written; nothing was asked for then.
        """
        self.ledger.trouble = ""
        try:
            for node in self._taken_in(await self.cloud.nodes()):
                await self.cloud.stay(node.id)  # it may have been cordoned when it was stopped the last time
            await self._see_to()
            await self._decide(need)
        except VolvoxError as error:
            self._in_trouble(str(error))
        self._told = self._told if self.ledger.trouble else ""
        self._keep()

    @property
    def boot_seconds(self) -> float:
        """What a boot is thought to take."""
        return self.ledger.boot_seconds or self.group.boot_seconds

    # -- what there is -------------------------------------------------------------------------------------------

    def _taken_in(self, seen: list[Seen]) -> list[Node]:
        """Remember what is there; the nodes that have come."""
        now, there = self._now(), {one.id: one for one in seen if one.state != "off"}
        self._recognised(there)
        came: list[Node] = []
        for node in [*self.ledger.nodes]:
            one = there.get(node.id)
            if one is None:
                self._missed(node, now)
            elif one.state == "failed":
                if node.state in ("asking", "booting", "on"):
                    self._gives_up(node, now, one.why or "what lists the nodes says that it has failed")
            elif node.state != "stopping" and self._looked_at(node, one, now):
                came.append(node)
        return came

    def _recognised(self, there: dict[str, Seen]) -> None:
        """Give nodes the ids that they have now; what nobody here asked for is a node of the group all the same."""
        for node in self.ledger.nodes:
            if not node.id and self.cloud.named:
                node.id = node.name
        known = {node.id for node in self.ledger.nodes}
        nameless = [node for node in self.ledger.nodes if not node.id]
        nameless.sort(key=lambda node: node.state == "failed")  # what comes is what is waited for
        for one in there.values():
            if one.id in known or one.state == "failed":
                continue
            if nameless:
                nameless.pop(0).id = one.id
                continue
            now = self._now()
            told = "it was there, or somebody started it"
            self.ledger.nodes.append(Node(one.id, one.id, "booting", now, now, why=told))

    def _looked_at(self, node: Node, one: Seen, now: float) -> bool:
        """Take in how a node is; whether it has just come."""
        came = one.state == "on" and node.state != "on"
        if came:
            if node.name in self._asked_here and node.state != "failed":
                self.ledger.boot_seconds = learned(self.ledger.boot_seconds, now - node.asked, START_WEIGHT)
                log.info("node %s of group %r is on after %.0f s", node.id, self.group.name, now - node.asked)
            self.ledger.failures, self.ledger.not_before = 0, 0.0
            node.on = now
            node.become("on", now, "")
        elif one.state == "booting" and node.state == "asking":
            node.become("booting", now, "it was asked for before, and boots")
        if node.state == "on" or (node.state != "failed" and one.why):
            node.why = one.why
        node.at_work = one.at_work
        node.worked = node.worked or one.at_work != 0
        node.idle = (node.idle or now) if node.state == "on" and one.at_work == 0 else 0.0
        return came

    def _missed(self, node: Node, now: float) -> None:
        """A node is not among those that there are."""
        if node.state in ("on", "stopping"):
            if node.state == "on":
                log.warning("node %s of group %r is gone; somebody has stopped it", node.id, self.group.name)
            self.ledger.nodes.remove(node)
        elif node.state == "booting" and not self.cloud.named:
            node.id = ""  # its cloud gave it up, and makes another one
        elif node.state == "failed" and now - node.since > _FAILED_SECONDS:
            self.ledger.nodes.remove(node)

    # -- what was begun ------------------------------------------------------------------------------------------

    async def _see_to(self) -> None:
        """Go on with what was asked for and has not come, and with what was to be stopped and is there still."""
        now = self._now()
        for node in [*self.ledger.nodes]:
            if node.state in ("asking", "booting") and now - node.asked > self.group.gives_up_seconds:
                said = f"; {node.why}" if node.why else ""
                self._gives_up(node, now, f"it was asked for {now - node.asked:.0f} s ago and is not on{said}")
            if node.state == "failed" and not node.tried:
                await self._ended(node)
            elif node.state == "asking" and self._due(node, now):
                await self._ask(node)
            elif node.state == "stopping" and self._due(node, now):
                await self._stop(node)

    def _due(self, node: Node, now: float) -> bool:
        pause = min(self.group.look_seconds * 2**node.tries, _TOLD_AGAIN_SECONDS)
        return now - node.tried >= max(pause, self.cloud.answers_seconds)

    def _gives_up(self, node: Node, now: float, why: str) -> None:
        first, longest = _AGAIN_SECONDS
        self.ledger.failures += 1
        self.ledger.not_before = now + min(longest, first * 2 ** min(self.ledger.failures - 1, 10))
        node.become("failed", now, why)
        log.error("node %s of group %r never came: %s", node.name, self.group.name, why)

    async def _ended(self, node: Node) -> None:
        """What never came is told to stop, so that it costs nothing if it comes after all."""
        self._keep()
        try:
            if node.id:
                await self.cloud.stop(node.id)
            node.tried = self._now()
        except VolvoxError as error:  # told again at the next look
            self._in_trouble(f"node {node.id} never came, and cannot be stopped: {error}")

    # -- the decision --------------------------------------------------------------------------------------------

    def demand(self, need: Need) -> NodeDemand:
        """What the policy is asked."""
        now, limits, counted = self._now(), self.group.limits, self.ledger.counted
        on = [node for node in counted if node.state == "on"]
        placed = sum(limits.slots if node.at_work is None else node.at_work for node in on)
        at_work = min(need.under_way, placed)
        return NodeDemand(
            waiting=need.turns - at_work, at_work=at_work, nodes=len(counted), job_seconds=need.job_seconds,
            boot_seconds=self.boot_seconds + self.group.pull_seconds,
            ready_seconds=self._ready_in(counted, placed, need.first_done_in if at_work else inf),
            idle_seconds=tuple(now - node.idle for node in self._idle()), most_instances=need.most_instances,
        )  # fmt: skip

    def _ready_in(self, counted: list[Node], placed: int, first_done_in: float) -> float:
        """In how long the first slot of these nodes becomes free."""
        now, pull, coming = self._now(), self.group.pull_seconds, [first_done_in]
        usable = 0
        for node in counted:
            if node.state != "on":
                coming.append(node.asked + self.boot_seconds + pull - now)
            elif node.worked or now >= node.on + pull:
                usable += 1
            else:
                coming.append(node.on + pull - now)
        if usable * self.group.limits.slots > placed or min(coming) == inf:
            return 0.0
        return max(0.0, min(coming))

    def _idle(self) -> list[Node]:
        """Nodes that have nothing to do, the longest first, and of those the newest."""
        idle = [node for node in reversed(self.ledger.nodes) if node.state == "on" and node.idle]
        return sorted(idle, key=lambda node: node.idle)

    async def _decide(self, need: Need) -> None:
        demand = self.demand(need)
        self.ledger.wanted = target = wanted_nodes(demand, self.group.limits)
        more = target - demand.nodes
        if more < 0:
            for node in self._idle()[:-more]:
                node.become("stopping", self._now(), f"nothing was on it for {self._now() - node.idle:.0f} s")
                await self._stop(node)
        wait = self.ledger.not_before - self._now()
        if more > 0 and wait > 0:
            times = "the last node" if self.ledger.failures == 1 else f"the last {self.ledger.failures} nodes"
            self._in_trouble(f"{times} never came; the next one is asked for in {wait:.0f} s")
            return
        why = self._why_more(demand) if more > 0 else ""
        for _ in range(more):
            if (name := self._free_name()) is None:
                self._in_trouble("every name that the group's file gives is taken by a node that stops, or never came")
                return
            self.ledger.nodes = [one for one in self.ledger.nodes if one.name != name]
            now = self._now()
            self.ledger.nodes.append(Node(name, name if self.cloud.named else "", "asking", now, now, why=why))
            if not await self._ask(self.ledger.nodes[-1]):
                return

    def _why_more(self, demand: NodeDemand) -> str:
        limits, wait = self.group.limits, f"{demand.waiting} {'waits' if demand.waiting == 1 else 'wait'}"
        if not demand.waiting or demand.nodes < limits.least:
            return f"{limits.least} {'is' if limits.least == 1 else 'are'} on always (least)"
        if not demand.nodes:
            return f"{wait}, and there is no node"
        if not demand.job_seconds:
            return f"{wait}, and nobody knows yet what a job takes"
        begins = last_begins_in(demand.waiting, demand.nodes * limits.slots, demand.job_seconds, demand.ready_seconds)
        return (
            f"{wait}; the last would begin in {begins:.0f} s on the nodes there are ({demand.nodes}), and another "
            f"takes {demand.boot_seconds:.0f} s"
        )

    def _free_name(self) -> str | None:
        taken = {node.name for node in self.ledger.nodes if node.state != "failed"}
        taken |= {node.id for node in self.ledger.nodes if node.state != "failed"}
        numbered = (f"{self.group.name}-{number}" for number in range(1, 2 * self.group.limits.most + len(taken) + 1))
        names = [one for one in (self.group.names or numbered) if one not in taken]
        failed = {node.name for node in self.ledger.nodes}
        return next((one for one in names if one not in failed), next(iter(names), None))

    # -- asking --------------------------------------------------------------------------------------------------

    async def _ask(self, node: Node) -> bool:
        """Ask for a node, which is written down before and after; whether that could be done."""
        node.tried, node.tries = self._now(), node.tries + 1
        self._keep()
        why = node.why if node.tries == 1 else f"it was asked for {node.tries} times"
        total = len(self.ledger.counted) + sum(one.state == "stopping" for one in self.ledger.nodes)
        try:
            await self.cloud.start(node.name, total)
        except VolvoxError as error:
            self._in_trouble(f"node {node.name} cannot be asked for: {error}")
            node.why = str(error)
            return False
        self._asked_here.add(node.name)
        log.info("node %s of group %r was asked for: %s", node.name, self.group.name, why)
        node.become("booting", self._now(), why)
        self._keep()
        return True

    async def _stop(self, node: Node) -> None:
        """Stop a node, unless it was given work meanwhile."""
        node.tried, node.tries, told = self._now(), node.tries + 1, node.why
        self._keep()
        try:
            if why := await self.cloud.leave(node.id):
                await self.cloud.stay(node.id)
                node.become("on", self._now(), f"it was to be stopped, and {why}")
                node.idle = 0.0
                log.info("node %s of group %r goes on: %s", node.id, self.group.name, why)
                return
            await self.cloud.stop(node.id)
        except VolvoxError as error:
            self._in_trouble(f"node {node.id} cannot be stopped: {error}")
            node.why = str(error)
            return
        log.info("node %s of group %r is stopped: %s", node.id, self.group.name, told)

    # -- inside --------------------------------------------------------------------------------------------------

    def _in_trouble(self, why: str) -> None:
        told = re.sub(r"\d+", "", why)
        if told != self._told:
            log.error("node group %r: %s", self.group.name, why)
        self.ledger.trouble, self._told = why, told

    def _keep(self) -> None:
        if (text := self.ledger.as_json()) != self._kept:
            keep(self._home, self.ledger)
            self._kept = text
