from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("pytorch_lightning", reason="training needs the extra `train`")

from image_classifier import api, checkpoints, training  # noqa: E402
from webargs import ValidationError  # noqa: E402

from .conftest import write_dataset  # noqa: E402


def progress(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "progress.jsonl").read_text().splitlines()]


def whole_epochs(output: Path) -> list[dict]:
    return [line for line in progress(output) if line["metrics"]]


def test_a_training_learns_and_writes_a_version(version, dataset):
    card = json.loads((version / "model.json").read_text())
    assert card["classes"] == ["bar", "cross", "dot"]
    assert card["metrics"]["val_accuracy"] >= 0.9
    assert card["onnx"]["largest_difference"] <= 1e-4
    assert {"size", "mean", "std", "channels", "resize"} <= card["preprocessing"].keys()
    names = {path.name for path in version.iterdir()}
    assert names == {"model.safetensors", "model.json", "model.onnx", "progress.jsonl"}


def test_progress_tells_every_epoch(version):
    lines = whole_epochs(version)
    assert [line["done"] for line in lines] == list(range(1, 13))
    assert lines[-1]["total"] == 12
    assert lines[-1]["unit"] == "epochs"
    assert lines[-1]["step"] == 12 * 6
    assert lines[0]["images_per_second"] > 0
    assert set(lines[0]["metrics"]) == {"train_loss", "val_loss", "val_accuracy", "learning_rate"}


@pytest.mark.usefixtures("no_onnx")
def test_the_same_seed_gives_the_same_metrics_and_another_one_others(dataset, tmp_path):
    def trained(seed: int, name: str) -> dict:
        return api.train(data=dataset, output=tmp_path / name, epochs=2, seed=seed)["metrics"]

    first, again, other = trained(3, "a"), trained(3, "b"), trained(4, "c")
    assert again == pytest.approx(first, abs=1e-4)
    assert other["train_loss"] != pytest.approx(first["train_loss"], abs=1e-4)


@pytest.mark.usefixtures("no_onnx")
def test_an_interrupted_training_ends_as_an_uninterrupted_one(dataset, tmp_path, monkeypatch):
    whole = api.train(data=dataset, output=tmp_path / "whole", epochs=4)
    kept = tmp_path / "kept"
    keep = checkpoints.Keeper.on_train_epoch_end

    def dies(self, trainer, pl_module):
        keep(self, trainer, pl_module)
        if trainer.current_epoch == 1:
            raise MemoryError("as if killed")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.Keeper, "on_train_epoch_end", dies)
        with pytest.raises(MemoryError):
            api.train(data=dataset, output=tmp_path / "first", checkpoints=kept, epochs=4)
    resumed = api.train(data=dataset, output=tmp_path / "second", checkpoints=kept, epochs=4)
    assert resumed["resumed_from_epoch"] == 2
    assert resumed["metrics"] == pytest.approx(whole["metrics"], abs=1e-4)
    assert [line["done"] for line in whole_epochs(tmp_path / "second")] == [3, 4]
    rates = [line["metrics"]["learning_rate"] for line in whole_epochs(tmp_path / "second")]
    assert rates == pytest.approx([line["metrics"]["learning_rate"] for line in whole_epochs(tmp_path / "whole")][2:])


def test_a_training_killed_by_the_kernel_goes_on(dataset, tmp_path):
    code = (
        "from image_classifier import api; import sys; "
        "api.train(data=sys.argv[1], output=sys.argv[2], checkpoints=sys.argv[3], epochs=500)"
    )
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", code, str(dataset), str(tmp_path / "out"), str(kept)]
    with subprocess.Popen(command, start_new_session=True) as child:
        deadline = time.monotonic() + 120
        while not (kept / "epoch-00003.ckpt").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
    numbers = sorted(int(path.stem.removeprefix("epoch-")) for path in kept.glob("epoch-*.ckpt"))
    assert numbers
    assert numbers[-1] >= 3
    found = checkpoints.newest(kept, torch.load(kept / "best.ckpt", weights_only=True)["identity"])
    assert found is not None
    assert len(found[1]["history"]) == numbers[-1]


@pytest.mark.usefixtures("no_onnx")
def test_a_torn_checkpoint_is_passed_over(dataset, tmp_path, caplog):
    kept = tmp_path / "kept"
    api.train(data=dataset, output=tmp_path / "first", checkpoints=kept, epochs=3)
    assert sorted(path.name for path in kept.iterdir()) == ["best.ckpt", "epoch-00002.ckpt", "epoch-00003.ckpt"]
    torn = kept / "epoch-00003.ckpt"
    if torn.samefile(kept / "best.ckpt"):
        (kept / "best.ckpt").unlink()
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        resumed = api.train(data=dataset, output=tmp_path / "second", checkpoints=kept, epochs=3)
    assert resumed["resumed_from_epoch"] == 2
    assert "epoch-00003.ckpt cannot be read" in caplog.text


@pytest.mark.usefixtures("no_onnx")
def test_checkpoints_of_other_arguments_are_not_used(dataset, tmp_path):
    kept = tmp_path / "kept"
    api.train(data=dataset, output=tmp_path / "first", checkpoints=kept, epochs=1)
    other = api.train(data=dataset, output=tmp_path / "second", checkpoints=kept, epochs=2)
    assert other["resumed_from_epoch"] == 0


def test_a_finished_training_is_only_exported_again(dataset, tmp_path):
    kept = tmp_path / "kept"
    first = api.train(data=dataset, output=tmp_path / "first", checkpoints=kept, epochs=2)
    again = api.train(data=dataset, output=tmp_path / "second", checkpoints=kept, epochs=2)
    assert again["resumed_from_epoch"] == 2
    assert again["metrics"] == first["metrics"]
    first_bytes, again_bytes = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert again_bytes == first_bytes


@pytest.mark.usefixtures("no_onnx")
def test_a_version_with_the_same_classes_keeps_its_head(version, dataset, tmp_path):
    goes_on = api.train(data=dataset, output=tmp_path / "out", weights=version, epochs=1, learning_rate=1e-9)
    assert goes_on["recipe"]["freeze_epochs"] == 0
    assert goes_on["metrics"]["val_accuracy"] >= 0.9


@pytest.mark.usefixtures("no_onnx")
def test_a_version_with_other_classes_gets_a_new_head_and_learns_it_first(version, tmp_path):
    from safetensors.torch import load_file

    data = write_dataset(tmp_path / "data", 20, classes=("bar", "cross"))
    told = api.train(data=data, output=tmp_path / "out", weights=version, epochs=1, freeze_epochs=1)
    before, after = load_file(version / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert told["classes"] == ["bar", "cross"]
    assert after["head.weight"].shape[0] == 2
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("backbone."))
    unfrozen = api.train(data=data, output=tmp_path / "more", weights=version, epochs=2)
    assert unfrozen["recipe"]["freeze_epochs"] == 1
    moved = load_file(tmp_path / "more" / "model.safetensors")
    assert not torch.equal(before["backbone.stem.0.weight"], moved["backbone.stem.0.weight"])


@pytest.mark.usefixtures("no_onnx")
def test_training_stops_early_where_nothing_improves(dataset, tmp_path):
    told = api.train(data=dataset, output=tmp_path / "out", epochs=50, batch_size=6, patience=2, learning_rate=1e-9)
    assert told["metrics"]["epochs"] < 50


@pytest.mark.usefixtures("no_onnx")
def test_folders_are_classes_where_there_are_no_lists(dataset, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(dataset / "images")
    told = api.train(data=tmp_path / "data", output=tmp_path / "out", epochs=1)
    assert told["classes"] == ["bar", "cross", "dot"]
    assert told["images"] == {"train": 96, "val": 24}


@pytest.mark.usefixtures("no_onnx")
def test_two_processes_share_the_work(dataset, tmp_path):
    told = api.train(data=dataset, output=tmp_path / "out", accelerator="cpu", devices=2, epochs=2)
    assert told["metrics"]["epochs"] == 2
    assert [line["done"] for line in whole_epochs(tmp_path / "out")] == [1, 2]
    alone = api.train(data=dataset, output=tmp_path / "alone", accelerator="cpu", epochs=2)
    assert told["metrics"] == pytest.approx(alone["metrics"], abs=1e-3)


def test_places_are_taken_from_the_environment(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("VOLVOX_DATA", str(dataset))
    monkeypatch.setenv("VOLVOX_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("VOLVOX_CHECKPOINTS", str(tmp_path / "kept"))
    api.train(epochs=1)
    assert (tmp_path / "out" / "model.onnx").is_file()
    assert (tmp_path / "kept" / "epoch-00001.ckpt").is_file()


@pytest.mark.usefixtures("no_onnx")
def test_images_that_do_not_fit_into_memory_are_decoded_each_time(dataset, tmp_path, monkeypatch):
    kept = api.train(data=dataset, output=tmp_path / "kept", epochs=1)
    monkeypatch.setattr("image_classifier.pixels.free_memory", lambda: 1000)
    streamed = api.train(data=dataset, output=tmp_path / "streamed", epochs=1)
    assert streamed["metrics"] == pytest.approx(kept["metrics"], abs=1e-4)


@pytest.mark.parametrize(
    ("given", "argument", "said"),
    [
        ({"learning_rate": -0.1}, "learning_rate", "greater than 0"),
        ({"epochs": 0}, "epochs", "greater than or equal to 1"),
        ({"backbone": "resnet-huge"}, "backbone", "resnet-small"),
        ({"image_size": "7"}, "image_size", "8 to 1024"),
        ({"augmentation": "wild"}, "augmentation", "Must be one of"),
        ({"accelerator": "gpu"}, "accelerator", "no GPU"),
        ({"epochs": 2, "freeze_epochs": 3}, "freeze_epochs", "only 2 epochs"),
        ({"pretrained": True}, "pretrained", "no published weights"),
        ({"colour": "red"}, "colour", "Unknown"),
    ],
)
def test_wrong_arguments_are_refused_by_name_and_leave_no_version(dataset, tmp_path, given, argument, said):
    if given == {"accelerator": "gpu"} and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ValidationError) as refused:
        api.train(data=dataset, output=tmp_path / "out", **given)
    assert said in refused.value.messages[argument][0]
    assert not (tmp_path / "out" / "model.json").exists()


def test_an_unknown_timm_backbone_is_refused_whether_timm_is_there_or_not(dataset, tmp_path):
    with pytest.raises(ValidationError) as refused:
        api.train(data=dataset, output=tmp_path / "out", backbone="timm:resnet1")
    assert "timm" in refused.value.messages["backbone"][0]


@pytest.mark.parametrize(
    ("given", "compiled", "recorded"),
    [
        ({}, False, True),
        ({"compile": "true"}, True, False),
        ({"compile": "false"}, False, False),
        ({"images": 10_000}, False, False),
        ({"backbone": "timm:resnet18"}, False, False),
        ({"freeze_epochs": 1}, False, False),
        ({"world": 2}, False, False),
        ({"on_gpu": False}, False, False),
    ],
)
def test_steps_are_recorded_where_it_pays_and_compiled_where_somebody_asks(given, compiled, recorded):
    told = {"compile": "auto", "images": 100_000, "backbone": "resnet-small", "freeze_epochs": 0}
    told |= {"world": 1, "on_gpu": True, **given}
    plan = SimpleNamespace(epochs=10, backbone=told["backbone"], freeze_epochs=told["freeze_epochs"])
    task = SimpleNamespace(
        plan=plan,
        arguments={"compile": told["compile"]},
        network=SimpleNamespace(dropout=0.1),
        train=range(told["images"]),
        world=told["world"],
        on_gpu=told["on_gpu"],
    )
    assert training._faster(task) == (compiled, recorded)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_on_a_gpu_recorded_steps_learn_what_plain_ones_learn(dataset, tmp_path, precision, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    monkeypatch.setattr(training, "_WORTH_RECORDING", 0)
    options = {"data": dataset, "accelerator": "gpu", "epochs": 12, "batch_size": 12, "precision": precision}
    plain, recorded = (api.train(output=tmp_path / way, compile=way, **options) for way in ("false", "auto"))
    assert recorded["metrics"]["val_accuracy"] >= 0.9
    assert recorded["metrics"] == pytest.approx(plain["metrics"], abs=0.05)
    assert recorded["onnx_difference"] <= 1e-4
    first = [whole_epochs(tmp_path / way)[0]["metrics"] for way in ("false", "auto")]
    assert first[1] == pytest.approx(first[0], abs=5e-3)


def test_on_a_gpu_training_learns_in_bfloat16_and_exports_the_same_network(dataset, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    told = api.train(data=dataset, output=tmp_path / "out", accelerator="gpu", epochs=12, batch_size=12, compile="true")
    assert told["metrics"]["val_accuracy"] >= 0.9
    assert told["onnx_difference"] <= 1e-4
