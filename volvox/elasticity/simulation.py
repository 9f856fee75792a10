"""Play a scenario through, event by event, with the policy that also decides for real."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, replace

from volvox.elasticity.clock import Clock, micro, seconds
from volvox.elasticity.machines import Everywhere, Machines, Room
from volvox.elasticity.policy import JOB_WEIGHT, Demand, learned, wanted
from volvox.elasticity.result import Done, Result
from volvox.elasticity.scenario import PolicyName, Scenario
from volvox.functions.definition import Scaling


def simulate(scenario: Scenario, policy: PolicyName | None = None) -> Result:
    """What becomes of the jobs of a scenario, of its nodes, and what it costs; the same each time.

    Args:
        scenario: What to play through.
        policy: Who decides about nodes, instead of the one that the scenario names.
    """
    if policy is not None and scenario.nodes is not None:
        scenario = replace(scenario, nodes=replace(scenario.nodes, policy=policy))
    return _Simulation(scenario).play()


@dataclass(eq=False, slots=True)
class _Instance:
    """One that is kept; `node` is whose slot it has."""

    number: int
    node: int
    ended: bool = False


class _Simulation:
    """The state at one moment."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario, self._told = scenario, scenario.instances
        self._clock = Clock()
        self._room: Room = Everywhere()
        if scenario.nodes is not None:
            self._room = Machines(self._clock, scenario.nodes, scenario.pull_seconds)
        self._start, self._between = micro(self._told.start_seconds), micro(self._told.between_seconds)
        self._scaling = Scaling.model_construct(
            min_scale=self._told.least, max_scale=self._told.most, idle_seconds=self._told.idle_seconds,
            warm=(), concurrency=1, batch=1,
        )  # fmt: skip
        self._waiting: deque[int] = deque()
        self._at_work = 0
        self._there = 0  # instances; where none is kept, jobs that have a slot
        self._starts = 0
        self._most = 0
        self._instances: list[_Instance] = []
        self._ready: list[int] = []  # a heap: instances that have nothing to do, the first ones first
        self._idle_since: int | None = None  # None: instances have all the work that they can do
        self._job_seconds = self._told.expected_seconds
        self._done: list[Done] = []

    def play(self) -> Result:
        for index, one in enumerate(self._scenario.work):
            self._clock.at(micro(one.at_seconds), lambda index=index: self._waiting.append(index))
        for _ in self._clock.moments():
            self._decide()
        if len(self._done) != len(self._scenario.work):
            raise AssertionError(f"{len(self._done)} of {len(self._scenario.work)} jobs ended, and nothing happens")
        jobs = tuple(sorted(self._done, key=lambda one: one.number))
        return Result(self._scenario, jobs, self._room.lives(), starts=self._starts, most_instances=self._most)

    def _decide(self) -> None:
        if self._waiting:
            self._room.fetch()
        if self._told.kept:
            self._give_out()
            self._scale()
        else:
            self._start_containers()
        self._most = max(self._most, self._there)
        self._room.decide(len(self._waiting), self._at_work, self._slot_seconds(), self._told.most)

    # -- a container for each job --------------------------------------------------------------------------------

    def _start_containers(self) -> None:
        while self._waiting and self._there < self._told.most and (node := self._room.take()) is not None:
            self._there += 1
            self._starts += 1
            begins = self._clock.now + self._start
            free = self._begin(self._waiting.popleft(), node, begins)
            self._clock.at(free, lambda node=node: self._give_back(node))

    def _give_back(self, node: int) -> None:
        self._there -= 1
        self._room.give(node)

    # -- instances that are kept ---------------------------------------------------------------------------------

    def _give_out(self) -> None:
        while self._waiting and self._ready:
            instance = self._instances[heapq.heappop(self._ready)]
            if not instance.ended:
                free = self._begin(self._waiting.popleft(), instance.node, self._clock.now)
                self._clock.at(free, lambda one=instance: heapq.heappush(self._ready, one.number))

    def _scale(self) -> None:
        if self._waiting or self._at_work >= max(1, self._there):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = self._clock.now
        idle = 0.0 if self._idle_since is None else seconds(self._clock.now - self._idle_since)
        target = wanted(
            Demand(
                waiting=len(self._waiting), at_work=self._at_work, instances=self._there, idle_seconds=idle,
                job_seconds=self._job_seconds, start_seconds=self._told.start_seconds,
            ),
            self._scaling,
        )  # fmt: skip
        while self._there < target and (node := self._room.take()) is not None:
            instance = _Instance(len(self._instances), node)
            self._instances.append(instance)
            self._there += 1
            self._starts += 1
            ready = self._clock.now + self._start
            self._room.free_at(ready)
            self._clock.at(ready, lambda one=instance: heapq.heappush(self._ready, one.number))
        if self._there > target:
            for number in sorted(self._ready, reverse=True)[: self._there - target]:
                self._end(self._instances[number])
        if self._idle_since is not None:
            self._clock.look(self._idle_since + micro(self._told.idle_seconds))

    def _end(self, instance: _Instance) -> None:
        instance.ended = True
        self._there -= 1
        self._room.give(instance.node)
        self._room.leave(instance.node)

    # -- jobs ----------------------------------------------------------------------------------------------------

    def _begin(self, index: int, node: int, begins: int) -> int:
        """A job has its slot and begins then; when its slot is free again."""
        work = self._scenario.work[index]
        ends = begins + micro(work.run_seconds)
        self._at_work += 1
        self._clock.at(ends, lambda: self._ended(Done(index, work.at_seconds, seconds(begins), seconds(ends), node)))
        free = max(self._clock.now, ends + self._between)
        self._room.free_at(free)
        return free

    def _ended(self, job: Done) -> None:
        self._at_work -= 1
        self._done.append(job)
        self._job_seconds = learned(self._job_seconds, job.run_seconds, JOB_WEIGHT)
        if not self._told.kept:
            self._room.leave(job.node)

    def _slot_seconds(self) -> float:
        """How long a job is thought to take its slot; 0: nobody knows."""
        if not self._job_seconds:
            return 0.0
        return max(0.0, self._job_seconds + self._told.between_seconds) + (
            0.0 if self._told.kept else self._told.start_seconds
        )
