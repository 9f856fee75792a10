"""What was predicted of a training is kept beside what it took and cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from blocks.store import ObjectStore
from flows import calibration, forecasting
from flows.calibration import Asked
from flows.placing import Places
from flows.stages import Stages
from flows.training import training
from tasks.training import training_key
from volvox import progress
from volvox.errors import StageCrashed
from volvox.modules import discovery
from volvox.records import Dataset, TrainedModel
from volvox.settings import Home

API = """
from webargs import fields

def get_train_args():
    return {"epochs": fields.Int(load_default=None, allow_none=True)}
"""


@pytest.fixture
def dataset() -> Dataset:
    made = Dataset(
        name="lake", source="s", classes=("a", "b"), counts={"train": (60, 40), "val": (5, 5), "test": (5, 5)},
        content="c", learning_tree="", held_out_tree="", manifest_object="",
    )  # fmt: skip
    return made


@pytest.fixture
def trained(home: Home, install_module, monkeypatch, dataset: Dataset):
    """Training takes as long as it is told to, and is kept as the task would keep it."""
    install_module("toy", API)
    store = ObjectStore.local().open()
    store.put_record("data", "lake", dataset.model_dump(mode="json"))
    code = discovery.find("toy").code

    async def train(dataset, *, module, arguments, **_):
        key = training_key(code, dataset, arguments)
        if store.record("training", key) is not None:
            progress.reused()
            return TrainedModel.model_validate(store.record("training", key))
        made = TrainedModel(
            module=module, module_version="1", code=code, dataset=dataset.digest, arguments=arguments,
            weights_tree="", seconds=30.0 * arguments["epochs"], ended=datetime.now(UTC),
        )  # fmt: skip
        store.put_record("training", key, made.model_dump(mode="json"))
        return made

    monkeypatch.setattr(training, "fn", train)

    async def run(place: str = "here", **arguments: Any) -> TrainedModel:
        with Stages(Places({"training": place}, home, store), store) as stages:
            return await stages.run(training, dataset, module="toy", arguments=arguments)

    return run


def kept(model: TrainedModel) -> TrainedModel:
    store = ObjectStore.local().open()
    models = forecasting.records(store, "training", TrainedModel)
    (found,) = [one for one in models if one.arguments == model.arguments]
    return found


def test_the_first_training_costs_something_and_the_next_was_foreseen(trained) -> None:
    first = asyncio.run(trained(epochs=1))
    assert first.foreseen is None
    assert first.cost == 0
    notes: list[str] = []
    with progress.listening(lambda event: notes.append(event.text) if event.kind == "noted" else None):
        second = asyncio.run(trained(epochs=2))
    assert second.foreseen is not None
    assert second.foreseen.seconds == pytest.approx(60)
    assert notes == [
        "about 60 s, from 1 run there with the same arguments",
        "60 s (60 s predicted), cost 0.00 (0.00 predicted)",
    ]
    assert kept(second) == second, "who finds it done finds that too"
    assert asyncio.run(trained(epochs=2)) == second


def test_a_pool_with_a_price_costs_what_its_jobs_took(trained, home: Home, monkeypatch) -> None:
    from flows import elsewhere, stages

    (home.folder("pools") / "gpu.yaml").write_text("{type: docker, image: x, cost_per_hour: 3.6, startup_seconds: 10}")
    jobs: list[str] = []

    async def run_elsewhere(submission):
        progress.note("on pool gpu: run x", flow_run="first")
        progress.note("on pool gpu: run y", flow_run="second")
        return await training.fn(**submission.parameters)

    async def job_seconds(runs):
        jobs[:] = runs
        return 50.0

    async def of(self, stage, parameters):
        from flows.placing import Placed
        from volvox.pools.placement import Placement

        return Placed(Placement("gpu", ("gpu: as stated",)), {})

    monkeypatch.setattr(elsewhere, "run_elsewhere", run_elsewhere)
    monkeypatch.setattr(stages.Places, "of", of)
    monkeypatch.setattr(forecasting, "_job_seconds", job_seconds)
    made = asyncio.run(trained("gpu", epochs=1))
    assert jobs == ["first", "second"], "a job that vanished was paid for as well"
    assert made.cost == pytest.approx(0.05)


def test_a_store_that_does_not_answer_delays_no_training(trained, monkeypatch) -> None:
    monkeypatch.setattr(forecasting, "_READS_SECONDS", 0.0)
    made = asyncio.run(trained(epochs=1))
    assert made.cost is None
    assert made.foreseen is None


@pytest.mark.parametrize("start", [2.0, 100.0])
def test_a_place_is_timed_by_trainings_that_tell_its_start_from_its_speed(
    trained, home: Home, monkeypatch, dataset: Dataset, start: float
) -> None:
    asked: list[tuple[str, int]] = []

    async def train(asked_for, pool, images, more, **_):
        asked.append((pool, more["epochs"]))
        if pool == "docker":
            raise StageCrashed("docker: out of memory")
        return TrainedModel(
            module="toy", module_version="1", code="c", dataset=dataset.digest, arguments=more, weights_tree="",
            seconds=start + 0.01 * images * more["epochs"],
        )  # fmt: skip

    async def places(*_):
        return ["here", "docker"]

    monkeypatch.setattr(calibration, "_train", train)
    monkeypatch.setattr(calibration, "_places", places)
    said = asyncio.run(calibration.calibrate(Asked(dataset, "toy"), home, ObjectStore.local()))
    assert said["docker"] == "not timed: docker: out of memory"
    here = [epochs for pool, epochs in asked if pool == "here"]
    assert here == ([1, 19] if start == 2.0 else [1])
    assert said["here"].startswith("100 images in")
