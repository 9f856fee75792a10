"""Archives that somebody else made."""

import contextlib
import gzip
import io
import os
import random
import struct
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from volvox.cancelling import Cancelled
from volvox.data.archives import Limits, is_archive, unpack
from volvox.errors import InvalidInput


@pytest.fixture
def target(tmp_path) -> Path:
    folder = tmp_path / "a" / "target"
    folder.mkdir(parents=True)
    return folder


def zipped(path: Path, members: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes], *special: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for entry in special:
            archive.addfile(entry)
    return path


def refusal(archive: Path, target: Path, limits: Limits | None = None) -> str:
    with pytest.raises(InvalidInput) as caught:
        unpack(archive, target, threading.Event(), limits)
    return str(caught.value)


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


MEMBERS = {"cat/a.png": b"a" * 2000, "cat/deep/b.png": b"", "dog/c d.png": b"c" * 512, "x" * 90 + "/" + "y" * 90: b"1"}


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:bz2", "w:xz"])
def test_every_kind_of_tar_gives_its_files(tmp_path, target, mode) -> None:
    archive = tarred(tmp_path / "anything", MEMBERS, mode=mode)
    assert is_archive(archive)
    unpack(archive, target, threading.Event())
    assert everything(target) == MEMBERS


def test_a_zip_gives_its_files_also_one_that_windows_wrote(tmp_path, target) -> None:
    archive = zipped(tmp_path / "anything", {"cat\\a.png": b"a", "dog/": b"", "dog/b.png": b"b"})
    assert is_archive(archive)
    unpack(archive, target, threading.Event())
    assert everything(target) == {"cat/a.png": b"a", "dog/b.png": b"b"}


def test_a_file_that_is_no_archive_is_none(tmp_path, target) -> None:
    (tmp_path / "x.zip").write_text("no archive" * 100)
    assert not is_archive(tmp_path / "x.zip")
    assert not is_archive(tmp_path / "nowhere")
    assert "not a whole zip, tar" in refusal(tmp_path / "x.zip", target)


@pytest.mark.parametrize("name", ["../evil.png", "cat/../../evil.png", "/evil.png", "C:/evil.png", "n" * 1100])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_paths_that_leave_the_folder_are_refused(tmp_path, target, pack, name) -> None:
    assert "would lie outside the folder" in refusal(pack(tmp_path / "x", {name: b"x"}), target)
    assert not everything(tmp_path / "a")


def test_a_backslash_path_that_leaves_the_folder_is_refused(tmp_path, target) -> None:
    assert "would lie outside the folder" in refusal(zipped(tmp_path / "x", {"..\\evil.png": b"x"}), target)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, target, kind) -> None:
    entry = tarfile.TarInfo("cat/link.png")
    entry.type, entry.linkname = kind, "/etc/passwd"
    assert "is a link or a device" in refusal(tarred(tmp_path / "x", {"cat/a": b"a"}, entry), target)


def test_a_link_in_a_zip_is_refused(tmp_path, target) -> None:
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "is a link or a device" in refusal(tmp_path / "x", target)


@pytest.mark.parametrize("other", ["cat/A.png", "cat/a.png", "cat/a.png/b.png", "CAT/a.png"])
@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_want_one_place_are_refused(tmp_path, target, pack, other) -> None:
    path = tmp_path / "x"
    if other == "cat/a.png":
        if pack is zipped:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(other, b"1")
                archive.writestr(other, b"2")
        else:
            entry = tarfile.TarInfo(other)
            tarred(path, {other: b"1"}, entry)
    else:
        pack(path, {"cat/a.png": b"1", other: b"2"})
    assert "is there twice" in (told := refusal(path, target)) or "want the place" in told


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_a_folder_may_be_named_again_and_again_in_a_tar(tmp_path, target, mode) -> None:
    folders = [tarfile.TarInfo("cat"), tarfile.TarInfo("cat/")]
    for entry in folders:
        entry.type = tarfile.DIRTYPE
    unpack(tarred(tmp_path / "x", {"cat/a.png": b"a"}, *folders, mode=mode), target, threading.Event())
    assert everything(target) == {"cat/a.png": b"a"}


def test_an_encrypted_zip_is_refused(tmp_path, target) -> None:
    archive = zipped(tmp_path / "x", {"cat/a.png": b"a"})
    data = bytearray(archive.read_bytes())
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + offset] |= 1
    archive.write_bytes(data)
    assert "is encrypted" in refusal(archive, target)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_bombs_are_refused_by_number_size_and_ratio(tmp_path, target, pack) -> None:
    many = pack(tmp_path / "many", {str(number): b"" for number in range(11)})
    assert "at most 10" in (told := refusal(many, target, Limits(members=10))) or "more than 10 members" in told
    large = pack(tmp_path / "large", {"x": bytes(100_000)})
    assert "unpacks to more than 50,000 bytes" in refusal(large, target, Limits(bytes=50_000))
    (target / "x").unlink(missing_ok=True)
    assert "more than 10 times its size" in refusal(large, target, Limits(ratio=10, ratio_from=1000))
    assert sum(map(len, everything(target).values())) <= 100_000


def test_a_real_bomb_is_refused_by_the_usual_limits(tmp_path, target) -> None:
    archive = zipped(tmp_path / "x", {"x": bytes(100 << 20)})
    assert "more than 200 times its size" in refusal(archive, target)
    assert not everything(target)


def test_a_tar_whose_header_would_fill_the_memory_is_refused(tmp_path, target) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    with gzip.open(tmp_path / "x", "wb") as stream:
        stream.write(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20))
    assert "a header is longer than any real one" in refusal(tmp_path / "x", target)


def test_what_follows_the_last_member_of_a_tar_is_measured_too(tmp_path, target) -> None:
    archive = tarred(tmp_path / "x", MEMBERS)
    with archive.open("ab") as stream:
        stream.write(gzip.compress(bytes(10 << 20)))
    assert "unpacks to more than 1,048,576 bytes" in refusal(archive, target, Limits(bytes=1 << 20))


@pytest.mark.parametrize("kind", ["zip", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_is_cut_off_or_damaged_is_refused(tmp_path, target, kind) -> None:
    members = {"cat/a.png": os.urandom(50_000), "cat/b.png": os.urandom(50_000)}
    archive = zipped(tmp_path / "x", members) if kind == "zip" else tarred(tmp_path / "x", members, mode=kind)
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-30_000])
    assert "fetch it again" in refusal(archive, target)
    damaged = bytearray(whole)
    damaged[20_000:20_010] = bytes(10)
    archive.write_bytes(damaged)
    other = target.parent / "other"
    other.mkdir()
    assert "fetch it again" in refusal(archive, other)


@pytest.mark.parametrize("kind", ["zip", "w:", "w:gz"])
def test_whatever_bytes_are_changed_it_is_unpacked_or_refused(tmp_path, target, kind) -> None:
    archive = zipped(tmp_path / "x", MEMBERS) if kind == "zip" else tarred(tmp_path / "x", MEMBERS, mode=kind)
    whole, chance = archive.read_bytes(), random.Random(0)
    for number in range(200):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        archive.write_bytes(changed)
        place = target / str(number)
        place.mkdir()
        with contextlib.suppress(InvalidInput):
            unpack(archive, place, threading.Event())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "x"]


def test_a_name_that_no_disk_takes_is_refused_and_errors_name_the_archive_as_told(tmp_path, target) -> None:
    archive = tarred(tmp_path / "x", {"n" * 300: b"1"})
    with pytest.raises(InvalidInput, match=r"the archive pets.zip is refused: .* has too long a name"):
        unpack(archive, target, threading.Event(), shown="pets.zip")


def test_a_zip_that_lies_about_sizes_is_refused(tmp_path, target) -> None:
    archive = zipped(tmp_path / "x", {"x": bytes(100_000)})
    data = archive.read_bytes().replace(struct.pack("<L", 100_000), struct.pack("<L", 10))
    archive.write_bytes(data)
    assert "fetch it again" in refusal(archive, target)


def test_a_cancel_ends_it(tmp_path, target) -> None:
    cancelled = threading.Event()
    cancelled.set()
    for pack in (zipped, tarred):
        with pytest.raises(Cancelled):
            unpack(pack(tmp_path / "x", MEMBERS), target, cancelled)
