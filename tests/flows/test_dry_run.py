from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blocks.store import ObjectStore
from flows import dry_run
from flows.dry_run import Plan, plan
from flows.local import prepare_dataset
from tasks import training as training_task
from volvox.data.sample import sample
from volvox.errors import InvalidInput, NotFound, UnknownModule
from volvox.foreseen import Foreseen
from volvox.pools.placement import PoolState
from volvox.records import Dataset, Evaluation, ModelVersion, TrainedModel, Verdict
from volvox.settings import Home

METADATA = "metadata_version: 2.3.0\nresources: {training: {cpu: 1, gpu: %d}}\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty images of two classes."""
    for label, shade in (("dark", 20), ("light", 230)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (4, 4), shade + number).save(tmp_path / "images" / label / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def toy(install_module):
    """A module that trains on a processor."""
    install_module("toy", "", METADATA % 0)
    return "toy"


def planned(home: Home, images: Path, **told: Any) -> Plan:
    return asyncio.run(plan(str(images), home, **{"name": "m", "module": "toy", **told}))


def prepared(images: Path) -> Dataset:
    return asyncio.run(prepare_dataset(str(images), {}))


def does(made: Plan) -> dict[str, str]:
    return {one.stage: one.does for one in made.stages}


def trained(monkeypatch, home: Home, dataset: Dataset, arguments: dict[str, Any], **told: Any) -> TrainedModel:
    """Keep a model under the very key by which the task would look for it."""
    made = TrainedModel(
        module="toy", module_version="1", code="c", dataset=dataset.digest, arguments=arguments,
        weights_tree=dataset.learning_tree, **{"seconds": 30.0, **told},
    )  # fmt: skip

    async def once(store, stage, key, record, make):
        store.put_record(stage, key, made.model_dump(mode="json"))
        return made

    monkeypatch.setattr(training_task, "once", once)
    asyncio.run(
        training_task.train_model.fn(
            "toy", dataset, arguments, name="m", start_from=None, store=ObjectStore.local().open(), home=home,
            tracking=None,
        )
    )  # fmt: skip
    return made


def test_at_first_everything_runs_and_no_time_is_known(home: Home, images: Path, toy: str) -> None:
    made = planned(home, images)
    assert does(made)["data"] == does(made)["training"] == does(made)["evaluation"] == "runs"
    assert [stage.stage for stage in made.stages] == [
        "data", "training", "evaluation", "registration", "packaging", "publication", "serving", "inference",
    ]  # fmt: skip
    chosen = made.forecasts[0]
    assert (chosen.pool, chosen.chosen, chosen.estimate, chosen.cost) == ("here", True, None, 0.0)
    assert "never ran there" in chosen.said
    assert "no Prefect server runs" in made.trouble


def test_a_dataset_that_was_prepared_is_found_by_its_key(home: Home, images: Path, toy: str) -> None:
    prepared(images)
    assert does(planned(home, images))["data"] == "reused"
    assert does(planned(home, images, data_options={"seed": 1}))["data"] == "runs"
    (images / "dark" / "more.png").write_bytes((images / "dark" / "1.png").read_bytes())
    assert does(planned(home, images))["data"] == "runs"


def test_a_model_that_was_trained_is_found_by_its_key(monkeypatch, home: Home, images: Path, toy: str) -> None:
    trained(monkeypatch, home, prepared(images), {"epochs": 3})
    made = planned(home, images, arguments={"epochs": 3})
    assert does(made)["training"] == "reused"
    assert made.forecasts == ()
    other = planned(home, images, arguments={"epochs": 6})
    assert does(other)["training"] == "runs"
    estimate = other.forecasts[0].estimate
    assert estimate is not None
    assert estimate.seconds == pytest.approx(60)
    assert "on here, about 60 s" in next(one.said for one in other.stages if one.stage == "training")


def test_what_was_scored_and_registered_is_told(monkeypatch, home: Home, images: Path, toy: str) -> None:
    from tasks.evaluation import evaluation_key

    dataset = prepared(images)
    model = trained(monkeypatch, home, dataset, {})
    store = ObjectStore.local().open()
    assert does(planned(home, images))["evaluation"] == "runs"
    scores = Evaluation(model=model.digest, dataset=dataset.digest, metrics={"accuracy": 1.0})
    store.put_record("evaluation", evaluation_key(model, dataset), scores.model_dump(mode="json"))
    assert does(planned(home, images))["evaluation"] == "reused"
    verdict = Verdict(accepted=True, reason="good", metric="accuracy", value=1.0, threshold=0.5)
    version = ModelVersion(
        name="m", version="1", model=model.digest, module="toy", code="c", weights_tree=model.weights_tree,
        verdict=verdict,
    )  # fmt: skip
    store.put_record("champion", "m", version.model_dump(mode="json"))
    assert does(planned(home, images))["registration"] == "reused"
    assert does(planned(home, images, name="other"))["registration"] == "depends"


def test_pools_are_compared_with_their_cost_and_the_stated_one_is_chosen(
    monkeypatch, home: Home, images: Path, install_module
) -> None:
    install_module("toy", "", METADATA % 1)
    folder = home.folder("pools")
    (folder / "gpu.yaml").write_text("{type: docker, image: x, offers: {gpus: 1}, cost_per_hour: 3.6}")
    (folder / "dear.yaml").write_text("{type: docker, image: x, offers: {gpus: 2}, cost_per_hour: 36}")
    states = {"gpu": PoolState(online=True), "dear": PoolState(online=True)}

    async def asked(*_):
        return states, ""

    monkeypatch.setattr(dry_run, "_states", asked)
    dataset = prepared(images)
    trained(monkeypatch, home, dataset, {"epochs": 1}, place="gpu", seconds=100.0)
    made = planned(home, images, arguments={"epochs": 36})
    chosen = made.forecasts[0]
    assert chosen.pool == "gpu"
    assert chosen.cost == pytest.approx(3.6)
    told = {row.pool: row for row in made.forecasts}
    assert not told["here"].usable or told["here"].pool == "here"  # a machine with a GPU may run these tests
    assert told["dear"].cost is None
    assert planned(home, images, arguments={"epochs": 36}, places={"training": "dear"}).forecasts[0].pool == "dear"
    states["gpu"] = dataclasses.replace(states["gpu"], online=False)
    assert planned(home, images, arguments={"epochs": 36}, places={"training": "auto"}).forecasts[0].pool == "dear"


def test_wrong_input_is_told_as_the_cycle_would(home: Home, images: Path, toy: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModule):
        planned(home, images, module="nope")
    with pytest.raises(NotFound):
        planned(home, tmp_path / "nothing")
    with pytest.raises(NotFound, match="no pool 'dcoker', did you mean 'docker'"):
        planned(home, images, places={"training": "dcoker"})


def test_nothing_is_written_and_the_text_has_a_line_for_each_stage(home: Home, images: Path, toy: str) -> None:
    made = planned(home, images)
    assert not (home.root / "store" / "records").exists()
    assert not (home.root / "stack" / "prefect.json").exists()
    text = dry_run.as_text(made)
    assert all(f"\n{one.stage} " in text for one in made.stages)
    assert "->  here " in text
    assert dry_run.as_values(made)["training"][0]["pool"] == "here"


def test_the_last_training_is_shown_as_it_was_predicted_and_as_it_was(
    monkeypatch, home: Home, images: Path, toy: str
) -> None:
    dataset, store = prepared(images), ObjectStore.local().open()
    assert planned(home, images).last is None
    thought = Foreseen(seconds=40, low=30, high=50, cost=0.25, said="from 2 runs there with the same arguments")
    for day, told in ((1, {"seconds": 10.0}), (2, {"seconds": 50.0, "foreseen": thought, "place": "gpu"})):
        ended = datetime(2026, 11, day, tzinfo=UTC)
        trained(monkeypatch, home, dataset, {"seed": day}, cost=0.3, ended=ended, **told)
    part = sample(dataset, store, 4)
    trained(monkeypatch, home, part, {"seed": 3}, cost=0.1, ended=datetime(2026, 11, 3, tzinfo=UTC))
    made = planned(home, images)
    assert "the last training of toy: on gpu, 50 s (40 s predicted), cost 0.30 (0.25 predicted)" in dry_run.as_text(
        made
    )
    told = dry_run.as_values(made)["last_training"]
    assert (told["place"], told["seconds"], told["cost"]) == ("gpu", 50.0, 0.3)
    assert told["foreseen"]["seconds"] == 40


def test_a_calibration_is_refused_where_nothing_is_forecast(home: Home, images: Path) -> None:
    from flows.commands import cycle

    with pytest.raises(InvalidInput, match="give --dry-run too"):
        cycle.main([str(images), "--module", "image_classifier", "--calibrate"], standalone_mode=False)
