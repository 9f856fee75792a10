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
ARGUMENTS = {"epochs": 4, "batch_size": 10, "class_weights": "true", "augmentation": "strong", "accelerator": "cpu"}
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


@pytest.mark.usefixtures("no_onnx")
def test_two_processes_learn_what_one_learns_and_each_goes_on_where_the_other_was_stopped(
    uneven, tmp_path, monkeypatch
):
    alone = api.train(data=uneven, output=tmp_path / "alone", **ARGUMENTS)

    # Two processes begin, and are stopped after two epochs; one goes on.
    first, second = together(
        tmp_path / "pair", data=uneven, output=tmp_path / "out", checkpoints=tmp_path / "kept", stop=2
    )
    assert first["metrics"]["epochs"] == 2, first
    assert second == {"rank": 1}
    on = api.train(data=uneven, output=tmp_path / "on", checkpoints=tmp_path / "kept", **ARGUMENTS)
    assert on["resumed_from_epoch"] == 2

    # One begins, and is stopped after two epochs; two processes go on, of which only the first has the checkpoints.
    keep = checkpoints.Keeper.on_train_epoch_end

    def stops(self, trainer, pl_module):
        keep(self, trainer, pl_module)
        trainer.should_stop = trainer.current_epoch + 1 == 2

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.Keeper, "on_train_epoch_end", stops)
        api.train(data=uneven, output=tmp_path / "begun", checkpoints=tmp_path / "begun-kept", **ARGUMENTS)
    each = [
        {"checkpoints": str(tmp_path / "begun-kept")},
        {"checkpoints": str(tmp_path / "nothing"), "output": str(tmp_path / "no")},
    ]
    resumed, _ = together(tmp_path / "resumed", each=each, data=uneven, output=tmp_path / "two")
    assert resumed["resumed_from_epoch"] == 2, resumed
    assert not (tmp_path / "nothing").exists()
    assert not (tmp_path / "no").exists()

    whole = torch.tensor(curve(tmp_path / "alone"))
    differences = {
        "two from scratch": torch.tensor(curve(tmp_path / "out")) - whole[:2],
        "one after two": torch.tensor(curve(tmp_path / "on")) - whole[2:],
        "two after one": torch.tensor(curve(tmp_path / "two")) - whole[2:],
    }
    print({name: difference.abs().max(0).values.tolist() for name, difference in differences.items()})
    assert all(difference.abs().max() < 1e-3 for difference in differences.values())
    assert resumed["metrics"] == pytest.approx(alone["metrics"], abs=1e-3)


def test_processes_that_were_given_other_data_say_so_at_once(uneven, dataset, tmp_path):
    each = [{"data": str(uneven)}, {"data": str(dataset)}]
    told = together(tmp_path / "pair", each=each, output=tmp_path / "out", batch_size=8)
    assert all("Process 1 has other data or arguments than process 0" in said["error"] for said in told)
    assert not (tmp_path / "out" / "model.json").exists()


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
