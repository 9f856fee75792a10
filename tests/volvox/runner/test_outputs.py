"""Which files a script wrote, which of them go where, and what somebody who waits gets."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volvox.runner.outputs import answer, collect, fits


def test_files_are_found_in_order_with_their_folders(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("a.txt", "b/c/d.txt", "b/.hidden", "ü b+%2F"):
        (tmp_path / name).write_text(name)
    (tmp_path / "inside").symlink_to("a.txt")
    found, refused = collect(tmp_path)
    assert [one.relative for one in found] == ["a.txt", "b/.hidden", "b/c/d.txt", "inside", "ü b+%2F"]
    assert refused == [] and found[3].size == 5


def test_what_leaves_the_folder_or_is_no_file_is_left_out_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    (tmp_path / "output-secret").write_text("secret")
    (folder / "absolute").symlink_to("/etc/hostname")
    (folder / "relative").symlink_to("../output-secret")
    (folder / "chain").symlink_to("relative")
    (folder / "broken").symlink_to("nothing")
    (folder / "around").symlink_to("around")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    found, refused = collect(folder)
    assert found == [] and len(refused) == 7
    assert {line.split()[0] for line in refused} == {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("relative", "prefix", "suffix", "expected"),
    [
        ("a/b.png", (), (), True),
        ("a/b.png", ("a/",), (), True),
        ("a/b.png", ("b",), (), False),  # it is the path that counts, not the name
        ("a/b.png", ("x", "a"), (".jpg", ".png"), True),
        ("a/b.png", ("a",), (".jpg",), False),
        ("a/b.png", ("x",), (".png",), False),
    ],
)
def test_one_of_each_list_must_fit(relative: str, prefix: tuple, suffix: tuple, expected: bool) -> None:
    assert fits(relative, prefix, suffix) is expected


@given(st.text(), st.lists(st.text()), st.lists(st.text()))
def test_a_path_fits_if_any_of_each_list_does(relative: str, prefix: list[str], suffix: list[str]) -> None:
    begins = not prefix or any(relative.startswith(one) for one in prefix)
    assert fits(relative, prefix, suffix) is (begins and (not suffix or any(map(relative.endswith, suffix))))


def test_one_file_is_the_answer_several_are_a_zip_and_none_is_what_was_printed(tmp_path: Path) -> None:
    folder, target = tmp_path / "output", tmp_path / "answer"
    folder.mkdir()
    assert answer(folder, b"printed", target) == (target, "") and target.read_bytes() == b"printed"
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("a")
    assert answer(folder, b"printed", target) == (folder / "sub" / "a.txt", "a.txt")
    (folder / "b.txt").write_text("b")
    assert answer(folder, b"printed", target) == (target, "outputs.zip")
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["b.txt", "sub/a.txt"] and archive.read("sub/a.txt") == b"a"
