"""Whatever is simulated: no rule of the platform is broken, and the figures are what they are called."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volvox.elasticity.result import Result, quantile
from volvox.elasticity.scenario import POLICY_NAMES, Instances, Nodes, Prices, Scenario, Work, at_random
from volvox.elasticity.simulation import simulate

seconds = st.integers(0, 600).map(lambda tenths: tenths / 10)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    arrivals = draw(st.lists(seconds, min_size=1, max_size=25))
    work = tuple(Work(at, draw(st.integers(1, 400)) / 10) for at in sorted(arrivals))
    kept = draw(st.booleans())
    least = draw(st.integers(0, 2))
    instances = Instances(
        kept=kept, start_seconds=draw(seconds), between_seconds=draw(seconds) / 10, least=least if kept else 0,
        most=draw(st.integers(max(1, least), 6)), idle_seconds=draw(seconds), expected_seconds=draw(seconds),
    )  # fmt: skip
    most = draw(st.integers(1, 4))
    on = draw(st.integers(0, most))
    nodes = Nodes(
        least=draw(st.integers(0, most)), most=most, at_start=on, slots=draw(st.integers(1, 3)),
        boot_seconds=draw(seconds), idle_seconds=draw(seconds), policy=draw(st.sampled_from(POLICY_NAMES)),
    )  # fmt: skip
    chosen = None if draw(st.integers(0, 4)) == 0 else nodes
    return Scenario("any", work, instances, draw(seconds) if chosen else 0.0, chosen)


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """How many of these overlap at most; one that ends when another begins does not."""
    now = most = 0
    for _, change in sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans]):
        now += change
        most = max(most, now)
    return most


@settings(max_examples=300, deadline=None)
@given(scenarios())
def test_no_rule_is_broken(scenario: Scenario) -> None:
    result = simulate(scenario)
    assert [job.number for job in result.jobs] == [*range(len(scenario.work))]
    for job, work in zip(result.jobs, scenario.work, strict=True):
        assert job.came == work.at_seconds
        assert job.begun >= job.came
        assert job.run_seconds == pytest.approx(work.run_seconds, abs=1e-5)
    assert most_at_once([(job.begun, job.ended) for job in result.jobs]) <= scenario.instances.most
    assert result.most_instances <= scenario.instances.most
    if scenario.nodes is None:
        return
    assert most_at_once([(node.asked, result.off_at(node)) for node in result.nodes]) <= scenario.nodes.most
    for node in result.nodes:
        there = [job for job in result.jobs if job.node == node.number]
        assert most_at_once([(job.begun, job.ended) for job in there]) <= scenario.nodes.slots
        for job in there:
            assert node.usable is not None
            assert node.usable <= job.begun
            assert node.off is None or job.ended <= node.off


@settings(max_examples=100, deadline=None)
@given(scenarios())
def test_the_same_scenario_gives_the_same_result(scenario: Scenario) -> None:
    assert simulate(scenario) == simulate(scenario)


@settings(max_examples=100, deadline=None)
@given(scenarios(), st.floats(0, 10), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_price_never_costs_less(scenario: Scenario, hour: float, memory: float, more: float) -> None:
    prices = Prices(hour, memory, 0.001, 2_048)
    cheap = simulate(replace(scenario, prices=prices)).cost
    for name in ("node_hour", "gb_second", "request"):
        dear = replace(prices, **{name: getattr(prices, name) + more})
        assert simulate(replace(scenario, prices=dear)).cost >= cheap


@settings(max_examples=100, deadline=None)
@given(scenarios())
def test_nodes_are_paid_at_least_while_jobs_run_on_them(scenario: Scenario) -> None:
    result = simulate(scenario)
    assert 0 <= result.busy_share <= 1 + 1e-9
    if scenario.nodes:
        ran = sum(job.run_seconds for job in result.jobs)
        assert result.node_seconds * scenario.nodes.slots >= ran - 1e-6


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 5), seconds, seconds, st.booleans(),
    st.integers(1, 3),
)  # fmt: skip
def test_more_nodes_never_lengthen_what_came_at_once(
    runs: list[int], most: int, boot: float, pull: float, one_on: bool, slots: int
) -> None:
    work = tuple(Work(0, run / 10) for run in runs)
    mean = sum(runs) / 10 / len(runs)
    nodes = Nodes(most=most, at_start=int(one_on), slots=slots, boot_seconds=boot)
    few = Scenario("burst", work, Instances(expected_seconds=mean), pull, nodes)
    many = replace(few, nodes=replace(nodes, most=most + 1))
    assert simulate(many).makespan_seconds <= simulate(few).makespan_seconds + 1e-6


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 20), st.integers(0, 9))
def test_nodes_that_are_all_on_do_what_a_list_of_free_machines_does(
    runs: list[int], machines: int, pull: int, between: int
) -> None:
    free = [pull] * machines
    begun = []
    for run in runs:
        begun.append(heapq.heappop(free))
        heapq.heappush(free, begun[-1] + run + between)
    work, nodes = tuple(Work(0, run) for run in runs), Nodes(most=machines, at_start=machines, policy="always")
    result = simulate(Scenario("list", work, Instances(between_seconds=between), pull, nodes))
    assert [job.begun for job in result.jobs] == begun


def test_our_policy_never_pays_for_a_node_that_no_job_reaches() -> None:
    for jobs in range(1, 40):
        work = tuple(Work(0, 23.6) for _ in range(jobs))
        nodes = Nodes(most=5, at_start=1, boot_seconds=300, idle_seconds=180)
        result = simulate(Scenario("burst", work, Instances(expected_seconds=23.6), 44, nodes))
        assert {node.number for node in result.nodes} == {job.node for job in result.jobs}


def test_an_instance_that_is_kept_starts_once_and_ends_when_it_was_idle() -> None:
    work = (Work(0, 5), Work(6, 5), Work(200, 5))
    kept = Instances(kept=True, start_seconds=2, most=1, idle_seconds=100, expected_seconds=5)
    result = simulate(Scenario("kept", work, kept, 0, Nodes(most=1, at_start=1, idle_seconds=1_000)))
    assert [job.wait_seconds for job in result.jobs] == [2, 1, 2]
    assert result.starts == 2


def test_a_container_for_each_job_starts_each_time() -> None:
    work = (Work(0, 5), Work(20, 5))
    result = simulate(Scenario("each", work, Instances(start_seconds=2), 0, Nodes(most=1, at_start=1)))
    assert [job.wait_seconds for job in result.jobs] == [2, 2]
    assert result.starts == 2


def test_an_idle_node_is_off_and_boots_again() -> None:
    work = (Work(0, 10), Work(500, 10))
    result = simulate(Scenario("again", work, nodes=Nodes(most=1, at_start=1, boot_seconds=60, idle_seconds=180)))
    first, second = result.nodes
    assert (first.asked, first.off) == (0, 190)
    assert (second.asked, second.ready, second.off) == (500, 560, 750)
    assert [job.wait_seconds for job in result.jobs] == [0, 60]
    assert result.node_seconds == 190 + 250


def test_a_platform_with_room_for_all_lets_nobody_wait_but_for_the_start() -> None:
    work = tuple(Work(0, 13) for _ in range(1_000))
    prices = Prices(gb_second=0.0000166667, request=0.0000002, memory_mb=2_048)
    result = simulate(Scenario("lambda", work, prices=prices))
    assert result.makespan_seconds == 13
    assert result.most_instances == 1_000
    assert result.cost == pytest.approx(0.4333 + 0.0002, abs=1e-4)


def test_cost_is_node_hours_and_memory_and_requests() -> None:
    prices = Prices(node_hour=3.6, gb_second=0.5, request=0.25, memory_mb=512)
    work = (Work(0, 10), Work(0, 10))
    nodes = Nodes(most=1, at_start=1, idle_seconds=80)
    result = simulate(Scenario("cost", work, Instances(start_seconds=1), nodes=nodes, prices=prices))
    assert result.node_seconds == 22 + 80
    assert result.cost == pytest.approx(102 * 0.001 + 22 * 0.5 * 0.5 + 2 * 0.25)


def test_a_policy_that_learns_boots_for_all_until_it_knows_better() -> None:
    work = tuple(Work(at, 5) for at in (0, 0, 0))
    nodes = Nodes(most=3, at_start=1, boot_seconds=100)
    assert len(simulate(Scenario("new", work, Instances(expected_seconds=0), nodes=nodes)).nodes) == 3
    assert len(simulate(Scenario("known", work, Instances(expected_seconds=5), nodes=nodes)).nodes) == 1


def test_arrivals_at_random_are_as_many_an_hour_as_asked_and_the_same_for_a_seed() -> None:
    found = at_random(5_000, 120, 7)
    assert found == at_random(5_000, 120, 7)
    assert found != at_random(5_000, 120, 8)
    assert found == sorted(found)
    assert 5_000 / found[-1] * 3600 == pytest.approx(120, rel=0.1)


def test_quantiles_lie_between_values() -> None:
    assert quantile([1.0], 0.95) == 1
    assert quantile([0.0, 10.0], 0.5) == 5
    assert quantile([0.0, 1.0, 2.0, 3.0, 4.0], 0.95) == pytest.approx(3.8)


def test_figures_for_machines_are_those_of_the_result() -> None:
    result: Result = simulate(Scenario("two", (Work(0, 10), Work(0, 10)), nodes=Nodes(most=1, at_start=1)))
    told = result.values()
    assert told["makespan_seconds"] == 20
    assert told["wait_seconds"] == {"mean": 5, "median": 5, "p95": 9.5, "max": 10}
    assert told["mean_total_seconds"] == 15
    assert told["jobs_per_minute"] == 6


@pytest.mark.soak
def test_a_hundred_thousand_jobs_end() -> None:
    work = tuple(Work(at, 20) for at in at_random(100_000, 36_000, 1))
    nodes = Nodes(most=1_000, boot_seconds=300, idle_seconds=180, slots=1)
    result = simulate(Scenario("many", work, Instances(kept=True, start_seconds=2, expected_seconds=20), 44, nodes))
    assert len(result.jobs) == 100_000
