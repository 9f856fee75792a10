"""The task of the data stage."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.data import prepare_data
from tests.volvox.data.conftest import write_image
from volvox import progress
from volvox.data.options import Options
from volvox.errors import InvalidInput
from volvox.records import Dataset
from volvox.store import FolderStore


@pytest.fixture
def folder(tmp_path) -> Path:
    for start, label in enumerate(("cat", "dog")):
        for number in range(10):
            write_image(tmp_path / "pets" / label / f"{number:02}.png", start * 1000 + number)
    return tmp_path / "pets"


def prepared(home, source: Path | str, **parameters) -> tuple[Dataset, set[str]]:
    """The dataset, and the kinds of events that were told."""
    kinds: set[str] = set()
    with progress.listening(lambda event: kinds.add(event.kind) if event.kind != "worked" else None):
        made = asyncio.run(prepare_data.fn(str(source), store=FolderStore(Path(home.store)), **parameters))
    return made, kinds


def test_what_did_not_change_is_found_without_reading_a_file(home, folder, monkeypatch) -> None:
    first, told = prepared(home, folder)
    assert "reused" not in told
    monkeypatch.setattr("volvox.data.images.inspect", lambda found: pytest.fail(f"{found.path} is read"))
    again, told = prepared(home, folder)
    assert again == first
    assert told == {"reused"}


def test_another_option_or_a_changed_file_prepares_it_again_and_a_touched_one_gives_the_same(home, folder) -> None:
    first, _ = prepared(home, folder)
    other, told = prepared(home, folder, options=Options(seed=1))
    assert "reused" not in told
    assert other.digest != first.digest
    (folder / "cat" / "00.png").touch()
    touched, told = prepared(home, folder)
    assert "reused" not in told
    assert touched.digest == first.digest
    write_image(folder / "cat" / "00.png", 777)
    assert prepared(home, folder)[0].digest != first.digest


def test_a_record_whose_objects_are_gone_is_made_again(home, folder) -> None:
    first, _ = prepared(home, folder)
    FolderStore(Path(home.store)).path(first.learning_tree).unlink()
    again, told = prepared(home, folder)
    assert "reused" not in told
    assert again == first
    FolderStore(Path(home.store)).path(first.learning_tree)


def test_name_and_source_are_those_of_this_call_though_the_dataset_is_reused(home, folder, tmp_path) -> None:
    archive = shutil.make_archive(str(tmp_path / "Pets 2"), "zip", folder)
    one, _ = prepared(home, folder)
    two, _ = prepared(home, archive)
    assert (one.name, one.source) == ("pets", str(folder))
    assert (two.name, two.source) == ("pets-2", archive)
    assert one.digest == two.digest
    named, told = prepared(home, folder, name="others")
    assert (named.name, told) == ("others", {"reused"})


def test_wrong_input_leaves_no_record_and_no_object(home, folder) -> None:
    shutil.rmtree(folder / "dog")
    with pytest.raises(InvalidInput, match="holds one class"):
        prepared(home, folder)
    left = [path for path in Path(home.store).rglob("*") if path.is_file() and "locks" not in path.parts]
    assert not left


def test_the_1797_digits_of_the_demo_are_split_by_class_and_found_again(home, tmp_path) -> None:
    from volvox.data.demo import write_digits

    folder = write_digits(tmp_path / "digits")
    made, _ = prepared(home, folder)
    assert [made.total(part) for part in ("train", "val", "test")] == [1259, 270, 268]
    _, told = prepared(home, folder)
    assert told == {"reused"}


def test_a_cancel_leaves_nothing_running_and_nothing_half_made(home, folder) -> None:
    async def scenario() -> None:
        task = asyncio.create_task(prepare_data.fn(str(folder), store=FolderStore(Path(home.store))))

        def cancel(event: progress.Event) -> None:
            if event.kind == "advanced":
                loop.call_soon_threadsafe(task.cancel)
                time.sleep(0.1)

        loop = asyncio.get_running_loop()
        with progress.listening(cancel), pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert not (Path(home.store) / "records").exists()
    assert not list((Path(home.store) / "incoming").glob("*"))


def test_after_a_kill_in_the_middle_the_same_command_ends_with_the_same_dataset(home, folder, tmp_path) -> None:
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", folder)
    code = """
import asyncio, os, signal, sys
from pathlib import Path
from tasks.data import prepare_data
from volvox import progress
from volvox.store import FolderStore, Store
with progress.listening(lambda event: os.kill(os.getpid(), signal.SIGKILL) if event.unit == "images" else None):
    asyncio.run(prepare_data.fn(sys.argv[1], store=FolderStore(Path(sys.argv[2]))))
"""
    killed = subprocess.run([sys.executable, "-c", code, archive, home.store], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert list((home.cache / "unpacked").iterdir())
    made, told = prepared(home, archive)
    assert "reused" not in told
    assert not list((home.cache / "unpacked").iterdir())
    assert made.digest == prepared(home, folder)[0].digest
