"""What lies in a folder."""

import os
from pathlib import Path

import pytest

from volvox.data.folder import listed, plain_path
from volvox.errors import InvalidInput, NotFound


def problems(root: Path) -> dict[str, str]:
    return {found.path: found.problem for found in listed(root).files if found.problem}


def test_files_are_listed_by_name_and_hidden_ones_and_clutter_are_not(folder) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "config").touch()
    (folder / "cat" / ".DS_Store").touch()
    (folder / "cat" / "Thumbs.db").touch()
    names = [found.path for found in listed(folder).files]
    assert names == sorted(names)
    assert len(names) == 20


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path, folder) -> None:
    with pytest.raises(NotFound, match="there is no folder"):
        listed(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="is a file, not a folder"):
        listed(folder / "cat" / "00.png")


def test_links_that_leave_the_folder_are_problems_and_links_inside_are_not(tmp_path, folder) -> None:
    (tmp_path / "outside.png").write_bytes(b"x")
    (folder / "cat" / "out.png").symlink_to(tmp_path / "outside.png")
    (folder / "cat" / "in.png").symlink_to(folder / "dog" / "00.png")
    (folder / "cat" / "gone.png").symlink_to(folder / "nothing.png")
    (folder / "cat" / "loop.png").symlink_to("loop.png")
    (folder / "mouse").symlink_to(folder / "dog")
    told = problems(folder)
    assert told["cat/out.png"] == "it is a link that leaves the folder"
    assert told["mouse"] == "it is a link to a folder; such links are not followed"
    assert "cannot be reached" in told["cat/gone.png"]
    assert "cannot be reached" in told["cat/loop.png"]
    assert "cat/in.png" not in told


def test_a_pipe_is_a_problem_and_is_never_opened(folder) -> None:
    os.mkfifo(folder / "cat" / "pipe.png")
    assert problems(folder) == {"cat/pipe.png": "it is not a regular file"}


def test_names_that_are_no_text_are_problems(folder) -> None:
    Path(os.fsdecode(os.fsencode(folder / "cat") + b"/\xff.png")).touch()
    (folder / "cat" / "two\nlines.png").touch()
    (folder / "cat" / "caf\u00e9.png").touch()
    (folder / "cat" / "cafe\u0301.png").touch()
    told = problems(folder)
    assert told["cat/two\nlines.png"] == "its name holds control characters or is not UTF-8"
    assert told["cat/\\udcff.png"] == "its name holds control characters or is not UTF-8"
    assert told["cat/caf\u00e9.png (2)"].startswith("another file has the same name")


@pytest.mark.parametrize("change", ["add", "remove", "rename", "write", "mode", "empty folder"])
def test_the_fingerprint_changes_with(folder, change) -> None:
    before = listed(folder).fingerprint
    image = folder / "cat" / "00.png"
    match change:
        case "add":
            (folder / "cat" / "new.png").touch()
        case "remove":
            image.unlink()
        case "rename":
            image.rename(folder / "cat" / "x.png")
        case "write":
            image.write_bytes(image.read_bytes())
        case "mode":
            image.chmod(0)
        case "empty folder":
            (folder / "mouse").mkdir()
    assert listed(folder).fingerprint != before


def test_the_fingerprint_stays_where_nothing_changes(folder) -> None:
    assert listed(folder).fingerprint == listed(folder).fingerprint


def test_an_ordinary_user_is_told_of_folders_that_cannot_be_read(folder, as_user) -> None:
    (folder / "cat").chmod(0)
    code = """
import os, sys
from pathlib import Path
from volvox.data.folder import listed
from volvox.errors import InvalidInput
root = Path(sys.argv[1])
try:
    os.listdir(root / "cat")
except PermissionError:
    print("plain read fails")
print([(found.path, found.problem) for found in listed(root).files if found.problem])
try:
    listed(root / "cat")
except InvalidInput as error:
    print(error)
"""
    told = as_user(code, str(folder))
    folder.joinpath("cat").chmod(0o755)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "plain read fails"
    assert lines[1] == "[('cat/', 'the folder cannot be read (Permission denied)')]"
    assert lines[2] == f"the folder {folder}/cat cannot be read (Permission denied); make it readable for this user"


@pytest.mark.parametrize(
    ("written", "plain"),
    [("./a/b.png", "a/b.png"), ("a\\b.png", "a/b.png"), ("../b.png", ""), ("/b.png", ""), (" b.png ", "b.png")],
)
def test_paths_in_tables_are_plain_and_never_leave_the_folder(written, plain) -> None:
    assert plain_path(written) == plain
