"""The nodes of a simulation: they boot, fetch the image, give their slots, and are powered off."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Protocol

from volvox.elasticity.clock import Clock, micro, seconds
from volvox.elasticity.policy import POLICIES, NodeDemand, NodeLimits
from volvox.elasticity.result import NodeLife
from volvox.elasticity.scenario import Nodes


class Room(Protocol):
    """Where instances have their slots."""

    def take(self) -> int | None:
        """Number of the node whose slot is taken; None if no slot is free."""
        ...

    def give(self, node: int) -> None:
        """The slot of what was on this node can be taken again."""
        ...

    def leave(self, node: int) -> None:
        """What was on this node has ended."""
        ...

    def free_at(self, time: int) -> None:
        """A slot that is taken becomes free then, for the policy to know."""
        ...

    def decide(self, waiting: int, at_work: int, job_seconds: float, most_instances: int) -> None:
        """Have as many nodes as the policy wants."""
        ...

    def fetch(self) -> None:
        """Jobs wait: nodes that have not got the image fetch it."""
        ...

    def lives(self) -> tuple[NodeLife, ...]:
        """When the nodes were on."""
        ...


class Everywhere:
    """A platform that has room for all instances at once."""

    def take(self) -> int | None:
        return 0

    def give(self, node: int) -> None: ...

    def leave(self, node: int) -> None: ...

    def free_at(self, time: int) -> None: ...

    def decide(self, waiting: int, at_work: int, job_seconds: float, most_instances: int) -> None: ...

    def fetch(self) -> None: ...

    def lives(self) -> tuple[NodeLife, ...]:
        return ()


@dataclass(eq=False, slots=True)
class _Node:
    """A machine; times in microseconds, None: not yet."""

    number: int
    asked: int
    ready: int | None = None
    usable: int | None = None
    off: int | None = None
    at_work: int = 0
    idle_since: int = 0


class Machines:
    """Nodes with slots, as many as the policy of their scenario wants."""

    def __init__(self, clock: Clock, limits: Nodes, pull_seconds: float) -> None:
        """`at_start` of them are on, without the image; all of them where they are always on."""
        self._clock, self._told, self._pull = clock, limits, micro(pull_seconds)
        self._policy = POLICIES[limits.policy]
        self._limits = NodeLimits(limits.least, limits.most, limits.slots, limits.idle_seconds)
        self._nodes: list[_Node] = []
        self._on = 0
        self._bare: list[_Node] = []  # on, without the image, and nobody fetches it
        self._idle: dict[int, _Node] = {}
        self._free: list[int] = []  # a heap: the node of each free slot, so that work gathers on the first ones
        self._next: list[int] = []  # a heap: when slots become free
        for _ in range(limits.most if limits.policy == "always" else limits.at_start):
            self._boot(0)

    def take(self) -> int | None:
        while self._free:
            node = self._nodes[heapq.heappop(self._free)]
            if node.off is None:
                node.at_work += 1
                self._idle.pop(node.number, None)
                return node.number
        return None

    def give(self, node: int) -> None:
        heapq.heappush(self._free, node)

    def leave(self, node: int) -> None:
        left = self._nodes[node]
        left.at_work -= 1
        if not left.at_work:
            self._rest(left)

    def free_at(self, time: int) -> None:
        heapq.heappush(self._next, time)

    def fetch(self) -> None:
        for node in self._bare:
            if node.off is None:
                self._fetch(node)
        self._bare.clear()

    def decide(self, waiting: int, at_work: int, job_seconds: float, most_instances: int) -> None:
        now = self._clock.now
        demand = NodeDemand(
            waiting=waiting, at_work=at_work, nodes=self._on, job_seconds=job_seconds,
            boot_seconds=self._told.boot_seconds + seconds(self._pull), ready_seconds=self._ready_seconds(),
            idle_seconds=tuple(seconds(now - node.idle_since) for node in self._idle.values()),
            most_instances=most_instances,
        )  # fmt: skip
        target = self._policy(demand, self._limits)
        if target < self._on:
            longest = sorted(self._idle.values(), key=lambda node: (node.idle_since, -node.number))
            for node in longest[: self._on - target]:
                self._power_off(node)
        for _ in range(target - self._on):
            self._boot(micro(self._told.boot_seconds))
        if self._idle:
            first = next(iter(self._idle.values()))  # they are in the order in which they fell idle
            self._clock.look(first.idle_since + micro(self._told.idle_seconds))

    def lives(self) -> tuple[NodeLife, ...]:
        return tuple(
            NodeLife(
                node.number, seconds(node.asked), *(_or_none(time) for time in (node.ready, node.usable, node.off))
            )
            for node in self._nodes
        )

    def _boot(self, takes: int) -> None:
        node = _Node(len(self._nodes), self._clock.now)
        self._nodes.append(node)
        self._on += 1
        self.free_at(self._clock.now + takes + self._pull)
        self._clock.at(self._clock.now + takes, lambda: self._ready(node))

    def _ready(self, node: _Node) -> None:
        node.ready = self._clock.now
        self._rest(node)
        if self._pull:
            self._bare.append(node)
        else:
            self._usable(node)

    def _fetch(self, node: _Node) -> None:
        self.free_at(self._clock.now + self._pull)
        self._clock.at(self._clock.now + self._pull, lambda: self._usable(node))

    def _usable(self, node: _Node) -> None:
        if node.off is not None:
            return
        node.usable = self._clock.now
        for _ in range(self._told.slots):
            heapq.heappush(self._free, node.number)

    def _rest(self, node: _Node) -> None:
        node.idle_since = self._clock.now
        self._idle.pop(node.number, None)
        self._idle[node.number] = node

    def _power_off(self, node: _Node) -> None:
        node.off = self._clock.now
        self._on -= 1
        del self._idle[node.number]

    def _ready_seconds(self) -> float:
        while self._next and self._next[0] <= self._clock.now:
            heapq.heappop(self._next)
        while self._free and self._nodes[self._free[0]].off is not None:
            heapq.heappop(self._free)
        return 0.0 if self._free or not self._next else seconds(self._next[0] - self._clock.now)


def _or_none(time: int | None) -> float | None:
    return None if time is None else seconds(time)
