"""What every kind of store does alike."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.volvox.store.places import QUICK, Place
from volvox.errors import NotFound, VolvoxError
from volvox.store import FolderStore, Store


def _folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def _locked(store: Store, key: str, seconds: float):
    """The lock, asked for until it is had."""
    end = time.monotonic() + seconds
    while (lock := store.try_lock("stage", key)) is None and time.monotonic() < end:
        time.sleep(0.05)
    return lock


def test_bytes_files_and_trees_have_the_digests_of_a_folder(place: Place, tmp_path: Path) -> None:
    other = FolderStore(tmp_path / "other")
    tree = _folder(tmp_path / "tree", {"b/ü #1%.txt": b"1", "a": b"", "b/z": b"x" * 3000})
    for store in (other, place.open()):
        assert store.put_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert store.put_bytes(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert store.put_file(tree / "b/z") == other.put_bytes(b"x" * 3000)
        assert store.put_tree(tree) == other.put_tree(tree)
        assert store.put_members({"a": b"", "b/z": lambda: b"x" * 3000}) == other.put_tree(
            tree, [tree / "a", tree / "b/z"]
        )
    there = place.open("another machine")
    assert there.path(other.put_bytes(b"abc")).read_bytes() == b"abc"
    assert there.path(other.put_bytes(b"")).read_bytes() == b""
    assert (there.tree(other.put_tree(tree)) / "b/ü #1%.txt").read_bytes() == b"1"


def test_a_large_file_comes_back_whole_on_another_machine(place: Place, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(20_000_001)
    (tmp_path / "large").write_bytes(data)
    digest = place.open().put_file(tmp_path / "large")
    there = place.open("another machine")
    assert there.has(digest)
    assert there.path(digest).read_bytes() == data
    assert not list(tmp_path.glob("*/incoming/*")), "nothing half-fetched stays"


def test_what_is_not_there_is_not_found(place: Place) -> None:
    store = place.open()
    assert not store.has("0" * 64)
    for ask in (store.path, store.tree):
        with pytest.raises(NotFound, match="holds no object 000000000000; run the stage that makes it again"):
            ask("0" * 64)


def test_records_come_back_and_their_keys_are_listed(place: Place) -> None:
    store, there = place.open(), place.open("another machine")
    assert store.record("training", "k") is None
    assert store.keys("training") == []
    for key in ("k2", "k1"):
        store.put_record("training", key, {"name": key, "ü": [1, None]})
    store.put_record("training2", "k3", {})
    assert there.record("training", "k1") == {"name": "k1", "ü": [1, None]}
    assert there.keys("training") == ["k1", "k2"]
    store.put_record("training", "k1", {"name": "again"})
    assert there.record("training", "k1") == {"name": "again"}


def test_a_lock_that_another_process_holds_is_had_when_it_lets_go(place: Place) -> None:
    child = place.run("lock = store.try_lock('stage', 'key'); say(bool(lock)); hear(); lock.close(); say('closed')")
    assert child.stdout and child.stdin
    assert child.stdout.readline() == "True\n"
    store = place.open()
    assert store.try_lock("stage", "key") is None
    other = store.try_lock("stage", "another key")
    assert other is not None
    other.close()
    time.sleep(QUICK.lapse + 0.5)  # a holder that lives is not taken for dead
    assert store.try_lock("stage", "key") is None
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "closed\n"
    lock = _locked(store, "key", 10)
    assert lock is not None and not lock.lost
    lock.close()


def test_the_lock_of_a_killed_holder_is_had_before_long(place: Place) -> None:
    child = place.run("lock = store.try_lock('stage', 'key'); say(bool(lock)); hear()")
    assert child.stdout
    assert child.stdout.readline() == "True\n"
    store = place.open()
    assert store.try_lock("stage", "key") is None
    child.kill()
    child.wait()
    lock = _locked(store, "key", QUICK.lapse + 10)
    assert lock is not None
    lock.close()


def test_of_many_who_want_a_lock_at_once_one_has_it(place: Place) -> None:
    stores = [place.open(f"machine {number}") for number in range(6)]
    for key in ("a", "b", "c"):
        had, barrier = [], threading.Barrier(len(stores))

        def want(store: Store, key: str = key, had: list = had, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            if (lock := store.try_lock("stage", key)) is not None:
                had.append(lock)

        threads = [threading.Thread(target=want, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(had) == 1, key
        had[0].close()


def test_whoever_comes_second_waits(place: Place) -> None:
    first, second = place.open(), place.open("another machine")
    order: list[str] = []
    begun = threading.Event()

    def hold() -> None:
        with first.locked("stage", "key"):
            begun.set()
            time.sleep(0.5)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    with second.locked("stage", "key"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_checkpoints_of_a_killed_writer_are_gone_on_from_elsewhere(place: Place) -> None:
    child = place.run(
        "with store.locked('training', 'key'), store.checkpoints('key') as folder:\n"
        "    (folder / 'sub').mkdir()\n"
        "    (folder / 'sub' / 'ü #1%.bin').write_bytes(b'5' * 9_000_000)\n"
        "    (folder / 'epoch-1').write_bytes(b'1')\n"
        "    (folder / 'epoch-2.part').write_bytes(b'2')\n"
        "    (folder / 'epoch-2.part').replace(folder / 'epoch-2')\n"
        "    say('written'); hear(); (folder / 'epoch-1').unlink(); say('removed'); hear()\n"
    )
    assert child.stdout and child.stdin
    assert child.stdout.readline() == "written\n"
    _await_kept(place, {"sub/ü #1%.bin", "epoch-1", "epoch-2"})
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "removed\n"
    _await_kept(place, {"sub/ü #1%.bin", "epoch-2"})
    child.kill()
    child.wait()
    there = place.open("another machine")
    with there.locked("training", "key"), there.checkpoints("key") as folder:
        assert {path.name for path in folder.rglob("*") if path.is_file()} == {"ü #1%.bin", "epoch-2"}
        assert (folder / "epoch-2").read_bytes() == b"2"
        assert (folder / "sub" / "ü #1%.bin").read_bytes() == b"5" * 9_000_000
        (folder / "epoch-3").write_bytes(b"3")  # not settled, but the end of the block keeps it
    with place.open("a third").checkpoints("key") as folder:
        assert (folder / "epoch-3").read_bytes() == b"3"
    there.drop_checkpoints("key")
    there.drop_checkpoints("key")
    with place.open("a third").checkpoints("key") as folder:
        assert not list(folder.iterdir())


def test_checkpoints_outlive_an_error(place: Place) -> None:
    with pytest.raises(RuntimeError), place.open().checkpoints("key") as folder:
        (folder / "epoch-1").write_bytes(b"1")
        raise RuntimeError
    with place.open("another machine").checkpoints("key") as folder:
        assert (folder / "epoch-1").read_bytes() == b"1"


def test_other_bytes_than_the_name_says_are_an_error_and_leave_nothing(place: Place) -> None:
    if place.access is None:
        pytest.skip("what lies in a folder is not fetched")
    store = place.open()
    digest = store.put_bytes(b"right")
    key = f"some/prefix/objects/{digest[:2]}/{digest}"
    place.client().put_object(Bucket=place.bucket, Key=key, Body=b"wrong")
    there = place.open("another machine")
    for ask in (there.path, there.tree):
        with pytest.raises(VolvoxError, match="has other bytes than its name says; remove objects/"):
            ask(digest)
    assert not [path for path in there.cache.rglob("*") if path.is_file()]
    assert not (there.cache / "trees" / digest).exists()


def _await_kept(place: Place, names: set[str]) -> None:
    """Until these checkpoints, and no others, are where the store keeps them."""
    end = time.monotonic() + 90
    found: set[str] = set()
    while found != names and time.monotonic() < end:
        time.sleep(0.1)
        if place.access is None:
            root = Path(place.address) / "checkpoints" / "key"
            found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        else:
            prefix = "some/prefix/checkpoints/key/"
            listed = place.client().list_objects_v2(Bucket=place.bucket, Prefix=prefix).get("Contents", [])
            found = {one["Key"].removeprefix(prefix) for one in listed}
    assert found == names
