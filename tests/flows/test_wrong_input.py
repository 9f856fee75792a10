"""Wrong input, by the command line: a sentence, an exit code, and nothing half-made."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.flows.conftest import QUICK, SMALL, Installation
from volvox.identity import process_started

pytestmark = pytest.mark.cycle


def _refused(installation: Installation, *words: str, code: int = 2) -> str:
    """Run, expect exit code `code` and one sentence on standard error; return the sentence."""
    done = installation.run(*words, check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return said[0]


def _published(installation: Installation) -> set[str]:
    """Names of all that was registered, catalogued or served."""
    folders = [installation.home / "catalogue", installation.home / "serving"]
    entries = {path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_dir()}
    return entries | {name for name, _ in installation.registered()}


@pytest.fixture
def folder(tmp_path: Path, digits: Path) -> Path:
    """A copy of the small digits that a test may spoil."""
    return Path(shutil.copytree(digits, tmp_path / "spoiled"))


def test_no_folder(installation: Installation) -> None:
    assert "/nowhere/at/all" in _refused(installation, "cycle", "/nowhere/at/all", *SMALL)


def test_no_folder_is_told_before_anything_is_started(tmp_path: Path) -> None:
    fresh = Installation(tmp_path / "home", {})
    assert "/nowhere/at/all" in _refused(fresh, "cycle", "/nowhere/at/all", *SMALL)
    assert not (fresh.home / "stack").exists()


def test_neither_a_folder_nor_demo(installation: Installation) -> None:
    assert "give a folder" in _refused(installation, "cycle")


def test_an_empty_folder(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image" in _refused(installation, "cycle", str(tmp_path / "empty"), *SMALL)
    assert "empty" not in _published(installation)


def test_one_class(installation: Installation, folder: Path) -> None:
    for name in ("1", "2"):
        shutil.rmtree(folder / name)
    assert "class" in _refused(installation, "cycle", str(folder), *SMALL)
    assert "spoiled" not in _published(installation)


def test_a_class_of_one_image(installation: Installation, folder: Path) -> None:
    for image in sorted((folder / "2").iterdir())[1:]:
        image.unlink()
    sentence = _refused(installation, "cycle", str(folder), *SMALL)
    assert "'2'" in sentence
    assert "1" in sentence


def test_five_broken_images_among_many_are_listed_and_left_out(installation: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for label in range(2):
        (folder / str(label)).mkdir(parents=True)
        for number in range(250):
            Image.new("L", (4, 4), (number * 7 + label) % 256).resize((4 + number % 40, 4 + number // 40)).save(
                folder / str(label) / f"{number}.png"
            )
    for number in range(5):
        path = folder / "0" / f"{number}.png"
        path.write_bytes(path.read_bytes()[:30])
    made = installation.json("data", str(folder))
    broken = [rejected for rejected in made["rejected"] if rejected["file"] in {f"0/{n}.png" for n in range(5)}]
    assert len(broken) == 5
    assert all(rejected["reason"] for rejected in broken)


def test_a_text_file_named_png_is_left_out(installation: Installation, folder: Path) -> None:
    (folder / "1" / "note.png").write_text("this is no image")
    made = installation.json("data", str(folder))
    assert [rejected["file"] for rejected in made["rejected"]] == ["1/note.png"]


def test_an_enormous_image_is_left_out_without_being_decoded(installation: Installation, folder: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(folder / "1" / "enormous.png")
    made = installation.json("data", str(folder))
    (rejected,) = made["rejected"]
    assert rejected["file"] == "1/enormous.png"
    assert "400,000,000 pixels" in rejected["reason"]


def test_a_folder_that_may_not_be_read(tmp_path: Path, digits: Path, as_user) -> None:
    folder = Path(shutil.copytree(digits, tmp_path / "private"))
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    folder.chmod(0)
    plain = as_user("import os, sys; os.listdir(sys.argv[1])", str(folder))
    assert "PermissionError" in plain.stderr, "the plain operation fails for this user"
    code = "import sys; from volvox.cli.main import main; main(sys.argv[1:])"
    done = as_user(code, "data", str(folder), env={"VOLVOX_HOME": str(home), "HOME": str(home)})
    folder.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert str(folder) in done.stderr


def test_a_home_that_may_not_be_written(tmp_path: Path, digits: Path, as_user) -> None:
    home = tmp_path / "home"
    home.mkdir()
    plain = as_user("import sys; open(sys.argv[1] + '/x', 'w')", str(home))
    assert "PermissionError" in plain.stderr, "the plain operation fails for this user"
    code = "import sys; from volvox.cli.main import main; main(sys.argv[1:])"
    done = as_user(code, "cycle", "--demo", env={"VOLVOX_HOME": str(home)})
    assert done.returncode == 2
    assert f"VOLVOX_HOME is {home}, which cannot be written" in done.stderr
    assert not list(home.iterdir())


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for label in range(2):
        (folder / str(label)).mkdir(parents=True)
        for number in range(5):
            noise = Image.frombytes("RGB", (500, 500), os.urandom(750_000))
            noise.save(folder / str(label) / f"{number}.png")
    installation = Installation(small_disk / "home")
    sentence = _refused(installation, "data", str(folder), code=1)
    assert "full" in sentence
    assert "free some" in sentence
    records = small_disk / "home" / "store" / "records"
    assert not list(records.rglob("*.json")), "nothing is said to be done"


def test_a_port_in_use_is_worked_around_and_told(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "home")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8080))
        except OSError:
            pass  # the stack of these tests has it already: as good
        else:
            taken.listen()
        code = (
            "from volvox.settings import Home; from volvox.stack import stack\n"
            "stack.ensure(Home.current(), ['web'], print)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "VOLVOX_HOME": str(installation.home)},
        )  # fmt: skip
        try:
            assert "8080" in done.stdout
            web = next(row for row in installation.json("status")["services"] if row["name"] == "web")
            assert not web["url"].endswith(":8080")
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    assert httpx.get(web["url"] + "/health/live").status_code == 200
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            else:
                raise AssertionError("the server on another port never answered")
        finally:
            installation.run("down")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backbone", "resnet-enormous"), "resnet-enormous"),
        (("--learning-rate", "-0.1"), "learning_rate"),
        (("--module", "no_such_module"), "no_such_module"),
        (("--no-such-option", "1"), "--no-such-option"),
        (("--name", "../up"), "../up"),
        (("--processes", "0"), "0 is not in the range"),
        (("--calibrate",), "--dry-run"),
        (("--from", "never-made"), "never-made"),
        (("--attempts", "2", "--try", "/nowhere.yaml"), "/nowhere.yaml"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_made(installation: Installation, digits: Path, words, said) -> None:
    before = _published(installation)
    name = () if "--name" in words else ("--name", "wrong-option")
    assert said in _refused(installation, "cycle", str(digits), *name, *SMALL, *words)
    assert _published(installation) == before


def test_a_module_that_cannot_train_in_several_processes_is_refused(installation: Installation, digits: Path) -> None:
    said = _refused(installation, "cycle", str(digits), "--name", "wrong-option", *QUICK, "--processes", "2")
    assert "module 'nearest' does not say that it can train in 2 processes at once" in said


@pytest.mark.parametrize(
    "arguments",
    [(*QUICK, "--steps", "3000"), pytest.param((*SMALL, "--epochs", "300"), marks=pytest.mark.soak)],
    ids=["steps", "epochs"],
)
def test_ctrl_c_inside_training_ends_everything_and_publishes_nothing(
    installation: Installation, digits: Path, arguments: tuple[str, ...]
) -> None:
    words = ("cycle", str(digits), "--name", "stopped", *arguments)
    children: list[int] = []

    def see_children() -> None:
        listed = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        children.extend(int(line.split()[0]) for line in listed.splitlines() if "worker/bootstrap.py call /" in line)

    code = installation.run_until(r"\btraining: \d.*(steps|epochs)", *words, number=signal.SIGINT, then=see_children)
    assert code == 130
    assert children, "the training ran in a child"
    deadline = time.monotonic() + 10
    while any(process_started(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(process_started(pid) for pid in children)
    assert "stopped" not in _published(installation)
