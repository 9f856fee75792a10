from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.errors import NotFound
from volvox.pools.cost import EarlierRun, Training, compared, earlier_runs, estimate, forecasts, foreseen
from volvox.pools.definition import HERE, Offers, PoolDefinition
from volvox.pools.machine import here
from volvox.pools.needs import Needs
from volvox.pools.placement import PoolState
from volvox.records import Dataset, TrainedModel

UP = PoolState(online=True)
DATASET = Dataset(
    name="lake", source="lake", classes=("a", "b"), counts={"train": (60, 40), "val": (5, 5), "test": (5, 5)},
    content="c", learning_tree="l", held_out_tree="h", manifest_object="m",
)  # fmt: skip


def run(seconds: float = 100, images: int = 100, epochs: float | None = 10, place=HERE, **arguments) -> EarlierRun:
    return EarlierRun(place, seconds, images, epochs, arguments)


def model(**told) -> TrainedModel:
    made = {"module": "m", "module_version": "1", "code": "c", "dataset": DATASET.digest, "arguments": {},
            "weights_tree": "w", "seconds": 30.0, **told}  # fmt: skip
    return TrainedModel.model_validate(made)


def pool(name: str, **told) -> PoolDefinition:
    return PoolDefinition.model_validate({"name": name, "type": "docker", "startup_seconds": 10, **told})


def test_the_records_say_where_how_long_and_on_how_much() -> None:
    models = [
        model(metrics={"epochs": 12}, arguments={"epochs": 40}),  # it stopped early
        model(place="docker", arguments={"num_epochs": 3}),
        model(module="other"), model(dataset="gone"), model(seconds=0.0),
    ]  # fmt: skip
    assert earlier_runs("m", models, [DATASET]) == [
        EarlierRun(HERE, 30.0, 100, 12, {"epochs": 40}), EarlierRun("docker", 30.0, 100, 3, {"num_epochs": 3})
    ]  # fmt: skip


def test_where_it_ran_and_what_it_cost_do_not_make_another_model() -> None:
    assert model().digest == model(place="docker", cost=1.5).digest
    assert TrainedModel.model_validate(model().model_dump(exclude={"place", "cost"})).place == ""


def test_one_run_gives_its_speed() -> None:
    found = estimate(Training(200, {"epochs": 20}), [run()])
    assert found is not None
    assert found.seconds == pytest.approx(400)
    assert found.said == "from 1 run there with the same arguments"


def test_the_start_is_told_from_the_speed_where_runs_differ_in_size() -> None:
    runs = [run(seconds=5 + 0.01 * images * 10, images=images) for images in (100, 1000, 5000)]
    found = estimate(Training(100000, {"epochs": 10}), runs)
    assert found is not None
    assert found.seconds == pytest.approx(5 + 0.01 * 1e6, rel=1e-6)
    assert found.low == pytest.approx(found.high) == pytest.approx(found.seconds)


def test_runs_that_say_a_start_below_nothing_are_not_believed() -> None:
    found = estimate(Training(10, {"epochs": 10}), [run(10, 100), run(1000, 1000)])
    assert found is not None
    assert found.seconds > 0


def test_runs_with_the_arguments_that_are_asked_for_count_alone() -> None:
    runs = [run(100, image_size=32), run(900, image_size=224, seed=4)]
    found = estimate(Training(100, {"epochs": 10, "image_size": 224, "seed": 5}), runs)
    assert found is not None
    assert found.seconds == pytest.approx(900)
    other = estimate(Training(100, {"epochs": 10, "image_size": 64}), runs)
    assert other is not None
    assert other.said == "from 2 runs there with other arguments"
    assert other.low < other.seconds < other.high


def test_epochs_that_the_module_chooses_are_those_of_before() -> None:
    found = estimate(Training(100, {}), [run(epochs=8), run(epochs=10), run(epochs=30)])
    assert found is not None
    assert "if it takes 10 epochs as before" in found.said


def test_runs_of_a_sample_say_how_long_an_epoch_takes_and_not_how_many_there_are() -> None:
    samples = [EarlierRun(HERE, 5 + 0.01 * 100 * epochs, 100, epochs, {}, sample=True) for epochs in (1, 10)]
    assert estimate(Training(1000, {}), samples) is None
    found = estimate(Training(1000, {"epochs": 20}), samples)
    assert found is not None
    assert found.seconds == pytest.approx(205)
    pools = {HERE: here(Offers(cpu=2))}
    [row] = forecasts(Needs(), pools, {}, training=Training(1000, {}), runs=samples)
    assert row.said == "about 5 s and 10 s an epoch, as many as the module chooses"
    guessed = estimate(Training(100, {}), [*samples, run(105, epochs=10)])
    assert guessed is not None
    assert "if it takes 10 epochs as before" in guessed.said


def test_a_sample_that_took_longer_than_a_larger_one_was_disturbed() -> None:
    disturbed = EarlierRun(HERE, 77.7, 256, 1, {}, sample=True)
    samples = [EarlierRun(HERE, 10 + 0.02 * 256 * epochs, 256, epochs, {}, sample=True) for epochs in (2, 9)]
    found = estimate(Training(1000, {"epochs": 20}), [disturbed, *samples])
    assert found is not None
    assert found.seconds == pytest.approx(410)
    assert found.high == pytest.approx(410)
    ordinary = [run(80, 256, 1), *samples]
    assert estimate(Training(1000, {"epochs": 20}), ordinary) != found, "of a real one nobody knows what it was"


def test_epochs_that_nobody_chose_are_those_of_the_module() -> None:
    (found,) = earlier_runs("m", [model()], [DATASET], {"epochs": 7})
    assert found.epochs == 7
    (found,) = earlier_runs("m", [model(arguments={"epochs": 3})], [DATASET], {"epochs": 7})
    assert found.epochs == 3


def test_runs_in_as_many_processes_count_alone() -> None:
    both = [run(100), EarlierRun(HERE, 60, 100, 10, {}, processes=2)]
    found = estimate(Training(100, {"epochs": 10}, processes=2), both)
    assert found is not None
    assert found.seconds == pytest.approx(60)


def test_a_pool_of_processes_is_as_fast_as_this_machine() -> None:
    pools = {HERE: here(Offers(cpu=2)), "local": pool("local", type="process"), "docker": pool("docker")}
    rows = forecasts(Needs(), pools, {"local": UP, "docker": UP}, training=Training(100, {"epochs": 10}), runs=[run()])
    assert {row.pool: row.estimate is not None for row in rows} == {HERE: True, "local": True, "docker": False}


def test_what_was_predicted_stands_beside_what_it_was() -> None:
    pools = {"gpu": pool("gpu", cost_per_hour=3.6)}
    thought = foreseen(pools["gpu"], pools, Training(100, {"epochs": 10}), [run(80, place="gpu")])
    assert thought is not None
    assert thought.cost == pytest.approx(0.09)
    assert foreseen(pools["gpu"], pools, Training(100, {}), []) is None
    beside = compared(model(seconds=70, cost=0.08, foreseen=thought))
    assert beside == "70 s (80 s predicted), cost 0.08 (0.09 predicted)"
    assert compared(model(seconds=80, cost=0.08)) == "80 s, cost 0.08"
    assert compared(model(seconds=80)) == "80 s, cost unknown"
    assert model(cost=0.08, foreseen=thought, processes=2).digest == model().digest


def test_without_a_run_or_a_size_there_is_no_estimate() -> None:
    assert estimate(Training(100, {}), []) is None
    assert estimate(Training(None, {}), [run()]) is None


def test_each_pool_has_a_row_and_the_chosen_one_is_first() -> None:
    pools = {
        HERE: here(Offers(cpu=2, gpus=0)), "docker": pool("docker", offers=Offers(cpu=2, gpus=0)),
        "gpu": pool("gpu", offers=Offers(cpu=8, gpus=1), cost_per_hour=3.6),
    }  # fmt: skip
    runs = [run(100), run(20, place="gpu")]
    asked = Training(100, {"epochs": 10})
    rows = forecasts(Needs(), pools, {"docker": UP, "gpu": UP}, training=asked, runs=runs)
    assert [row.pool for row in rows if row.chosen] == [HERE] == [rows[0].pool]
    told = {row.pool: row for row in rows}
    assert told[HERE].estimate is not None
    assert told[HERE].cost == 0
    assert told["docker"].estimate is None
    assert told["docker"].said == "unknown: never ran there; like here: about 2 min"
    assert told["gpu"].cost == pytest.approx(0.03)  # 10 s to start and 20 s at a tenth of a cent each
    assert told["gpu"].start_seconds == 10


def test_a_pool_that_does_not_fit_or_is_down_is_a_row_and_no_error() -> None:
    pools = {"docker": pool("docker", offers=Offers(gpus=0)), "gpu": pool("gpu", offers=Offers(gpus=1))}
    rows = forecasts(Needs(gpus=1), pools, {"docker": UP}, training=Training(100, {}), runs=[run(place="docker")])
    assert not any(row.chosen or row.usable for row in rows)
    told = {row.pool: row for row in rows}
    assert told["docker"].reason == "docker: no GPU (needs 1)"
    assert (told["docker"].estimate, told["docker"].cost) == (None, None)
    assert told["gpu"].start_seconds is None
    with pytest.raises(NotFound):
        forecasts(Needs(), pools, {}, training=Training(1, {}), runs=[], stated="nope")


def test_a_queue_is_waited_for_as_long_as_runs_like_this_one_take() -> None:
    full = PoolState(online=True, running=1, queued=1, limit=1)
    pools = {"docker": pool("docker")}
    [row] = forecasts(
        Needs(), pools, {"docker": full}, training=Training(100, {"epochs": 10}), runs=[run(100, place="docker")]
    )
    assert row.start_seconds == pytest.approx(10 + 2 * 100)
    [row] = forecasts(Needs(), pools, {"docker": full}, training=Training(100, {"epochs": 10}), runs=[])
    assert row.start_seconds is None


def test_a_paid_pool_where_it_never_ran_has_no_cost_and_a_free_one_costs_nothing() -> None:
    pools = {"free": pool("free"), "paid": pool("paid", cost_per_hour=1)}
    told = {
        row.pool: row for row in forecasts(Needs(), pools, {"free": UP, "paid": UP}, training=Training(1, {}), runs=[])
    }
    assert told["free"].cost == 0
    assert told["paid"].cost is None


runs = st.builds(
    EarlierRun, place=st.just(HERE), seconds=st.floats(0.1, 1e5), images=st.integers(1, 10**6),
    epochs=st.one_of(st.none(), st.integers(1, 500)), arguments=st.just({}),
)  # fmt: skip


@given(st.lists(runs, min_size=1, max_size=8), st.integers(1, 10**6), st.integers(1, 500))
def test_a_time_is_never_negative_and_grows_with_the_work(found, images: int, epochs: int) -> None:
    small = estimate(Training(images, {"epochs": epochs}), found)
    large = estimate(Training(images * 2, {"epochs": epochs}), found)
    assert small is not None
    assert large is not None
    assert 0 < small.seconds <= large.seconds
    assert small.low <= small.seconds <= small.high


@given(st.integers(1, 10**5), st.integers(1, 100))
def test_what_was_measured_is_predicted(images: int, epochs: int) -> None:
    found = estimate(Training(images, {"epochs": epochs}), [run(50, images, epochs)])
    assert found is not None
    assert found.seconds == pytest.approx(50)
