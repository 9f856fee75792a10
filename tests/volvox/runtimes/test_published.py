"""Models of functions among the records of a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from volvox.errors import InvalidInput, NotFound
from volvox.records import Dataset, Image, ModelVersion, TrainedModel, Verdict
from volvox.runtimes.models import Model, PublishedModels
from volvox.store import FolderStore

VERDICT = Verdict(accepted=True, reason="good", metric="accuracy", value=0.9, threshold=0.5)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Versions 1 and 2 of `digits`, of which 2 is champion and 1 has an image."""
    made = FolderStore(tmp_path / "store")
    held_out = tmp_path / "held-out"
    (held_out / "images").mkdir(parents=True)
    (held_out / "dataset_files").mkdir()
    for name in ("a b.png", "c.png", "d.png"):
        (held_out / "images" / name).write_text(name)
    (held_out / "dataset_files" / "test.txt").write_text("a b.png 0\nc.png 1\nd.png 1\n")
    (held_out / "dataset_files" / "classes.txt").write_text("even\nodd\n")
    nothing = made.put_bytes(b"")
    dataset = Dataset(
        name="digits", source="", classes=("even", "odd"), counts={}, content="c", learning_tree=nothing,
        held_out_tree=made.put_tree(held_out), manifest_object=nothing,
    )  # fmt: skip
    made.put_record("data", "d" * 64, dataset.model_dump(mode="json"))
    for number in ("1", "2"):
        weights = tmp_path / f"weights-{number}"
        weights.mkdir()
        (weights / "model").write_text(number)
        tree = made.put_tree(weights)
        model = TrainedModel(
            module="image_classifier", module_version="1", code="c", dataset=dataset.digest, arguments={},
            weights_tree=tree,
        )  # fmt: skip
        made.put_record("training", number * 64, model.model_dump(mode="json"))
        version = ModelVersion(
            name="digits", version=number, model=model.digest, module="image_classifier", code="c", weights_tree=tree,
            verdict=VERDICT,
        )  # fmt: skip
        made.put_record("version", f"digits-{number}", version.model_dump(mode="json"))
        made.put_record({"1": "previous", "2": "champion"}[number], "digits", version.model_dump(mode="json"))
        if number == "1":
            image = Image(
                name="volvox/digits:1", version=version.digest, context_object=nothing, built=True, image_id="sha256:1"
            )
            made.put_record("packaging", "i" * 64, image.model_dump(mode="json"))
    return made


@pytest.mark.parametrize(
    ("reference", "number"),
    [("digits", "2"), ("digits@champion", "2"), ("digits@previous", "1"), ("digits/1", "1"), ("digits/2", "2")],
)
def test_a_model_is_found_with_weights_labels_and_samples(store: FolderStore, reference: str, number: str) -> None:
    models = PublishedModels(store)
    model = models.resolve(reference)
    assert (model.name, model.version, model.module) == ("digits", number, "image_classifier")
    assert model.labels == ("even", "odd") and Model.from_json(model.as_json()) == model
    weights = models.weights(model)
    assert weights is not None and (weights / "model").read_text() == number
    assert [path.name for path in models.samples(model)] == ["a b.png", "c.png"]
    image = models.image(model)
    assert (image.image_id if image else "") == {"1": "sha256:1", "2": ""}[number]


def test_what_is_not_there_is_said(store: FolderStore) -> None:
    models = PublishedModels(store)
    for reference in ("digits/7", "another", "another@previous"):
        with pytest.raises(NotFound, match="knows no"):
            models.resolve(reference)
    for reference in ("digits@latest", "digits@champion/1"):
        with pytest.raises(InvalidInput, match="NAME@previous"):
            models.resolve(reference)


def test_a_model_whose_dataset_is_gone_still_answers(store: FolderStore) -> None:
    (store.root / "records" / "data" / f"{'d' * 64}.json").unlink()
    models = PublishedModels(store)
    model = models.resolve("digits")
    assert model.labels == () and models.samples(model) == [] and models.weights(model)
