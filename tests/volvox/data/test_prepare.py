"""A folder becomes a dataset."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.volvox.data.conftest import write_image
from volvox import progress
from volvox.errors import InvalidInput, VolvoxError


def test_images_are_counted_split_and_kept(folder, prepared, store) -> None:
    made = prepared(folder)
    assert made.classes == ("cat", "dog")
    assert made.counts == {"train": (7, 7), "val": (2, 2), "test": (1, 1)}
    assert made.bytes == sum(path.stat().st_size for path in folder.rglob("*.png"))
    assert not made.rejected
    learning, held_out = store.tree(made.learning_tree), store.tree(made.held_out_tree)
    assert sorted(path.name for path in learning.glob("dataset_files/*")) == ["classes.txt", "train.txt", "val.txt"]
    assert sorted(path.name for path in held_out.glob("dataset_files/*")) == ["classes.txt", "test.txt"]
    assert (learning / "dataset_files/classes.txt").read_text() == "cat\ndog\n"
    lines = (learning / "dataset_files/train.txt").read_text().splitlines()
    assert len(lines) == 14
    for line in lines:
        file, label = line.rsplit(" ", 1)
        assert file.startswith(made.classes[int(label)])
        assert (learning / "images" / file).read_bytes() == (folder / file).read_bytes()
    learned = {path.name for path in (learning / "images").rglob("*.png") if path.parent.name == "cat"}
    tested = {path.name for path in (held_out / "images").rglob("*.png") if path.parent.name == "cat"}
    assert (len(learned), len(tested), learned & tested) == (9, 1, set())


def test_the_manifest_tells_of_every_file(folder, prepared, store) -> None:
    (folder / "cat" / "broken.png").write_text("no")
    manifest = json.loads(store.path(prepared(folder).manifest_object).read_bytes())
    first = manifest["files"][0]
    assert first["file"] == "cat/00.png"
    assert (first["label"], first["width"], first["height"], first["mode"]) == ("cat", 8, 8, "L")
    assert first["bytes"] == (folder / "cat/00.png").stat().st_size
    assert {entry["part"] for entry in manifest["files"]} == {"train", "val", "test"}
    assert manifest["rejected"][0]["file"] == "cat/broken.png"


def test_the_dataset_is_the_same_wherever_and_in_whatever_order_its_files_were_written(
    folder, prepared, tmp_path
) -> None:
    other = tmp_path / "elsewhere" / "copy"
    for path in sorted(folder.rglob("*.png"), reverse=True):
        target = other / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        os.utime(target, (1, 1))
    one, two = prepared(folder), prepared(other)
    assert one.digest == two.digest
    assert one.objects() == two.objects()


@pytest.mark.parametrize("change", ["bytes", "name", "label", "split"])
def test_the_dataset_is_another_one_where(folder, prepared, change) -> None:
    before = prepared(folder)
    image = folder / "cat" / "00.png"
    match change:
        case "bytes":
            write_image(image, 500)
        case "name":
            image.rename(folder / "cat" / "renamed.png")
        case "label":
            image.rename(folder / "dog" / "moved.png")
    assert prepared(folder, seed=int(change == "split")).digest != before.digest


def test_five_broken_images_among_many_are_left_out_with_reasons(folder, prepared, reasons) -> None:
    cat = folder / "cat"
    (cat / "empty.png").touch()
    (cat / "text.png").write_text("text")
    (cat / "cut.png").write_bytes((cat / "00.png").read_bytes()[:40])
    Image.new("1", (20_000, 20_000)).save(cat / "huge.png")
    shutil.copy(cat / "00.png", cat / "twin.png")
    made = prepared(folder)
    told = reasons(made)
    assert made.rejected_total == 5
    assert told["cat/empty.png"] == "it is empty"
    assert told["cat/text.png"].startswith("its content is not that of an image")
    assert told["cat/cut.png"].startswith(("it cannot be decoded", "its content"))
    assert told["cat/huge.png"] == "it has 400,000,000 pixels; at most 50,000,000 are decoded"
    assert told["cat/twin.png"] == "it is the same image as cat/00.png"
    assert sum(map(sum, made.counts.values())) == 20


def test_an_image_with_two_labels_is_left_out_everywhere(folder, prepared, reasons) -> None:
    shutil.copy(folder / "cat" / "00.png", folder / "dog" / "wrong.png")
    told = reasons(prepared(folder))
    reason = "the same image has several labels: cat, dog"
    assert told == {"cat/00.png": reason, "dog/wrong.png": reason}


def test_at_most_1000_reasons_travel_with_the_dataset_and_all_are_in_the_manifest(folder, prepared, store) -> None:
    for number in range(1005):
        (folder / "cat" / f"e{number}.png").touch()
    made = prepared(folder)
    assert (len(made.rejected), made.rejected_total) == (1000, 1005)
    assert len(json.loads(store.path(made.manifest_object).read_bytes())["rejected"]) == 1005


# -- what is fatal


def test_an_empty_folder_is_one_sentence(tmp_path, prepared) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InvalidInput, match=r"empty holds no images; give a folder with one subfolder of images for each"
    ):
        prepared(tmp_path / "empty")


def test_images_without_any_class_folder_are_one_sentence(tmp_path, prepared) -> None:
    write_image(tmp_path / "flat" / "a.png", 1)
    with pytest.raises(InvalidInput, match=r"for example a.png: it lies in no class folder"):
        prepared(tmp_path / "flat")


def test_one_class_is_one_sentence(folder, prepared) -> None:
    shutil.rmtree(folder / "dog")
    with pytest.raises(InvalidInput, match=r"holds one class, 'cat'; telling classes apart takes at least 2"):
        prepared(folder)


def test_a_class_of_one_image_is_one_sentence(folder, prepared) -> None:
    write_image(folder / "mouse" / "only.png", 4000)
    with pytest.raises(
        InvalidInput, match=r"at least 3 usable images, .* but 'mouse' has 1 \(of 1 files\); add images"
    ):
        prepared(folder)


def test_a_class_whose_images_are_broken_is_one_sentence_with_an_example(folder, prepared, store) -> None:
    for number in range(3):
        (folder / "mouse").mkdir(exist_ok=True)
        (folder / "mouse" / f"{number}.png").write_text("no")
    with pytest.raises(
        InvalidInput, match=r"'mouse' has 0 \(of 3 files\); mouse/0.png was left out: its content is not"
    ):
        prepared(folder)
    assert not (store.root / "objects").exists()


def test_files_that_an_ordinary_user_may_not_read_are_left_out(folder, as_user) -> None:
    code = """
import sys, tempfile
from pathlib import Path
from volvox.data.folder import listed
from volvox.data.options import Options
from volvox.data.prepare import prepare
from volvox.store import FolderStore, Store
root = Path(sys.argv[1])
try:
    (root / "cat/00.png").read_bytes()
except PermissionError:
    print("plain read fails")
with tempfile.TemporaryDirectory() as place:
    made = prepare(listed(root), Options(), FolderStore(Path(place)), name="x", source="x")
print([(left_out.file, left_out.reason) for left_out in made.rejected])
"""
    (folder / "cat" / "00.png").chmod(0)
    told = as_user(code, str(folder))
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines == ["plain read fails", "[('cat/00.png', 'it cannot be read (Permission denied)')]"]


def test_a_full_disk_is_one_sentence_and_leaves_no_object(folder, small_disk) -> None:
    from volvox.data.folder import listed
    from volvox.data.options import Options
    from volvox.data.prepare import prepare
    from volvox.store import FolderStore

    for number in range(3):
        Image.effect_noise((1500, 1500), 90 + number).save(folder / "cat" / f"large{number}.png")
    with pytest.raises(VolvoxError, match="is full; free some space"):
        prepare(listed(folder), Options(), FolderStore(small_disk / "store"), name="x", source="x")
    assert not [path for path in (small_disk / "store").rglob("*") if path.is_file()]


def test_an_image_that_changes_while_it_is_read_is_noticed(folder, prepared) -> None:
    def overwrite(event: progress.Event) -> None:
        if event.kind == "advanced":
            write_image(folder / "cat" / "00.png", 9999)

    with progress.listening(overwrite), pytest.raises(InvalidInput, match="was changed while the data was read"):
        prepared(folder)


# -- given and grouped splits


def split_files(root: Path, **parts: list[int]) -> Path:
    files = root / "dataset_files"
    files.mkdir(parents=True)
    (files / "classes.txt").write_text("b\na\n")
    for part, numbers in parts.items():
        for number in numbers:
            write_image(root / "images" / f"{number}.png", number)
        (files / f"{part}.txt").write_text("".join(f"{number}.png {number % 2}\n" for number in numbers))
    return root


def test_given_splits_and_the_order_of_classes_are_kept(tmp_path, prepared, store) -> None:
    root = split_files(tmp_path / "deep", train=[*range(4)], val=[4, 5], test=[6, 7, 8])
    made = prepared(root)
    assert made.classes == ("b", "a")
    assert made.counts == {"train": (2, 2), "val": (1, 1), "test": (2, 1)}
    assert (store.tree(made.held_out_tree) / "dataset_files/test.txt").read_text() == "6.png 0\n7.png 1\n8.png 0\n"


def test_missing_parts_are_taken_from_train_and_that_is_said(tmp_path, prepared) -> None:
    root = split_files(tmp_path / "deep", train=[*range(40)], test=[40, 41])
    said: list[str] = []
    with progress.listening(lambda event: said.append(event.text)):
        made = prepared(root)
    assert made.counts == {"train": (16, 16), "val": (4, 4), "test": (1, 1)}
    assert "the split of train.txt, test.txt is kept; val are taken from train" in said


def test_a_twin_of_a_held_out_image_is_not_learned(tmp_path, prepared, reasons) -> None:
    root = split_files(tmp_path / "deep", train=[*range(6)], val=[6, 7], test=[8, 9])
    shutil.copy(root / "images/8.png", root / "images/0.png")
    made = prepared(root)
    assert reasons(made) == {"images/0.png": "it is the same image as images/8.png"}
    assert made.counts["test"] == (1, 1)


def test_groups_stay_together(folder, prepared, store) -> None:
    rows = [f"{path.relative_to(folder)},{path.parent.name}{int(path.stem) // 2}" for path in folder.rglob("*.png")]
    (folder / "groups.csv").write_text("\n".join(["file,group", *rows]))
    made = prepared(folder)
    assert made.grouped_by == "groups.csv"
    manifest = json.loads(store.path(made.manifest_object).read_bytes())
    parts = {(entry["group"], entry["part"]) for entry in manifest["files"]}
    assert len(parts) == len({group for group, _ in parts}) == 10
    assert made.counts == {"train": (6, 6), "val": (2, 2), "test": (2, 2)}


def test_a_class_with_too_few_groups_is_learned_and_that_is_said(folder, prepared) -> None:
    rows = [
        f"{path.relative_to(folder)},{path.stem if path.parent.name == 'cat' else 0}" for path in folder.rglob("*.png")
    ]
    (folder / "groups.csv").write_text("\n".join(["file,group", *rows]))
    said: list[str] = []
    with progress.listening(lambda event: said.append(event.text)):
        made = prepared(folder)
    assert (made.counts["train"][1], made.counts["test"][1]) == (10, 0)
    assert "the test part lacks 1 classes (dog): they have too few groups" in said


def test_images_that_all_belong_together_cannot_be_split_and_the_way_out_is_told(folder, prepared) -> None:
    rows = [f"{path.relative_to(folder)},2020-01-01" for path in folder.rglob("*.png")]
    (folder / "labels.csv").write_text("\n".join(["file,timestamp", *rows]))
    with pytest.raises(InvalidInput, match=r"by timestamp all 20 images belong to 1 groups, and a split takes"):
        prepared(folder)
    assert prepared(folder, time_column="none").grouped_by == ""


def test_a_given_part_without_a_usable_image_is_refused(tmp_path, prepared) -> None:
    root = split_files(tmp_path / "deep", train=[*range(6)], val=[6, 7], test=[8])
    (root / "images" / "8.png").write_text("broken")
    with pytest.raises(InvalidInput, match=r"the test part has no image that can be used; give it some in test.txt"):
        prepared(root)


# -- real data


def test_plankton_is_split_by_capture_time_so_that_every_group_is_in_every_part(test_data, prepared) -> None:
    made = prepared(test_data / "plankton_zoolake", label_column="group")
    assert made.grouped_by == "captured_utc"
    assert len(made.classes) == 10
    assert sum(map(made.total, ("train", "val", "test"))) == 350
    assert all(count >= 3 for part in ("val", "test") for count in made.counts[part])
    assert made.rejected_total == 0


def test_plankton_has_35_expert_classes_unless_told_otherwise(test_data, prepared) -> None:
    assert len(prepared(test_data / "plankton_zoolake").classes) == 35
