"""Which file is an image of which class."""

from pathlib import Path

import pytest

from tests.volvox.data.conftest import write_image
from volvox.data.folder import listed
from volvox.data.layouts import Layout, read_layout
from volvox.data.options import Options
from volvox.errors import InvalidInput


def layout_of(root: Path, **options) -> Layout:
    return read_layout(listed(root), Options(**options))


def told(layout: Layout) -> dict[str, str]:
    return {left_out.file: left_out.reason for left_out in layout.rejected}


def taken(layout: Layout) -> dict[str, tuple[str, str | None]]:
    return {image.file: (image.label, image.part) for image in layout.images}


# -- class folders


def test_the_first_folder_is_the_class_however_deep_an_image_lies(folder) -> None:
    write_image(folder / "cat" / "2020" / "may" / "x.JPG", 77)
    layout = layout_of(folder)
    assert layout.classes == ("cat", "dog")
    assert taken(layout)["cat/2020/may/x.JPG"] == ("cat", None)
    assert len(layout.images) == 21
    assert not layout.rejected


def test_what_is_obviously_no_image_at_the_root_is_not_worth_a_word(folder) -> None:
    for name in ("README.md", "NOTICE.txt", "notes.txt", "LICENSE"):
        (folder / name).touch()
    assert not layout_of(folder).rejected


def test_images_without_a_class_and_files_that_are_no_images_are_left_out_with_reasons(folder) -> None:
    write_image(folder / "lost.png", 99)
    (folder / "cat" / "notes.txt").touch()
    (folder / "cat" / "noending").touch()
    (folder / "docs").mkdir()
    (folder / "docs" / "guide.pdf").touch()
    (folder / "mouse").mkdir()
    reasons = told(layout_of(folder))
    assert reasons["lost.png"] == "it lies in no class folder, so it has no label"
    assert reasons["cat/notes.txt"].startswith("it is not an image: its name ends in '.txt'")
    assert reasons["cat/noending"].startswith("it is not an image: its name has no ending")
    assert reasons["docs/guide.pdf"].startswith("it is not an image")
    assert reasons["mouse/"] == "the folder is empty; it is no class"
    assert len(reasons) == 5


def test_classes_may_lie_below_a_folder_named_images(folder, tmp_path) -> None:
    wrapped = tmp_path / "wrapped"
    wrapped.mkdir()
    folder.rename(wrapped / "images")
    (wrapped / "README").touch()
    layout = layout_of(wrapped)
    assert layout.classes == ("cat", "dog")
    assert "cat/00.png" in taken(layout)


# -- labels.csv


@pytest.fixture
def table(tmp_path) -> Path:
    root = tmp_path / "table"
    for number in range(4):
        write_image(root / "images" / f"{number}.png", number)
    return root


def test_labels_come_from_the_column_asked_for_else_label_else_class(table) -> None:
    rows = ["images/0.png,a,x,1", "images/1.png,b,y,2"]
    (table / "labels.csv").write_text("\n".join(["file,class,label,group", *rows]))
    assert taken(layout_of(table)) == {"0.png": ("x", None), "1.png": ("y", None)}
    assert taken(layout_of(table, label_column="group")) == {"0.png": ("1", None), "1.png": ("2", None)}
    (table / "labels.csv").write_text("\n".join(["file,class,other,group", *rows]))
    assert layout_of(table).classes == ("a", "b")


def test_a_table_may_name_files_from_the_images_folder(table) -> None:
    (table / "labels.csv").write_text("file,label\n0.png,a\n")
    assert taken(layout_of(table)) == {"0.png": ("a", None)}


def test_what_a_table_gets_wrong_is_left_out_with_reasons(table) -> None:
    rows = ["images/0.png,a", "images/0.png,b", "gone.png,a", "../x.png,a", "images/1.png,", "labels.csv,a"]
    (table / "labels.csv").write_text("\n".join(["file,label", *rows]))
    reasons = told(layout_of(table))
    assert reasons["images/0.png"] == "labels.csv gives it 2 labels: a, b"
    assert reasons["gone.png"] == "labels.csv names it, but it is not there"
    assert reasons["labels.csv, line 5"] == "labels.csv names a file outside the folder"
    assert reasons["images/1.png"] == "it has no label"
    assert reasons["labels.csv"].startswith("it is not an image")
    assert reasons["images/2.png"] == "labels.csv does not name it, so it has no label"


def test_a_label_column_that_is_not_there_is_refused_with_those_that_are(table, folder) -> None:
    (table / "labels.csv").write_text("file,label\nimages/0.png,a\n")
    with pytest.raises(InvalidInput, match="no column 'species'; its columns are file, label"):
        layout_of(table, label_column="species")
    with pytest.raises(InvalidInput, match=r"but there is no labels.csv"):
        layout_of(folder, label_column="species")
    (table / "labels.csv").write_text("name,species\nimages/0.png,a\n")
    with pytest.raises(InvalidInput, match=r"labels.csv has no column 'file'"):
        layout_of(table, label_column="species")


def test_a_table_without_files_or_labels_leaves_class_folders_as_they_are(folder) -> None:
    (folder / "labels.csv").write_text("class,meaning\ncat,purrs\n")
    layout = layout_of(folder)
    assert (layout.classes, layout.tables) == (("cat", "dog"), ())
    assert layout.notes == ["labels.csv has no column 'file' and is not used"]
    (folder / "labels.csv").write_text("file,timestamp\ncat/00.png,2020-01-01\n")
    layout = layout_of(folder)
    assert layout.classes == ("cat", "dog")
    assert [table.name for table in layout.tables] == ["labels.csv"]


# -- split files


@pytest.fixture(params=["", "data/"])
def split_files(tmp_path, request) -> Path:
    root = tmp_path / "deep"
    base = root / request.param
    for number in range(6):
        write_image(base / "images" / "a folder" / f"image {number}.png", number)
    files = base / "dataset_files"
    files.mkdir()
    (files / "classes.txt").write_text("dogs\ncats\n\n")
    (files / "train.txt").write_text("".join(f"a folder/image {number}.png {number % 2}\n" for number in range(4)))
    (files / "test.txt").write_text("a folder/image 4.png 0\r\n")
    return root


def test_split_files_give_label_and_part_and_paths_may_hold_spaces(split_files) -> None:
    layout = layout_of(split_files)
    assert layout.classes == ("dogs", "cats")
    assert layout.given == {"train", "test"}
    assert taken(layout)["a folder/image 1.png"] == ("cats", "train")
    assert taken(layout)["a folder/image 4.png"] == ("dogs", "test")
    assert list(told(layout).values()) == ["no split file names it, so it has no label"]


def test_lines_of_split_files_that_cannot_be_used_are_left_out_with_reasons(split_files) -> None:
    files = next(split_files.rglob("dataset_files"))
    lines = ["a folder/image 4.png 0", "a folder/image 5.png", "gone.png 0", "a folder/image 5.png 7", "../x.png 0"]
    with (files / "train.txt").open("a") as stream:
        stream.write("\n".join(lines))
    reasons = told(layout_of(split_files))
    assert next(reason for file, reason in reasons.items() if file.endswith("image 4.png")) == (
        "train.txt names it again; it is kept in test.txt"
    )
    assert reasons["train.txt, line 6"] == "'a folder/image 5.png' has no label"
    assert next(reason for file, reason in reasons.items() if file.endswith("gone.png")) == (
        "train.txt names it, but it is not there"
    )
    assert reasons["train.txt, line 8"] == "label 7 is not one of the 2 in classes.txt, counted from 0"
    assert reasons["train.txt, line 9"] == "'../x.png' lies outside the folder"


def test_split_files_without_classes_or_training_images_are_refused(split_files) -> None:
    files = next(split_files.rglob("dataset_files"))
    (files / "train.txt").write_text("gone.png 0\n")
    with pytest.raises(InvalidInput, match="names no image that is there"):
        layout_of(split_files)
    (files / "classes.txt").write_text("dogs\ndogs\n")
    with pytest.raises(InvalidInput, match="names a class twice"):
        layout_of(split_files)
    (files / "classes.txt").unlink()
    with pytest.raises(InvalidInput, match=r"classes.txt is missing"):
        layout_of(split_files)
