"""Which runtime: pure, with reasons."""

from __future__ import annotations

import heapq
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.functions.definition import Function
from volvox.pricing.charges import Charge
from volvox.pricing.choice import Limits, Place, as_values, choose, lacks, predict, queue_seconds

LAMBDA = Limits(10240, 6, 0, 10240, 10240, 6, 900)
CHEAP = Place("cheap", charge=Charge(second=0.001), cold_seconds=100)
QUICK = Place("quick", charge=Charge(second=0.1), cold_seconds=1)


def function(**more: Any) -> Function:
    return Function.model_validate({"name": "f", "model": "digits", **more})


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"resources": {"memory_mb": 10240}}, ()),
        ({"resources": {"memory_mb": 10241}}, ("memory over 10,240 MB (needs 10,241)",)),
        ({"timeout_seconds": 901}, ("calls over 15 minutes (may take 15.0167)",)),
        ({"placement": {"call_seconds": 1800}}, ("calls over 15 minutes (may take 30)",)),
        ({"placement": {"image_mb": 12000}}, ("image over 10,240 MB (it has 12,000)",)),
        ({"placement": {"payload_mb": 7}}, ("payload over 6 MB (it has 7)",)),
        ({"resources": {"gpus": 1}}, ("no GPU (needs 1)",)),
        ({"resources": {"storage_mb": 20000}}, ("disk over 10,240 MB (needs 20,000)",)),
        ({"resources": {"cpu": 8}}, ("more than 6 CPU (needs 8)",)),
    ],
)
def test_what_does_not_fit_lambda(asked: dict[str, Any], told: tuple[str, ...]) -> None:
    assert lacks(function(**asked), LAMBDA) == told


def test_where_there_are_no_limits_everything_fits() -> None:
    large = function(resources={"memory_mb": 10**9, "cpu": 999, "gpus": 8}, timeout_seconds=10**6)
    assert lacks(large, Limits()) == ()


def test_fewer_gpus_than_needed_are_told() -> None:
    assert lacks(function(resources={"gpus": 4}), Limits(gpus=1)) == ("1 GPU (needs 4)",)


@pytest.mark.parametrize(
    ("prefer", "runtime"), [("cheapest", "cheap"), ("fastest", "quick"), (0, "cheap"), (1, "quick"), (0.3, "cheap"),
                            (0.7, "quick")],
)  # fmt: skip
def test_the_owners_preference_decides(prefer: Any, runtime: str) -> None:
    choice = choose(function(placement={"prefer": prefer, "call_seconds": 10}), [CHEAP, QUICK])
    assert choice.runtime == runtime
    assert choice.candidates[0].place.runtime == runtime


def test_of_equally_good_ones_the_first_is_taken() -> None:
    assert choose(function(), [Place("a"), Place("b")]).runtime == "a"
    assert choose(function(), [Place("b"), Place("a")]).runtime == "b"


def test_what_does_not_fit_or_is_closed_is_never_chosen_and_says_why() -> None:
    places = [Place("small", Limits(memory_mb=10)), Place("away", closed="it is not set up here"), QUICK,
              Place("never", cannot="runs models alone")]  # fmt: skip
    choice = choose(function(resources={"memory_mb": 100}), places)
    assert choice.runtime == "quick"
    assert choice.reasons == (
        "quick: fits; wait 1.0 s, answer after 11.0 s, 1.1 a call",
        "away: fits, but it is not set up here; wait 0.0 s, answer after 10.0 s, costs nothing",
        "small: does not fit: memory over 10 MB (needs 100)",
        "never: runs models alone",
    )


def test_where_nothing_fits_there_is_no_choice() -> None:
    choice = choose(function(resources={"memory_mb": 100}), [Place("small", Limits(memory_mb=10))])
    assert choice.runtime == ""
    assert choice.chosen is None
    assert as_values(choice)["runtime"] is None


def test_what_cannot_keep_up_is_no_choice_while_another_can() -> None:
    slow = function(placement={"call_seconds": 60, "calls_per_hour": 120}, scaling={"max_scale": 2})
    choice = choose(slow, [CHEAP])
    assert "2.0 calls would be under way at a time and max_scale allows 2" in choice.reasons[0]
    assert as_values(choice)["candidates"][0]["wait_seconds"] is None  # pyright: ignore[reportIndexIssue]


def test_a_call_that_nobody_described_is_assumed_and_that_is_said() -> None:
    assert choose(function(), [QUICK]).assumed
    assert choose(function(), [QUICK]).call_seconds == 10
    assert not choose(function(placement={"call_seconds": 3}), [QUICK]).assumed


def test_a_prediction_is_by_its_formula() -> None:
    place = Place("p", charge=Charge(second=0.01, idle_second=0.001, call=0.5), cold_seconds=20, keep_seconds=100)
    asked = function(placement={"call_seconds": 5, "calls_per_hour": 36}, scaling={"max_scale": 100})
    cold = math.exp(-1)
    told = predict(asked, place, 5)
    assert told.cold_share == pytest.approx(cold)
    assert told.wait_seconds == pytest.approx(20 * cold, abs=1e-6)
    assert told.cost == pytest.approx((5 + 20 * cold) * 0.01 + 0.5 + 100 * (1 - cold) * 0.001)


def test_rare_calls_are_cold_and_pay_all_the_idle_time() -> None:
    place = Place("p", charge=Charge(second=0.01, idle_second=0.001), cold_seconds=20, keep_seconds=100)
    told = predict(function(), place, 5)
    assert (told.cold_share, told.wait_seconds) == (1, 20)
    assert told.cost == pytest.approx(25 * 0.01 + 100 * 0.001)


def test_an_instance_that_is_always_warm_is_paid_all_the_time() -> None:
    place = Place("p", charge=Charge(second=0.001, idle_second=0.001), cold_seconds=20, keep_seconds=100)
    warm = function(scaling={"min_scale": 1}, placement={"calls_per_hour": 60})
    told = predict(warm, place, 5)
    assert told.cold_share == 0
    assert told.wait_seconds < 1
    assert told.cost == pytest.approx(0.001 * 60)


@given(st.floats(1, 3000), st.floats(1, 3000), st.floats(0.1, 10), st.floats(1, 500))
def test_more_calls_find_fewer_cold_instances_and_pay_less_idle_time(
    rate: float, more: float, call: float, keep: float
) -> None:
    place = Place("p", charge=Charge(idle_second=1.0), cold_seconds=20, keep_seconds=keep)
    few, many = (
        predict(function(placement={"calls_per_hour": calls}, scaling={"max_scale": 1000}), place, call)
        for calls in (rate, rate + more)
    )
    assert many.cold_share <= few.cold_share
    assert many.cost <= few.cost + 1e-9


@given(st.floats(0.001, 5), st.floats(0, 5), st.floats(0.1, 20), st.integers(1, 20))
def test_a_higher_price_never_makes_a_runtime_more_likely(price: float, more: float, cold: float, other: int) -> None:
    rival = Place("rival", charge=Charge(second=0.5), cold_seconds=other)
    cheap, dear = (Place("p", charge=Charge(second=each), cold_seconds=cold) for each in (price, price + more))
    if choose(function(), [dear, rival]).runtime == "p":
        assert choose(function(), [cheap, rival]).runtime == "p"


def test_calls_wait_as_in_a_queue_that_is_played_through() -> None:
    source, rate, seconds, servers = random.Random(5), 0.15, 12.0, 3
    free, now, waited = [0.0] * servers, 0.0, 0.0
    for _ in range(200_000):
        now += source.expovariate(rate)
        begin = max(now, heapq.heappop(free))
        waited += begin - now
        heapq.heappush(free, begin + source.expovariate(1 / seconds))
    assert queue_seconds(rate, seconds, servers) == pytest.approx(waited / 200_000, rel=0.05)


def test_a_queue_without_calls_is_empty_and_one_with_too_many_never_ends() -> None:
    assert queue_seconds(0, 10, 1) == 0
    assert queue_seconds(0.1, 10, 1) == math.inf
    assert queue_seconds(0.05, 10, 1) == pytest.approx(10)  # half of the time busy: it waits for one on average
    assert queue_seconds(900, 1, 1000) < 0.01
