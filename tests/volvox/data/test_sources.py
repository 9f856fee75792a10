"""Where labelled data comes from."""

import hashlib
import shutil
import threading
from pathlib import Path

import pytest

from tests.volvox.data.conftest import write_image
from volvox.data.folder import Folder
from volvox.data.sources import find_source
from volvox.errors import InvalidInput, NotFound


def names(source) -> list[str]:
    with source.opened(threading.Event()) as folder:
        assert isinstance(folder, Folder)
        return [found.path for found in folder.files]


@pytest.fixture(params=["zip", "tar", "gztar", "bztar", "xztar"])
def archive(folder, tmp_path, request) -> Path:
    return Path(shutil.make_archive(str(tmp_path / "My Pets"), request.param, folder))


def test_a_folder_is_read_in_place(folder, home) -> None:
    source = find_source(str(folder), home)
    assert (source.shown, source.name) == (str(folder), "pets")
    assert len(names(source)) == 20
    assert find_source(f"file://{folder}", home).shown == str(folder)


def test_an_archive_gives_the_same_files_as_its_folder_and_leaves_nothing_behind(folder, archive, home) -> None:
    source = find_source(f"file://{str(archive).replace(' ', '%20')}", home)
    assert source.name == "my-pets"
    assert names(source) == names(find_source(str(folder), home))
    assert not list((home.cache / "unpacked").iterdir())


def test_a_folder_that_an_archive_wraps_around_its_content_is_taken_off(folder, tmp_path, home) -> None:
    archive = shutil.make_archive(str(tmp_path / "wrapped"), "zip", folder.parent, "pets")
    assert names(find_source(archive, home)) == names(find_source(str(folder), home))


def test_a_single_class_in_an_archive_is_not_taken_for_a_wrapper(folder, tmp_path, home) -> None:
    archive = shutil.make_archive(str(tmp_path / "one"), "zip", folder, "cat")
    assert names(find_source(archive, home))[0] == "cat/00.png"


def test_the_sum_of_an_archive_is_checked(archive, home) -> None:
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert len(names(find_source(str(archive), home, right.upper()))) == 20
    with pytest.raises(InvalidInput, match=f"has the sha256 {right}, not 1111"):
        names(find_source(str(archive), home, "1" * 64))


def test_sums_that_make_no_sense_are_refused(folder, home) -> None:
    with pytest.raises(InvalidInput, match="which is a folder; sums are those of archives"):
        find_source(str(folder), home, "1" * 64)
    with pytest.raises(InvalidInput, match="is not a sha256: it has 64 hexadecimal digits"):
        find_source(str(folder), home, "abc")


def test_an_archive_is_fetched_once_and_known_by_its_etag(folder, archive, web, home) -> None:
    web.files["/pets.zip"] = archive.read_bytes()
    address = f"{web.address}/pets.zip?token=secret"
    source = find_source(address, home)
    assert (source.shown, source.name) == (f"{web.address}/pets.zip", "pets")
    before = source.fingerprint(threading.Event())
    assert names(source) == names(find_source(str(folder), home))
    assert find_source(address, home).fingerprint(threading.Event()) == before
    web.files["/pets.zip"] += b"\0"
    assert find_source(address, home).fingerprint(threading.Event()) != before


def test_a_server_without_etags_is_known_by_the_bytes_it_gives(archive, web, home) -> None:
    web.etags, web.files["/pets.zip"] = False, archive.read_bytes()
    source = find_source(f"{web.address}/pets.zip", home)
    before = source.fingerprint(threading.Event())
    assert find_source(f"{web.address}/pets.zip", home).fingerprint(threading.Event()) == before
    assert len(names(source)) == 20


def test_with_its_sum_an_archive_that_was_fetched_needs_no_server(archive, web, home) -> None:
    web.files["/pets.zip"] = archive.read_bytes()
    given = hashlib.sha256(archive.read_bytes()).hexdigest()
    first = find_source(f"{web.address}/pets.zip", home, given)
    assert len(names(first)) == 20
    web.files.clear()
    again = find_source(f"{web.address}/pets.zip", home, given)
    assert again.fingerprint(threading.Event()) == first.fingerprint(threading.Event())
    assert len(names(again)) == 20


def test_a_local_archive_is_another_one_when_it_is_written_again(archive, home) -> None:
    before = find_source(str(archive), home).fingerprint(threading.Event())
    assert find_source(str(archive), home).fingerprint(threading.Event()) == before
    archive.write_bytes(archive.read_bytes())
    assert find_source(str(archive), home).fingerprint(threading.Event()) != before


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("/nowhere/at/all", NotFound, "there is nothing at /nowhere/at/all"),
        ("ftp://host/a.zip", InvalidInput, "ftp:// is not known; give a path"),
        ("file://other/path", InvalidInput, "names another machine"),
        ("s3://", InvalidInput, "names no object; give s3://BUCKET/archive.zip"),
        ("s3://bucket", InvalidInput, "names no object; give s3://BUCKET/archive.zip"),
        ("https://", InvalidInput, "is not a web address"),
    ],
)
def test_addresses_that_name_nothing_are_one_sentence(home, address, kind, message) -> None:
    with pytest.raises(kind, match=message):
        find_source(address, home)


def test_a_file_that_is_no_archive_is_one_sentence(tmp_path, home) -> None:
    image = write_image(tmp_path / "only.png", 1)
    with pytest.raises(InvalidInput, match=r"only.png is neither a folder nor an archive \(zip, tar, tar.gz"):
        names(find_source(str(image), home))


def test_an_archive_that_an_ordinary_user_may_not_read_is_one_sentence(folder, tmp_path, as_user) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "locked"), "zip", folder))
    archive.chmod(0)
    code = """
import sys, tempfile, threading
from pathlib import Path
from volvox.data.sources import find_source
from volvox.errors import InvalidInput
from volvox.settings import Home
try:
    Path(sys.argv[1]).read_bytes()
except PermissionError:
    print("plain read fails")
for given in ("", "1" * 64):
    with tempfile.TemporaryDirectory() as place:
        try:
            with find_source(sys.argv[1], Home(Path(place)), given).opened(threading.Event()):
                pass
        except InvalidInput as error:
            print(error)
"""
    told = as_user(code, str(archive))
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == "plain read fails"
    assert len(lines) == 3
    assert all(line.startswith(f"{archive} cannot be read (Permission denied)") for line in lines[1:])
