from __future__ import annotations

import pytest
from image_classifier import data
from webargs import ValidationError

from .conftest import write_dataset


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "data", 5)


def test_the_layout_is_read(root):
    found = data.read(root)
    assert found.classes == ["bar", "cross", "dot"]
    assert (len(found.train), len(found.val)) == (9, 3)
    assert found.train.files[0] == "bar/number 0.png"  # a name may hold spaces
    assert found.train.labels == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_fifth_of_each_class_validates_where_no_part_is_named(root):
    (root / "dataset_files" / "val.txt").unlink()
    found = data.read(root, seed=1)
    assert sorted(found.val.labels) == [0, 1, 2]
    assert not set(found.val.files) & set(found.train.files)
    assert data.read(root, seed=1) == found


def test_remarks_on_classes_are_taken_only_if_there_is_one_for_each(root):
    (root / "dataset_files" / "info.txt").write_text("a bar\na cross\na dot\n")
    (root / "dataset_files" / "aphia_ids.txt").write_text("1\n2\n")
    found = data.read(root)
    assert found.labels_info == ["a bar", "a cross", "a dot"]
    assert found.aphia_ids == []


def test_the_digest_changes_with_the_parts(root):
    before = data.read(root).digest()
    assert data.read(root).digest() == before
    path = root / "dataset_files" / "train.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert data.read(root).digest() != before


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("train.txt", "bar/a.png 3\n", "from 0 to 2"),
        ("train.txt", "bar/a.png\n", "line 1"),
        ("train.txt", "../../etc/passwd 0\n", "leads out"),
        ("train.txt", "/etc/passwd 0\n", "leads out"),
        ("train.txt", "", "empty"),
        ("classes.txt", "bar\nbar\ndot\n", "more than once"),
        ("classes.txt", "", "missing or empty"),
        ("classes.txt", "bar\n", "from 0 to 0"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(root, file, content, said):
    (root / "dataset_files" / file).write_text(content)
    with pytest.raises(ValidationError) as refused:
        data.read(root)
    assert said in refused.value.messages["data"][0]


def test_a_folder_without_images_or_with_one_class_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="no folder `images`"):
        data.read(tmp_path)
    (tmp_path / "images" / "only").mkdir(parents=True)
    (tmp_path / "images" / "only" / "a.png").write_bytes(b"x")
    with pytest.raises(ValidationError, match="at least two"):
        data.read(tmp_path)
