import asyncio

import pytest

from blocks.store import ObjectStore
from blocks.tracking import Tracking
from flows import training as stage
from flows.training import training
from volvox.records import Dataset


@pytest.fixture
def given(monkeypatch):
    """What the task is called with."""
    seen: dict = {}

    async def train_model(module, dataset, arguments, **keywords):
        seen.update(keywords, module=module, dataset=dataset, arguments=arguments)

    monkeypatch.setattr(stage, "train_model", train_model)
    return seen


DATASET = Dataset(
    name="plankton", source="/data", classes=("a", "b"), counts={"train": (1, 1), "val": (1, 1), "test": (1, 1)},
    content="c", learning_tree="l", held_out_tree="h", manifest_object="m",
)  # fmt: skip


def test_what_is_not_named_is_this_machines_own_and_the_datasets_name(given, home, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asyncio.run(training.fn(DATASET))
    assert given["name"] == "plankton" and given["module"] == "image_classifier" and given["arguments"] == {}
    assert given["store"].root == home.root / "store" and given["home"] == home
    assert given["tracking"].uri == f"sqlite:///{home.root}/mlflow/mlflow.db"


def test_blocks_that_are_given_are_used(given, home, tmp_path) -> None:
    store, tracking = ObjectStore(address=str(tmp_path / "elsewhere")), Tracking(uri="http://mlflow.example.org")
    asyncio.run(training.fn(DATASET, name="copepods", arguments={"epochs": 1}, store=store, tracking=tracking))
    assert given["store"].root == tmp_path / "elsewhere" and given["tracking"] is tracking
    assert given["name"] == "copepods" and given["arguments"] == {"epochs": 1}
