from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.errors import NoPoolFits, NotFound, PoolDown, VolvoxError
from volvox.pools.definition import HERE, Offers, PoolDefinition
from volvox.pools.machine import here
from volvox.pools.needs import Needs
from volvox.pools.placement import PoolState, candidates, lacks, place

UP = PoolState(online=True)
GPU = Offers(cpu=8, memory_mb=32000, gpus=1, gpu_memory_mb=24000, gpu_compute_capability=8.6)
PLAIN = Offers(cpu=2, memory_mb=4000, gpus=0)


def pool(name: str, offers: Offers = PLAIN, **told: object) -> PoolDefinition:
    return PoolDefinition.model_validate({"name": name, "type": "docker", "offers": offers, **told})


def pools(*given: PoolDefinition) -> dict[str, PoolDefinition]:
    return {one.name: one for one in given}


def test_the_reasons_are_in_plain_words() -> None:
    found = pools(
        pool("kubernetes-gpu", GPU, startup_seconds=6, cost_per_hour=0.9), pool("docker"), here(PLAIN),
        pool("spare", GPU), pool("off", GPU, enabled=False), pool("unknown", GPU),
    )  # fmt: skip
    states = {
        "kubernetes-gpu": PoolState(online=True, queued=1, running=2, limit=2), "docker": UP,
        "spare": PoolState(online=False),
    }  # fmt: skip
    chosen = place(Needs(gpus=1), found, states)
    assert chosen.pool == "kubernetes-gpu"
    assert not chosen.stated
    assert chosen.reasons[0] == "kubernetes-gpu: fits, 1 waiting, about 6 s to start, 0.90/h"
    assert set(chosen.reasons[1:]) == {
        "docker: no GPU (needs 1)",
        "here: no GPU (needs 1)",
        "spare: fits, but its worker is down; `volvox up` starts it, and `volvox pools check spare` finds out why not",
        "off: fits, but it is off; `volvox pools enable off` switches it on",
        "unknown: fits, but the Prefect server does not know it; `volvox apply` tells it",
    }


def test_a_free_place_goes_before_a_quick_start_and_that_before_a_low_price() -> None:
    busy = PoolState(online=True, running=2, limit=2)
    quick, slow = pool("quick", startup_seconds=1, cost_per_hour=9), pool("slow", startup_seconds=60)
    assert place(Needs(), pools(quick, slow), {"quick": busy, "slow": UP}).pool == "slow"
    assert place(Needs(), pools(quick, slow), {"quick": UP, "slow": UP}).pool == "quick"
    cheap = pool("zzz-cheap", startup_seconds=1, cost_per_hour=1)
    assert place(Needs(), pools(quick, cheap), {"quick": UP, "zzz-cheap": UP}).pool == "zzz-cheap"


def test_the_wait_is_counted_in_lengths_of_a_run() -> None:
    assert PoolState(online=True, running=1, limit=2).expected_wait == 0
    assert PoolState(online=True, running=2, limit=2).expected_wait == 0.5
    assert PoolState(online=True, running=2, queued=3, limit=2).expected_wait == 2
    assert PoolState(online=True, running=50, queued=50).expected_wait == 0
    assert PoolState(online=True, running=1, queued=1, limit=4).free == 2


def test_a_stated_pool_goes_before_a_better_one() -> None:
    found = pools(here(PLAIN), pool("docker"))
    chosen = place(Needs(), found, {"docker": UP}, stated="docker")
    assert (chosen.pool, chosen.stated) == ("docker", True)
    assert chosen.reasons[0].startswith("docker: fits")
    assert place(Needs(), found, {"docker": UP}).pool == HERE


def test_a_stated_pool_must_exist() -> None:
    with pytest.raises(NotFound, match="there is no pool 'dokcer', did you mean 'docker'"):
        place(Needs(), pools(pool("docker"), here(PLAIN)), {"docker": UP}, stated="dokcer")


def test_a_stated_pool_must_have_what_is_needed() -> None:
    with pytest.raises(NoPoolFits) as caught:
        place(Needs(gpus=1), pools(pool("docker"), pool("gpu", GPU)), {"docker": UP, "gpu": UP}, stated="docker")
    assert str(caught.value) == "pool 'docker' cannot take this run: it has no GPU (needs 1); gpu would fit"
    assert caught.value.exit_code == 2


def test_a_stated_pool_whose_worker_is_down_is_told_at_once() -> None:
    with pytest.raises(PoolDown, match="'docker' cannot take this run: its worker is down; `volvox up` starts it"):
        place(Needs(), pools(pool("docker")), {"docker": PoolState(online=False)}, stated="docker")
    with pytest.raises(PoolDown, match="it is paused; `prefect work-pool resume docker`"):
        place(Needs(), pools(pool("docker")), {"docker": PoolState(online=False, paused=True)}, stated="docker")


def test_a_pool_whose_worker_is_down_is_never_chosen() -> None:
    found = pools(pool("a", GPU), pool("b", GPU, startup_seconds=500, cost_per_hour=50))
    assert place(Needs(), found, {"a": PoolState(online=False), "b": UP}).pool == "b"
    with pytest.raises(PoolDown, match="no pool can take this run now: a: fits, but its worker is down"):
        place(Needs(), found, {"a": PoolState(online=False)})


def test_where_nothing_fits_the_nearest_is_told() -> None:
    found = pools(pool("docker"), pool("gpu", GPU), here(PLAIN))
    with pytest.raises(NoPoolFits) as caught:
        place(Needs(gpus=1, gpu_memory_mb=40000), found, {"docker": UP, "gpu": UP})
    assert str(caught.value) == (
        "no pool fits 1 GPU, 40000 MB a GPU; the nearest is gpu, which has 24000 MB of GPU memory (needs 40000); "
        "ask for less, or add a pool (`volvox pools`)"
    )
    assert caught.value.reasons[0].startswith("gpu: ")
    assert len(caught.value.reasons) == 3


def test_a_pool_that_is_off_is_named_where_only_that_fits() -> None:
    found = pools(here(PLAIN), pool("gpu", GPU, enabled=False))
    with pytest.raises(NoPoolFits, match="no pool that is on fits 1 GPU; gpu would; `volvox pools enable gpu`"):
        place(Needs(gpus=1), found, {})


def test_no_pool_at_all_is_told() -> None:
    with pytest.raises(NoPoolFits, match="no pool at all"):
        place(Needs(), {}, {})


def test_what_a_gpu_must_be_matters_only_where_one_is_asked_for() -> None:
    assert lacks(Needs(gpu_memory_mb=8000, gpu_compute_capability=7.5), PLAIN) == {}
    assert set(lacks(Needs(gpus=1, gpu_compute_capability=9.0, cpu=16), GPU)) == {"gpu_compute_capability", "cpu"}


# -- what holds for all pools ---------------------------------------------------------------------------------------

amounts = st.one_of(st.none(), st.integers(1, 8))
offers = st.builds(
    Offers, cpu=amounts, memory_mb=amounts, gpus=st.one_of(st.none(), st.integers(0, 4)), gpu_memory_mb=amounts,
    gpu_compute_capability=amounts, storage_mb=amounts,
)  # fmt: skip
needs = st.builds(Needs, **{name: st.integers(0, 8) for name in Needs.model_fields})
states = st.builds(
    PoolState, online=st.booleans(), queued=st.integers(0, 5), running=st.integers(0, 5),
    limit=st.one_of(st.none(), st.integers(1, 4)), paused=st.just(False),
)  # fmt: skip


@st.composite
def situations(draw: st.DrawFn) -> tuple[Needs, dict[str, PoolDefinition], dict[str, PoolState]]:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True))
    made = pools(
        *(
            pool(name, draw(offers), startup_seconds=draw(st.integers(0, 9)), cost_per_hour=draw(st.integers(0, 3)),
                 enabled=draw(st.booleans()))
            for name in names
        )
    )  # fmt: skip
    return draw(needs), made, {name: draw(states) for name in names}


def fits(asked: Needs, offered: Offers) -> bool:
    """The rule again, as plainly as it can be said."""
    gpu = {"gpus", "gpu_memory_mb", "gpu_compute_capability"}
    names = set(Needs.model_fields) - (set() if asked.gpus else gpu)
    return all(getattr(offered, name) is None or getattr(asked, name) <= getattr(offered, name)
               for name in names)  # fmt: skip


def usable(asked: Needs, one: PoolDefinition, state: PoolState) -> bool:
    return one.enabled and state.online and state.exists and fits(asked, one.offers)


@given(situations())
def test_the_choice_is_usable_and_nothing_usable_is_better(situation) -> None:
    asked, found, now = situation
    good = [name for name, one in found.items() if usable(asked, one, now[name])]
    try:
        chosen = place(asked, found, now)
    except VolvoxError as error:
        assert not good
        fitting = [one for one in found.values() if fits(asked, one.offers)]
        assert isinstance(error, PoolDown) == any(one.enabled for one in fitting)
        return
    assert chosen.pool in good

    def order(name: str) -> tuple[float, float, float]:
        return now[name].expected_wait, found[name].startup_seconds, found[name].cost_per_hour

    assert all(order(chosen.pool) <= order(name) for name in good)


@given(situations())
def test_every_pool_has_its_reason_and_the_chosen_one_is_first(situation) -> None:
    asked, found, now = situation
    try:
        chosen = place(asked, found, now)
    except NoPoolFits as error:
        assert len(error.reasons) == len(found)
        return
    except PoolDown:
        return
    assert len(chosen.reasons) == len(found)
    assert {reason.partition(":")[0] for reason in chosen.reasons} == set(found)
    assert chosen.reasons[0].startswith(f"{chosen.pool}: fits")
    assert {one.pool for one in chosen.candidates if one.usable} == {
        name for name, one in found.items() if usable(asked, one, now[name])
    }


@given(situations(), st.randoms(use_true_random=False))
def test_the_order_in_which_pools_are_given_does_not_matter(situation, random) -> None:
    asked, found, now = situation
    names = list(found)
    random.shuffle(names)
    assert candidates(asked, found, now) == candidates(asked, {name: found[name] for name in names}, now)


@given(situations())
def test_more_waiting_never_makes_a_pool_the_choice(situation) -> None:
    asked, found, now = situation
    try:
        chosen = place(asked, found, now).pool
    except VolvoxError:
        return
    others = {name for name in found if name != chosen}
    for name in others:
        fuller = {**now, name: dataclasses.replace(now[name], queued=now[name].queued + 3)}
        assert place(asked, found, fuller).pool == chosen


@given(situations())
def test_stating_the_choice_changes_nothing_but_that_it_is_stated(situation) -> None:
    asked, found, now = situation
    try:
        free = place(asked, found, now)
    except VolvoxError:
        return
    assert place(asked, found, now, stated=free.pool) == dataclasses.replace(free, stated=True)


@given(needs, offers)
def test_what_lacks_nothing_fits_and_what_fits_lacks_nothing(asked, offered) -> None:
    found = lacks(asked, offered)
    assert (not found) == fits(asked, offered)
    assert all(0 < part <= 1 for _, part in found.values())
