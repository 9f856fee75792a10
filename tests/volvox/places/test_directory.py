from __future__ import annotations

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.places import open_place
from volvox.places.addresses import parsed
from volvox.places.directory import Directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    return tmp_path / "place"


@pytest.fixture
def place(root: Path) -> Directory:
    return Directory(parsed(str(root)))


def test_a_link_that_leads_out_is_refused_and_not_listed(place: Directory, root: Path, tmp_path: Path) -> None:
    (root / "file").symlink_to(tmp_path / "outside" / "secret")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "up").symlink_to("../outside/secret")
    source = tmp_path / "outside" / "secret"
    for key in ("file", "folder/secret", "up"):
        for ask in (place.find, lambda key: place.fetch(key, tmp_path / "target")):
            with pytest.raises(InvalidInput, match="leads out of the folder"):
                ask(key)
    for ask in (lambda: place.put("folder/a", source), lambda: place.remove("folder/secret")):
        with pytest.raises(InvalidInput, match="leads out of the folder"):
            ask()
    assert list(place.list()) == []
    assert not (tmp_path / "target").exists()
    assert place.put("file", source) is False, "something is there"
    assert (root / "file").is_symlink()


def test_a_link_that_stays_is_followed_and_a_circle_is_none(place: Directory, root: Path, tmp_path: Path) -> None:
    (root / "a").write_bytes(b"1")
    (root / "in").mkdir()
    (root / "in" / "b").symlink_to("../a")
    (root / "in" / "round").symlink_to("..")
    (root / "loop").symlink_to("loop")
    assert [one.key for one in place.list()] == ["a", "in/b"]
    place.fetch("in/b", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"1"


def test_what_is_no_file_is_none(place: Directory, root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    assert place.find("pipe") is None
    assert place.find("folder") is None
    assert list(place.list()) == []
    with pytest.raises(NotFound, match="no file"):
        place.fetch("pipe", tmp_path / "target")
    assert place.remove("folder") is False
    for key in ("folder/x/y", "folder"):
        source = tmp_path / "outside" / "secret"
        assert place.put(key, source) is (key != "folder")


def test_hidden_files_and_names_that_are_no_text_are_left_out(place: Directory, root: Path) -> None:
    for name in (b".DS_Store", b".nfs0001", b"\xff.png", b"a", b".git/x"):
        path = root / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1")
    assert [one.key for one in place.list()] == ["a"]


def test_names_that_the_file_system_cannot_hold_are_refused(place: Directory, tmp_path: Path) -> None:
    key = "x" * 300
    with pytest.raises(InvalidInput, match="too long for its file system"):
        place.put(key, tmp_path / "outside" / "secret")
    with pytest.raises(InvalidInput, match="too long for its file system"):
        place.find(key)
    assert place.put("a", tmp_path / "outside" / "secret")
    with pytest.raises(InvalidInput, match="can be no file there"):
        place.put("a/b", tmp_path / "outside" / "secret")


def test_a_file_system_without_links_is_written_too(
    place: Directory, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*arguments: object, **more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    source = tmp_path / "outside" / "secret"
    assert place.put("a", source) is True
    assert place.put("a", source) is False
    assert [one.name for one in root.iterdir()] == ["a"]


def test_nothing_half_written_stays_when_the_disk_is_full(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 8_000_000)
    (tmp_path / "small").write_bytes(b"x")
    place = open_place(str(small_disk))
    with pytest.raises(Unavailable, match="is full; free some space there"):
        place.put("a", tmp_path / "large")
    assert list(small_disk.iterdir()) == []
    assert place.put("a", tmp_path / "small")


def test_a_folder_that_others_own_says_who(as_user, tmp_path: Path, root: Path) -> None:
    if os.getuid():
        pytest.skip("only root may give files away")
    (root / "a").write_bytes(b"1")
    assert Directory(parsed(str(root))).find("a").user == ""
    os.chown(root / "a", 65534, 65534)
    assert Directory(parsed(str(root))).find("a").user == "nobody"


def test_a_folder_that_may_not_be_read_is_told(as_user, tmp_path: Path, root: Path) -> None:
    (root / "a").write_bytes(b"1")
    (root / "a").chmod(0o600)
    told = as_user(
        "import sys, tempfile\nfrom pathlib import Path\n"
        "from volvox.places import open_place\nfrom volvox.errors import InvalidInput\n"
        "place, target = open_place(sys.argv[1]), Path(tempfile.mkdtemp()) / 'a'\n"
        "print(place.find('a').size, 'byte')\n"
        "for ask in (lambda: place.fetch('a', target), lambda: place.put('b', Path('/etc/hostname'))):\n"
        "    try: ask()\n"
        "    except InvalidInput as error: print(error)",
        str(root),
    )
    if os.getuid():
        pytest.skip("this user owns the file")
    assert told.stdout.count("is refused to this user (Permission denied); change its owner or mode") == 2, told.stderr
    assert told.stdout.startswith("1 byte"), "it is there all the same"


@pytest.mark.soak
def test_a_hundred_thousand_files_are_listed_in_the_memory_of_one_folder(root: Path, place: Directory) -> None:
    for folder in range(200):
        (root / f"{folder:03}").mkdir(exist_ok=True)
        for number in range(500):
            os.close(os.open(root / f"{folder:03}" / f"{number:04}", os.O_CREAT))
    tracemalloc.start()
    assert sum(1 for _ in place.list()) == 100_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4_000_000, "all of them would take 30 MB"
