from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.pools.calibrating import FIRST_SECONDS, LATER_SECONDS, TRIES, announced, next_size, places
from volvox.pools.definition import HERE, Offers, PoolDefinition
from volvox.pools.machine import here
from volvox.pools.needs import Needs
from volvox.pools.placement import PoolState

POOLS = {
    HERE: here(Offers(cpu=2, gpus=0)),
    "local": PoolDefinition(name="local", type="process", offers=Offers(cpu=2, gpus=0)),
    "docker": PoolDefinition(name="docker", type="docker", offers=Offers(cpu=2, gpus=0)),
    "gpu": PoolDefinition(name="gpu", type="kubernetes", offers=Offers(cpu=8, gpus=1), cost_per_hour=3.6),
    "down": PoolDefinition(name="down", type="ecs", offers=Offers(cpu=8, gpus=1)),
}
UP = {name: PoolState(online=name != "down") for name in POOLS}


def test_each_place_that_can_take_it_is_timed_once() -> None:
    assert places(Needs(), POOLS, UP) == [HERE, "docker", "gpu"]
    assert places(Needs(gpus=1), POOLS, UP) == ["gpu"]


@pytest.mark.parametrize(
    ("stated", "timed"), [("docker", ["docker"]), ("local", [HERE]), (HERE, [HERE]), ("down", []), ("auto", None)]
)
def test_a_stated_pool_is_timed_alone(stated: str, timed: list[str] | None) -> None:
    assert places(Needs(), POOLS, UP, stated) == (places(Needs(), POOLS, UP) if timed is None else timed)


def test_what_it_will_do_is_said_with_what_it_costs_and_how_long_it_takes() -> None:
    said = announced("toy", Needs(), POOLS)
    assert "toy is trained up to 3 times on at most 256 of the images" in said
    assert "here, docker, down, gpu (3.60 an hour)" in said
    assert f"at most {(FIRST_SECONDS + (TRIES - 1) * LATER_SECONDS) / 60:.0f} minutes a place" in said
    assert "none fits" in announced("toy", Needs(gpus=8), POOLS)


def test_a_fast_place_gets_more_work_until_its_speed_shows() -> None:
    assert next_size(9.0, 9.0, 1) == 10
    assert next_size(9.0, 10.0, 10) == 90
    assert next_size(9.0, 18.0, 90) is None
    assert next_size(60.0, 60.0, 1) == 2
    assert next_size(60.0, 80.0, 2) is None
    assert next_size(100.0, 100.0, 1) is None, "a slow one has said enough"
    assert next_size(9.0, 9.0, 1, most=1) is None, "there are no more images"


@given(st.floats(0.01, 90), st.floats(1e-6, 90), st.integers(1, 3))
def test_no_training_takes_longer_than_it_may(start: float, each: float, most_tries: int) -> None:
    size: int | None = 1
    first = last = start + each
    for _ in range(most_tries):
        size = next_size(first, last, size)
        if size is None:
            return
        last = start + each * size
        assert last <= LATER_SECONDS
