"""The policy alone: numbers in, a number out."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from volvox.dispatch import dispatcher
from volvox.elasticity import machines, policy, simulation
from volvox.elasticity.policy import Demand, NodeDemand, NodeLimits, eager_nodes, wanted, wanted_nodes
from volvox.functions.definition import Scaling

counts = st.integers(0, 500)
times = st.floats(0, 5_000, allow_nan=False)


def test_the_dispatcher_and_the_simulation_ask_the_same_function() -> None:
    assert dispatcher.wanted is policy.wanted
    assert simulation.wanted is policy.wanted
    assert machines.POLICIES["needed"] is policy.wanted_nodes


@pytest.mark.parametrize(
    ("demand", "scaling", "instances"),
    [
        (Demand(0, 0, 0), Scaling(), 0),
        (Demand(1, 0, 0), Scaling(max_scale=4), 1),
        (Demand(0, 0, 0), Scaling(min_scale=2, max_scale=4), 2),
        (Demand(0, 0, 0, warm=True), Scaling(), 1),
        # Ten jobs of 1 s: with five instances the last begins in 2 s, when a sixth would only be ready.
        (Demand(10, 1, 1, job_seconds=1, start_seconds=2), Scaling(max_scale=8, batch=1), 5),
        (Demand(10, 1, 1, job_seconds=1, start_seconds=20), Scaling(max_scale=8, batch=1), 1),
        (Demand(10, 1, 1), Scaling(max_scale=8, batch=1), 8),
        (Demand(10, 1, 1), Scaling(max_scale=8, batch=16), 1),
        (Demand(0, 0, 3, idle_seconds=299), Scaling(max_scale=4), 3),
        (Demand(0, 0, 3, idle_seconds=300), Scaling(max_scale=4), 0),
        (Demand(0, 1, 3, idle_seconds=300), Scaling(max_scale=4, batch=1), 1),
    ],
)
def test_instances_that_are_wanted(demand: Demand, scaling: Scaling, instances: int) -> None:
    assert wanted(demand, scaling) == instances


@given(counts, counts, st.integers(0, 50), times, times, times, st.integers(0, 5), st.integers(5, 40))
def test_instances_stay_within_their_limits(
    waiting: int, at_work: int, there: int, idle: float, job: float, start: float, least: int, most: int
) -> None:
    scaling = Scaling(min_scale=least, max_scale=most, batch=1)
    assert least <= wanted(Demand(waiting, at_work, there, idle, job, start), scaling) <= most


@given(st.integers(0, 300), st.integers(0, 60), times, times, st.integers(1, 80))
def test_as_many_instances_as_one_after_the_other_would_still_help(
    waiting: int, there: int, job: float, start: float, most: int
) -> None:
    assume(all(abs(waiting * job / number - start) > 1e-6 for number in range(1, most + 1)))  # rounding decides these
    target = max(1, there)
    while target < min(waiting, most) and (not job or waiting * job / target > start):
        target += 1
    demand = Demand(waiting, 0, there, job_seconds=job, start_seconds=start)
    assert wanted(demand, Scaling(max_scale=most, batch=1)) == min(target if waiting else there, most)


@given(st.integers(1, 500), st.integers(1, 40), times, times)
def test_instances_at_work_are_never_ended(at_work: int, most: int, idle: float, job: float) -> None:
    there = min(at_work, most)
    assert wanted(Demand(0, at_work, there, idle, job), Scaling(max_scale=most, batch=1)) >= there


def paper(jobs: int) -> NodeDemand:
    """OSCAR's experiment with so many jobs, once the first has its slot: it begins after the pull of 44 s."""
    return NodeDemand(
        waiting=jobs - 1, at_work=1, nodes=1, job_seconds=23.6, boot_seconds=300 + 44, ready_seconds=44 + 23.6
    )


@pytest.mark.parametrize(("jobs", "nodes"), [(1, 1), (10, 1), (12, 1), (13, 1), (14, 2), (20, 2), (100, 2)])
def test_a_second_node_is_booted_only_when_it_comes_in_time(jobs: int, nodes: int) -> None:
    assert wanted_nodes(paper(jobs), NodeLimits(most=2)) == nodes
    assert eager_nodes(paper(jobs), NodeLimits(most=2)) == min(jobs, 2)


def test_many_jobs_boot_as_many_nodes_as_share_them_in_time() -> None:
    # 100 s of boot against 999 s of work: with ten nodes each would begin its last job after just these 100 s.
    demand = NodeDemand(waiting=1_000, at_work=0, nodes=1, job_seconds=1, boot_seconds=100)
    assert wanted_nodes(demand, NodeLimits(most=100)) == 10


def test_where_nobody_knows_what_a_job_takes_there_is_a_node_for_each() -> None:
    assert wanted_nodes(NodeDemand(7, 0, 0, boot_seconds=300), NodeLimits(most=5, slots=2)) == 4


def test_no_more_nodes_than_instances_may_fill() -> None:
    assert wanted_nodes(NodeDemand(70, 0, 0, most_instances=3), NodeLimits(most=50, slots=2)) == 2


def test_idle_nodes_are_powered_off_after_their_time_and_not_below_the_least() -> None:
    idle = NodeDemand(0, 1, 4, idle_seconds=(200.0, 180.0, 20.0))
    assert wanted_nodes(idle, NodeLimits(most=4, idle_seconds=180)) == 2
    assert wanted_nodes(idle, NodeLimits(least=3, most=4, idle_seconds=180)) == 3


@given(
    counts, counts, st.integers(0, 30), times, times, times, st.lists(times, max_size=30), st.integers(0, 9),
    st.integers(9, 60), st.integers(1, 8),
)  # fmt: skip
def test_nodes_stay_within_their_limits_and_those_at_work_stay_on(
    waiting: int, at_work: int, nodes: int, job: float, boot: float, ready: float, idle: list[float], least: int,
    most: int, slots: int,
) -> None:  # fmt: skip
    idle, nodes = idle[:nodes], min(nodes, most)
    limits = NodeLimits(least, most, slots, idle_seconds=100)
    demand = NodeDemand(waiting, at_work, nodes, job, boot, ready, tuple(idle))
    target = wanted_nodes(demand, limits)
    assert least <= target <= most
    assert target >= min(nodes - sum(seconds >= 100 for seconds in idle), most)


@given(st.integers(1, 500), st.floats(0.1, 100), times, st.integers(1, 20))
def test_a_slower_boot_never_boots_more_nodes(waiting: int, job: float, boot: float, more: int) -> None:
    limits = NodeLimits(most=50)
    slow = NodeDemand(waiting, 0, 1, job, boot + more)
    assert wanted_nodes(slow, limits) <= wanted_nodes(NodeDemand(waiting, 0, 1, job, boot), limits)


def test_the_last_of_those_that_wait_begins_after_the_others() -> None:
    assert policy.last_begins_in(0, 2, 10, 5) == 0
    assert policy.last_begins_in(1, 2, 10, 5) == 5
    assert policy.last_begins_in(5, 2, 10, 5) == 25


def test_the_first_time_that_is_seen_is_believed_and_later_ones_are_smoothed() -> None:
    first = policy.learned(0.0, 10.0, policy.JOB_WEIGHT)
    assert first == 10
    assert math.isclose(policy.learned(first, 20.0, policy.JOB_WEIGHT), 12)
