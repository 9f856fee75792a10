from __future__ import annotations

from pathlib import Path

import pytest

from volvox.data.sample import is_sample, sample
from volvox.records import Dataset
from volvox.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def dataset(store: Store) -> Dataset:
    """Thirty images of cats, three of dogs; names have spaces."""
    names = {part: [f"cat/{part} {n}.png 0" for n in range(30)] + [f"dog/{part} {n}.png 1" for n in range(3)]
             for part in ("train", "val")}  # fmt: skip
    members: dict = {"dataset_files/classes.txt": b"cat\ndog\n"}
    for part, lines in names.items():
        members[f"dataset_files/{part}.txt"] = "".join(f"{line}\n" for line in lines).encode()
        members |= {f"images/{line.rpartition(' ')[0]}": line.encode() for line in lines}
    return Dataset(
        name="pets", source="s", classes=("cat", "dog"), counts={"train": (30, 3), "val": (30, 3), "test": (1, 1)},
        content="c", learning_tree=store.put_members(members), held_out_tree="h", manifest_object="m",
    )  # fmt: skip


def test_a_sample_has_some_images_of_every_class_and_a_share_of_those_to_validate_on(store, dataset) -> None:
    made = sample(dataset, store, 11)
    assert made.counts == {"train": (8, 3), "val": (8, 3), "test": (0, 0)}
    folder = store.tree(made.learning_tree)
    lines = (folder / "dataset_files" / "train.txt").read_text().splitlines()
    assert len(lines) == 11
    for line in lines:
        assert (folder / "images" / line.rpartition(" ")[0]).read_text() == line
    assert len(list((folder / "images").rglob("*.png"))) == 22
    assert (folder / "dataset_files" / "classes.txt").read_text() == "cat\ndog\n"


def test_it_is_always_the_same_and_each_mark_has_its_own(store, dataset) -> None:
    here, there = sample(dataset, store, 11, "here"), sample(dataset, store, 11, "docker")
    assert here == sample(dataset, store, 11, "here")
    assert here.digest != there.digest
    assert here.learning_tree == there.learning_tree, "the images lie in the store once"
    assert is_sample(here)
    assert not is_sample(dataset)


def test_of_few_images_all_are_taken_and_its_record_is_kept(store, dataset) -> None:
    made = sample(dataset, store, 1000)
    assert made.total("train") == 33
    assert [Dataset.model_validate(store.record("data", key)) for key in store.keys("data")] == [made]
