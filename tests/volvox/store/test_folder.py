import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from volvox.errors import InvalidInput, NotFound, VolvoxError
from volvox.store import FolderStore, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


def test_an_object_comes_back_by_the_sha256_of_its_bytes(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    digest = store.put_file(tmp_path / "file")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert store.put_bytes(b"abc") == digest
    assert store.path(digest).read_bytes() == b"abc"


def test_a_tree_has_one_digest_whatever_the_times_and_modes_of_its_files(store: Store, tmp_path: Path) -> None:
    digests = []
    for name, mode in (("first", 0o600), ("second", 0o755)):
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        for file in ("sub/b", "a"):
            (folder / file).write_text(file)
            (folder / file).chmod(mode)
            os.utime(folder / file, (mode, mode))
        digests.append(store.put_tree(folder))
    assert digests[0] == digests[1]
    unpacked = store.tree(digests[0])
    assert sorted(path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()) == [
        "a",
        "sub/b",
    ]


def test_what_the_store_does_not_hold_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="holds no object"):
        store.tree("0" * 64)


def test_half_a_record_counts_as_none(store: Store) -> None:
    store.put_record("training", "key", {"a": 1})
    assert store.record("training", "key") == {"a": 1}
    (store.root / "records" / "training" / "key.json").write_text('{"a"')
    assert store.record("training", "key") is None


def test_the_lock_of_a_killed_process_is_free_again(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from volvox.store import FolderStore\n"
        "lock = FolderStore(Path(sys.argv[1])).try_lock('s', 'k'); print(lock is not None, flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "True\n"
    assert store.try_lock("s", "k") is None
    child.kill()
    child.wait()
    lock = store.try_lock("s", "k")
    assert lock is not None
    lock.close()


def test_two_threads_that_unpack_one_tree_get_the_same_folder(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(50):
        (folder / str(number)).write_text(str(number))
    digest, found = store.put_tree(folder), []
    threads = [threading.Thread(target=lambda: found.append(store.tree(digest))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(list(found[0].iterdir())) == 50
    assert [path.name for path in found[0].parent.iterdir()] == [digest], "nothing half-unpacked stays"


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(small_disk: Path) -> None:
    store = FolderStore(small_disk / "store")
    kept = store.put_bytes(b"small")
    with pytest.raises(VolvoxError, match=r"disk of .* is full"):
        store.put_bytes(b"x" * (8 << 20))
    assert store.has(kept)
    assert not list((store.root / "incoming").iterdir())


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give the path of a folder"):
        Store.open("ftp://somewhere")


WRITES = (
    "import os, sys; from pathlib import Path; from volvox.store import FolderStore\n"
    "with FolderStore(Path(sys.argv[1]))._incoming() as path:\n"
    "    print(path.name, flush=True); input()"
)


def writer(store: Store, *before: str) -> tuple[subprocess.Popen[str], str]:
    """A process that is writing, and the name of its file."""
    command = [*before, sys.executable, "-c", WRITES, str(store.root)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    return child, child.stdout.readline().strip()


def test_what_a_killed_process_was_writing_is_swept_and_a_living_ones_is_not(store: Store) -> None:
    (killed, _), (living, name) = writer(store), writer(store)
    killed.kill()
    killed.wait()
    store.put_bytes(b"something")
    assert [path.name for path in (store.root / "incoming").iterdir()] == [name]
    living.kill()
    living.wait()


def test_what_is_written_in_a_container_is_not_swept_from_outside(store: Store) -> None:
    """One on the host's network has the host's name, and pids that mean others here."""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not have pids of their own")
    child, name = writer(store, *apart)
    assert name.startswith("1-")
    store.put_bytes(b"something")
    assert [path.name for path in (store.root / "incoming").iterdir()] == [name]
    child.kill()
    child.wait()
