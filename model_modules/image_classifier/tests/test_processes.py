"""Several processes that somebody else starts, told their places by the variables of torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("pytorch_lightning", reason="training needs the extra `train`")

from image_classifier import api, checkpoints, processes  # noqa: E402
from image_classifier.processes import Place  # noqa: E402
from webargs import ValidationError  # noqa: E402

# Uneven on purpose: seven batches of 68 images hold 9 - shares of 5 and 4 - of classes that weigh differently.
ARGUMENTS = {"epochs": 6, "batch_size": 10, "class_weights": "true", "augmentation": "strong", "accelerator": "cpu"}
VARIABLES = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "NODE_RANK",
    "GROUP_RANK",
)

TRAIN = """
import json, os, sys
from pathlib import Path
from image_classifier import api, checkpoints, export
export._export = lambda network, path, preprocessing: path.write_bytes(b"")
export.largest_difference = lambda network, path, images: 0.0
asked = json.loads(sys.argv[1])
keep, stop = checkpoints.Keeper.on_train_epoch_end, asked.pop("stop")
def kept(self, trainer, pl_module):
    keep(self, trainer, pl_module)
    if trainer.current_epoch + 1 == stop:
        trainer.should_stop = True
checkpoints.Keeper.on_train_epoch_end = kept
try:
    told = api.train(**asked)
except Exception as error:
    told = {"error": repr(error)}
Path(sys.argv[2], "rank-" + os.environ["RANK"]).write_text(json.dumps(told))
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def together(folder: Path, world: int = 2, each: list[dict] | None = None, stop: int = 0, **asked) -> list[dict]:
    """What train() returned in each of `world` processes; `each` changes what is asked of one of them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
    }
    folder.mkdir(exist_ok=True)
    started = []
    for rank in range(world):
        told = {**ARGUMENTS, **asked, **(each[rank] if each else {}), "stop": stop}
        told = {name: str(value) if isinstance(value, Path) else value for name, value in told.items()}
        environment = {**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [sys.executable, "-c", TRAIN, json.dumps(told), str(folder)]
        started.append(subprocess.Popen(command, env=environment))
    try:
        assert [process.wait(timeout=120) for process in started] == [0] * world
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [json.loads((folder / f"rank-{rank}").read_text()) for rank in range(world)]


def curve(output: Path) -> list[list[float]]:
    """Training loss, validation loss and accuracy of each epoch."""
    lines = [json.loads(line) for line in (output / "progress.jsonl").read_text().splitlines()]
    names = ("train_loss", "val_loss", "val_accuracy", "learning_rate")
    return [[line["metrics"][name] for name in names] for line in lines if line["metrics"]]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    from .conftest import write_dataset

    root = write_dataset(tmp_path_factory.mktemp("uneven") / "shapes", 40)
    lists = root / "dataset_files"
    train = (lists / "train.txt").read_text().splitlines()
    (lists / "train.txt").write_text("\n".join([*train[:20], *train[24:]]) + "\n")
    val = (lists / "val.txt").read_text().splitlines()
    (lists / "val.txt").write_text("\n".join(val[:23]) + "\n")
    return root


def stopped_after(epochs: int, patched: pytest.MonkeyPatch) -> None:
    """Trainings of this process end after so many epochs, as if they had been killed then."""
    keep = checkpoints.Keeper.on_train_epoch_end

    def stops(self, trainer, pl_module):
        keep(self, trainer, pl_module)
        trainer.should_stop = trainer.current_epoch + 1 == epochs

    patched.setattr(checkpoints.Keeper, "on_train_epoch_end", stops)


@pytest.mark.usefixtures("no_onnx")
def test_two_processes_learn_what_one_learns_and_each_goes_on_where_the_other_was_stopped(
    uneven, tmp_path, monkeypatch
):
    alone = api.train(data=uneven, output=tmp_path / "alone", **ARGUMENTS)
    kept = {"checkpoints": tmp_path / "kept"}
    with monkeypatch.context() as patched:
        stopped_after(2, patched)
        api.train(data=uneven, output=tmp_path / "begun", **kept, **ARGUMENTS)
    # Two processes go on, of which only the first has the checkpoints and writes.
    each = [{**kept, "output": tmp_path / "two"}, {"checkpoints": tmp_path / "nothing", "output": tmp_path / "no"}]
    first, second = together(tmp_path / "pair", each=each, data=uneven, stop=4)
    assert (first["resumed_from_epoch"], first["metrics"]["epochs"]) == (2, 4), first
    assert second == {"rank": 1}
    assert not (tmp_path / "nothing").exists()
    assert not (tmp_path / "no").exists()
    last = api.train(data=uneven, output=tmp_path / "last", **kept, **ARGUMENTS)
    assert last["resumed_from_epoch"] == 4

    whole = torch.tensor(curve(tmp_path / "alone"))
    parts = torch.cat([torch.tensor(curve(tmp_path / name)) for name in ("begun", "two", "last")])
    assert (parts - whole).abs().max() < 1e-3  # 1e-5 where it was measured
    assert last["metrics"] == pytest.approx(alone["metrics"], abs=1e-3)


def test_processes_that_were_given_other_data_say_so_in_all_of_them(monkeypatch):
    def gathered(said, mine):
        said[:] = [mine, "another"]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gathered)
    with pytest.raises(ValidationError, match="Process 1 has other data or arguments than process 0"):
        processes.agree(Place(0, 2), {"data": "digest"})


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, Place()),
        ({"WORLD_SIZE": "1", "RANK": "0"}, Place()),
        (
            {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "NODE_RANK": "1"},
            Place(3, 4, 1, 2),
        ),
        ({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, Place(1, 2, 0, 1)),
        ({"WORLD_SIZE": "2", "RANK": "1"}, Place(1, 2, 1, 2)),
    ],
)
def test_a_process_is_told_its_place(monkeypatch, variables, place):
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    assert processes.place() == place


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "ranks count from 0 to 1"),
    ],
)
def test_a_place_that_cannot_be_is_refused(monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        processes.place()
    assert said in refused.value.messages["environment"][0]


@pytest.mark.parametrize(
    ("given", "argument", "said"),
    [
        ({"batch_size": 10}, "batch_size", "cannot be shared evenly by 4 processes; ask for 8 or 12"),
        ({"batch_size": 4, "devices": 3}, "devices", "4 processes were started already, not 3"),
        ({}, "devices", "3 images to learn from make batches of 3, which 4 processes cannot share"),
    ],
)
def test_batches_that_cannot_be_shared_are_refused_before_anybody_is_waited_for(
    tmp_path, dataset, monkeypatch, given, argument, said
):
    from .conftest import write_dataset

    data = dataset if given else write_dataset(tmp_path / "few", 5, classes=("bar", "cross"))
    if not given:
        lists = data / "dataset_files" / "train.txt"
        lists.write_text("\n".join(lists.read_text().splitlines()[1:4]) + "\n")
    for name, value in {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
        "WORLD_SIZE": "4",
        "RANK": "1",
        "LOCAL_RANK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        api.train(data=data, output=tmp_path / "out", accelerator="cpu", **given)
    assert said in refused.value.messages[argument][0]
    assert not (tmp_path / "out").exists()
