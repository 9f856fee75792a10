"""What keeps real nodes takes the decisions that `volvox simulate` shows: driven with the simulation's time."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volvox.elasticity.clock import Clock, micro, seconds
from volvox.elasticity.machines import Machines
from volvox.elasticity.result import Result
from volvox.elasticity.scenario import Instances, Nodes, Scenario, Work
from volvox.elasticity.simulation import simulate
from volvox.nodes.cloud import Seen
from volvox.nodes.group import Commands, NodeGroup, NodeLimits
from volvox.nodes.keeping import Keeper, Need
from volvox.settings import Home

_EPOCH = 1.0  # a time of 0 means none


class Real(Machines):
    """The machines of a simulation, started and stopped by what keeps real ones.

    It is told no more than is known of real work: when each job began, and what a job takes.
    """

    def __init__(self, clock: Clock, limits: Nodes, pull_seconds: float, home: Home) -> None:
        self._begun: list[float] = []
        self._own = False
        super().__init__(clock, limits, pull_seconds)
        self._names = [f"there-{node.number}" for node in self._nodes]
        group = NodeGroup(
            "g", "made-up", Commands((), (), ()), boot_seconds=limits.boot_seconds, pull_seconds=pull_seconds,
            limits=NodeLimits(limits.least, limits.most, limits.slots, limits.idle_seconds),
            gives_up_seconds=10 * limits.boot_seconds + 1,
        )  # fmt: skip
        self.keeper = Keeper(home, group, TheirCloud(self), now=lambda: _EPOCH + seconds(clock.now))

    def decide(self, waiting: int, at_work: int, job_seconds: float, most_instances: int) -> None:
        now = seconds(self._clock.now)
        self._begun = self._begun[len(self._begun) - at_work :]  # they take the same time, so the first ended first
        done_in = self._begun[0] + job_seconds - now if self._begun else 0.0
        need = Need(waiting + at_work, at_work, job_seconds, max(0.0, done_in), most_instances)
        asyncio.run(self.keeper.once(need))
        for node in self._idle.values():
            self._clock.look(node.idle_since + micro(self._told.idle_seconds))

    def free_at(self, time: int) -> None:
        super().free_at(time)
        if not self._own and time > self._clock.now:
            self._begun.append(seconds(self._clock.now))

    def _boot(self, takes: int) -> None:
        self._own = True
        super()._boot(takes)
        self._own = False

    def _fetch(self, node: object) -> None:
        self._own = True
        super()._fetch(node)  # pyright: ignore[reportArgumentType]
        self._own = False

    # -- for the cloud -------------------------------------------------------------------------------------------

    def seen(self) -> list[Seen]:
        there = [node for node in self._nodes if node.off is None]
        return [
            Seen(self._names[node.number], "booting" if node.ready is None else "on", node.at_work) for node in there
        ]

    def started(self, name: str, total: int) -> None:
        assert total == self._on + 1
        self._names.append(name)
        self._boot(micro(self._told.boot_seconds))

    def stopped(self, name: str) -> None:
        (found,) = (one for one in self._nodes if self._names[one.number] == name and one.off is None)
        self._power_off(found)


class TheirCloud:
    """What starts and stops the machines of a simulation."""

    named, answers_seconds = True, 0.0

    def __init__(self, machines: Real) -> None:
        self._machines = machines

    async def nodes(self) -> list[Seen]:
        return self._machines.seen()

    async def start(self, name: str, total: int) -> None:
        self._machines.started(name, total)

    async def leave(self, node: str) -> str:
        return ""

    async def stay(self, node: str) -> None: ...

    async def stop(self, node: str) -> None:
        self._machines.stopped(node)

    async def close(self) -> None: ...


def kept(scenario: Scenario) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        return simulate(scenario, machines=lambda clock, told, pull: Real(clock, told, pull, home))


def compared(scenario: Scenario) -> Result:
    simulated, real = simulate(scenario), kept(scenario)
    assert real.nodes == simulated.nodes
    assert real.jobs == simulated.jobs
    return real


whole = st.integers(0, 90)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Any arrivals of jobs that take the same time, on nodes that boot and rest for whole seconds."""
    run = draw(st.integers(1, 60))
    work = tuple(Work(at, run) for at in sorted(draw(st.lists(st.integers(0, 400), min_size=1, max_size=20))))
    is_kept = draw(st.booleans())
    most = draw(st.integers(1, 4))
    instances = Instances(
        kept=is_kept, start_seconds=0 if is_kept else draw(st.integers(0, 20)), most=draw(st.integers(1, 8)),
        idle_seconds=draw(whole), expected_seconds=draw(st.sampled_from([0, run])),
    )  # fmt: skip
    nodes = Nodes(
        least=draw(st.integers(0, most)), most=most, at_start=draw(st.integers(0, most)), slots=draw(st.integers(1, 3)),
        boot_seconds=draw(st.integers(1, 120)), idle_seconds=draw(st.integers(1, 90)),
    )  # fmt: skip
    return Scenario("any", work, instances, 0.0, nodes)


@settings(max_examples=60, deadline=None)
@given(scenarios())
def test_the_same_nodes_are_started_and_stopped_at_the_same_times(scenario: Scenario) -> None:
    compared(scenario)


@pytest.mark.parametrize(("jobs", "nodes"), [(10, 1), (13, 1), (14, 2), (20, 2)])
def test_the_papers_second_node_comes_only_where_it_gains(jobs: int, nodes: int) -> None:
    """OSCAR's cluster: one node is on, the other boots in five minutes, and each fetches the image for 44 s."""
    scenario = Scenario(
        "oscar", tuple(Work(0, 24) for _ in range(jobs)), Instances(expected_seconds=24), 44.0,
        Nodes(least=0, most=2, at_start=1, slots=1, boot_seconds=300, idle_seconds=180),
    )  # fmt: skip
    assert len(compared(scenario).nodes) == nodes
