import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable
from volvox.identity import process_started
from volvox.modules.calling import call_module, describe
from volvox.modules.discovery import find

TOY = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
from webargs import fields, validate

def get_train_args():
    return {
        "rate": fields.Float(
            load_default=0.1, validate=validate.Range(min=0, max=1), metadata={"description": "Step."}
        ),
        "how": fields.Str(load_default="well"),
    }

def train(data, rate, how):
    if how == "raise": raise RuntimeError("the fuse blew")
    if how == "exit": print("last words"); os._exit(7)
    if how == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(os.environ["VOLVOX_OUTPUT"], "pids").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(60)
    if how == "report":
        with Path(os.environ["VOLVOX_OUTPUT"], "progress.jsonl").open("w") as stream:
            for done in (1, 2):
                print(json.dumps({"done": done, "total": 2}), file=stream, flush=True)
    return {"rate": rate, "data": data, "weights": os.environ.get("VOLVOX_WEIGHTS")}
"""


@pytest.fixture
def toy(install_module) -> str:
    install_module("toy", TOY)
    return "toy"


def call(*arguments, **keywords):
    return asyncio.run(call_module(*arguments, **keywords))


def test_arguments_pass_the_modules_own_fields_and_places_arrive_by_name_and_by_environment(toy, tmp_path) -> None:
    places = {"data": tmp_path / "d", "weights": tmp_path / "w"}
    assert call(toy, "train", {"rate": "0.5"}, places=places) == {
        "rate": 0.5,
        "data": str(tmp_path / "d"),
        "weights": str(tmp_path / "w"),
    }


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rate": -1}, InvalidInput, "rate: Must be greater than or equal to 0"),
        ({"speed": 1}, InvalidInput, "speed: Unknown argument"),
        ({"how": "raise"}, ModuleFailed, "RuntimeError: the fuse blew"),
        ({"how": "exit"}, ModuleFailed, "exit code 7"),
        ({"how": "killed"}, Unavailable, "lack of memory"),
    ],
)
def test_every_way_to_fail_is_one_sentence(toy, tmp_path, arguments, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        call(toy, "train", arguments, places={"data": tmp_path})
    assert "\n" not in str(caught.value)


def test_the_last_words_of_a_dead_module_are_kept_for_debug(toy, tmp_path) -> None:
    with pytest.raises(ModuleFailed) as caught:
        call(toy, "train", {"how": "exit"}, places={"data": tmp_path})
    assert "last words" in caught.value.trace


def test_progress_arrives_line_by_line(toy, tmp_path) -> None:
    seen: list[dict] = []
    places = {"data": tmp_path, "output": tmp_path}
    call(toy, "train", {"how": "report"}, places=places, on_progress=seen.append)
    assert [line["done"] for line in seen] == [1, 2]


def test_a_cancel_leaves_neither_the_module_nor_its_children_running(toy, tmp_path) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(
            call_module(toy, "train", {"how": "hang"}, places={"data": tmp_path, "output": tmp_path})
        )
        while not (tmp_path / "pids").exists():
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 5
    while any(process_started(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(process_started(pid) for pid in pids)


def test_a_module_without_the_function_is_not_found(toy) -> None:
    with pytest.raises(NotFound, match=r"does not implement evaluate\(\)"):
        call(toy, "evaluate")


def test_a_description_is_remembered_until_the_code_changes(install_module, home) -> None:
    package = install_module("toy", TOY)
    module = find("toy")
    told = asyncio.run(describe(module, home))
    rate = next(argument for argument in told["train"] if argument["name"] == "rate")
    assert rate == {
        "name": "rate", "keyword": "rate", "type": "number", "required": False, "help": "Step.",
        "default": 0.1, "minimum": 0, "maximum": 1, "format": "float", "metadata": {"description": "Step."},
    }  # fmt: skip
    (kept,) = (home.cache / "descriptions").iterdir()
    kept.write_text(json.dumps({"remembered": True}))
    assert asyncio.run(describe(find("toy"), home)) == {"remembered": True}
    Path(package, "api.py").write_text(TOY + "\n# changed\n")
    assert find("toy").code != module.code
    assert "train" in asyncio.run(describe(find("toy"), home))
    assert os.environ["VOLVOX_HOME"] == str(home.root)


SEVERAL = """
import json, os, signal, time
from pathlib import Path
from webargs import ValidationError, fields

def get_train_args():
    return {"how": fields.Str(load_default="well")}

def train(output, how):
    rank = int(os.environ["RANK"])
    Path(output, f"pid-{rank}").write_text(str(os.getpid()))
    while len(list(Path(output).glob("pid-*"))) < int(os.environ["WORLD_SIZE"]): time.sleep(0.01)
    if rank == 1:
        if how == "raise": raise RuntimeError("the fuse blew")
        if how == "refuse": raise ValidationError({"how": ["Not like this."]})
        if how == "killed": os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit": os._exit(7)
    if how != "well": time.sleep(60)
    return {"rank": rank, "of": os.environ["WORLD_SIZE"]}
"""


@pytest.fixture
def several(install_module) -> str:
    install_module("several", SEVERAL)
    return "several"


def ended(folder: Path) -> bool:
    return not any(process_started(int(path.read_text())) for path in folder.glob("pid-*"))


def test_of_several_processes_the_first_one_answers(several, tmp_path) -> None:
    log = tmp_path / "log"
    assert call(several, "train", places={"output": tmp_path}, processes=2, log=log) == {"rank": 0, "of": "2"}
    assert len(list(tmp_path.glob("pid-*"))) == 2


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("raise", ModuleFailed, "RuntimeError: the fuse blew"),
        ("refuse", InvalidInput, "how: Not like this"),
        ("killed", Unavailable, "lack of memory"),
        ("exit", ModuleFailed, "exit code 7"),
    ],
)
def test_the_one_of_several_that_fails_ends_all_and_is_told(several, tmp_path, how, error, message) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=message):
        call(several, "train", {"how": how}, places={"output": tmp_path}, processes=2)
    assert ended(tmp_path)
    assert time.monotonic() - began < 10


def test_a_cancel_ends_several_processes(several, tmp_path) -> None:
    async def cancel() -> None:
        calling = asyncio.create_task(
            call_module(several, "train", {"how": "hang"}, places={"output": tmp_path}, processes=2)
        )
        while len(list(tmp_path.glob("pid-*"))) < 2:
            await asyncio.sleep(0.02)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    asyncio.run(cancel())
    assert ended(tmp_path)
