"""Which images belong together."""

from pathlib import Path

import pytest

from volvox.data.folder import listed
from volvox.data.groups import Groups, read_groups
from volvox.data.layouts import read_layout
from volvox.data.options import Options
from volvox.errors import InvalidInput


def groups_of(root: Path, **options) -> Groups:
    chosen = Options(**options)
    return read_groups(read_layout(listed(root), chosen), chosen)


def write_table(root: Path, name: str, column: str, values: dict[str, str]) -> None:
    (root / name).write_text(f"file,{column}\n" + "".join(f"{file},{value}\n" for file, value in values.items()))


def names(root: Path) -> list[str]:
    return [found.path for found in listed(root).files if found.path.endswith(".png")]


def test_nothing_belongs_together_where_nothing_says_so(folder) -> None:
    assert groups_of(folder) == Groups()


def test_groups_csv_says_what_belongs_together(folder) -> None:
    write_table(folder, "groups.csv", "group", {file: file[-6] for file in names(folder) if file != "cat/00.png"})
    groups = groups_of(folder)
    assert groups.grouped_by == "groups.csv"
    assert groups.of["cat/01.png"] == groups.of["dog/01.png"]
    assert groups.of["cat/00.png"] == "file: cat/00.png"
    assert groups.notes == ["1 images have no group in groups.csv and count as one each"]


def test_a_column_named_group_in_labels_csv_is_not_taken_for_groups(folder) -> None:
    (folder / "labels.csv").write_text(
        "file,group,label\n" + "".join(f"{file},x,{file[:3]}\n" for file in names(folder))
    )
    assert groups_of(folder).grouped_by == ""
    assert groups_of(folder, group_column="group").grouped_by == "group"


@pytest.mark.parametrize("column", ["captured_utc", "captured_at", "capture_time", "timestamp", "datetime"])
def test_images_that_follow_each_other_within_the_gap_belong_together(folder, column) -> None:
    seconds = ["00", "40", "20"]  # a chain of 20 s
    times = dict.fromkeys(names(folder), "")
    times |= {file: f"2020-01-01T00:00:{second}" for file, second in zip(names(folder), seconds, strict=False)}
    times["dog/09.png"] = "2020-01-01T00:01:41"
    write_table(folder, "labels.csv", column, times)
    groups = groups_of(folder)
    assert groups.grouped_by == column
    assert len({groups.of[file] for file in names(folder)[:3]}) == 1
    assert groups.of["dog/09.png"] == "time: 2020-01-01T00:01:41.000+00:00"
    assert len({groups.of[file] for file in names(folder)}) == 18
    assert groups.notes == ["16 images have no time in labels.csv and belong to nothing"]
    assert len({groups_of(folder, time_gap_seconds=10.0).of[file] for file in names(folder)[:3]}) == 3
    assert groups_of(folder, time_gap_seconds=61.0).of["dog/09.png"] == groups.of["cat/00.png"]


def test_times_keep_nothing_together_if_told_so_or_if_a_found_column_holds_none(folder) -> None:
    write_table(folder, "groups.csv", "timestamp", dict.fromkeys(names(folder), "2020-01-01"))
    assert groups_of(folder).grouped_by == "timestamp"
    assert groups_of(folder, time_column="none").grouped_by == ""
    write_table(folder, "groups.csv", "timestamp", dict.fromkeys(names(folder), "soon"))
    assert groups_of(folder).grouped_by == ""


def test_a_column_that_is_asked_for_must_be_there_and_hold_times(folder) -> None:
    with pytest.raises(InvalidInput, match=r"neither groups.csv nor labels.csv"):
        groups_of(folder, time_column="when")
    write_table(folder, "groups.csv", "where", dict.fromkeys(names(folder), "here"))
    with pytest.raises(InvalidInput, match=r"no column 'when': groups.csv has file, where"):
        groups_of(folder, group_column="when")
    with pytest.raises(InvalidInput, match=r"column 'where' of groups.csv holds no time"):
        groups_of(folder, time_column="where")
