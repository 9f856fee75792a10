import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tasks.training import train_model
from tests.volvox.store.places import Place
from tests.volvox.store.standin import StandIn
from volvox import progress
from volvox.buckets import Access
from volvox.errors import InvalidInput, ModuleFailed, UnknownModule
from volvox.identity import process_started
from volvox.settings import Home

SEVERAL = """
import json, os
from pathlib import Path

distributed = True

def get_train_args():
    return {}

def train(output):
    if os.environ["RANK"] == "0":
        Path(output, "progress.jsonl").write_text(json.dumps({"step": 0, "metrics": {"loss": 1.0}}) + "\\n")
        Path(output, "model.json").write_text("{}")
    return {"metrics": {"world": int(os.environ["WORLD_SIZE"])}}
"""


@pytest.fixture
def train(learner, dataset, store, home, tracking, name):
    async def run(start_from=None, module=learner, processes=1, **arguments):
        return await train_model.fn(
            module, dataset, arguments, name=name, start_from=start_from, store=store, home=home, tracking=tracking,
            processes=processes,
        )  # fmt: skip

    return run


def runs(tracking, name):
    client = tracking.client()
    experiment = client.get_experiment_by_name(name)
    return client.search_runs([experiment.experiment_id]) if experiment else []


def test_a_training_is_one_run_with_parameters_steps_tags_data_and_weights(
    train, tracking, name, dataset, store
) -> None:
    seen: list[progress.Event] = []
    with progress.listening(seen.append):
        model = asyncio.run(train(epochs=3))
    (run,) = runs(tracking, name)
    client = tracking.client()
    assert run.info.run_id == model.run_id and run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "3", "seconds": "0.0", "skill": "1.0", "fail": ""}
    history = client.get_metric_history(model.run_id, "val_accuracy")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert run.data.metrics["final_val_accuracy"] == model.metrics["val_accuracy"] == 1.0
    assert run.data.tags["volvox.dataset"] == dataset.digest and run.data.tags["volvox.code"] == model.code
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.digest == dataset.digest[:32] and "secret" not in given.dataset.source
    assert [file.path for file in client.list_artifacts(model.run_id, "weights")] == ["weights/model.json"]
    assert [file.name for file in store.tree(model.weights_tree).iterdir()] == ["model.json"]
    steps = [event for event in seen if event.kind == "advanced"]
    assert [(event.done, event.total, event.unit) for event in steps] == [(n, 3, "epochs") for n in (1, 2, 3)]
    assert steps[-1].detail == {"images/s": 50.0, "val_accuracy": 0.2}


def test_a_long_enough_training_has_system_metrics(train, tracking, name, monkeypatch) -> None:
    monkeypatch.setattr("blocks.tracked_run._SYSTEM_SECONDS", 0.2)
    asyncio.run(train(epochs=2, seconds=2.0))
    (run,) = runs(tracking, name)
    assert run.data.metrics["system/cpu_utilization_percentage"] >= 0


def test_the_same_training_is_reused_without_the_tracking_server(train, tracking, name, home, monkeypatch) -> None:
    first = asyncio.run(train())
    assert not (home.root / "store" / "checkpoints").exists() or not list(
        (home.root / "store" / "checkpoints").iterdir()
    )
    monkeypatch.setattr(type(tracking), "activate", None)
    assert asyncio.run(train()) == first
    assert len(runs(tracking, name)) == 1


def test_other_arguments_are_another_training(train) -> None:
    assert asyncio.run(train()).weights_tree != asyncio.run(train(skill=0.5)).weights_tree


@pytest.mark.parametrize("arguments", [{"epochs": 0}, {"speed": 3}])
def test_refused_arguments_begin_nothing(train, tracking, name, home, arguments) -> None:
    with pytest.raises(InvalidInput, match=r"epochs: |speed: "):
        asyncio.run(train(**arguments))
    assert runs(tracking, name) == []
    assert not (home.root / "store" / "checkpoints").exists()


@pytest.mark.parametrize(("processes", "said"), [(0, "ask for one or more"), (2, "distributed = True")])
def test_a_module_that_knows_nothing_of_several_processes_is_not_started_in_them(
    train, tracking, name, processes, said
) -> None:
    with pytest.raises(InvalidInput, match=said):
        asyncio.run(train(processes=processes))
    assert runs(tracking, name) == []


def test_a_training_in_several_processes_is_one_run_and_the_same_training(
    train, tracking, name, install_module
) -> None:
    install_module("several", SEVERAL)
    model = asyncio.run(train(module="several", processes=2))
    (run,) = runs(tracking, name)
    assert run.info.run_id == model.run_id and run.info.status == "FINISHED"
    assert model.metrics == {"world": 2.0}
    assert [metric.step for metric in tracking.client().get_metric_history(model.run_id, "loss")] == [0]
    assert asyncio.run(train(module="several", processes=1)) == model
    assert len(runs(tracking, name)) == 1


def test_a_module_that_is_not_installed_is_named(train) -> None:
    with pytest.raises(UnknownModule, match="no model module 'sloth'"):
        asyncio.run(train(module="sloth"))


def test_a_failed_training_says_why_and_keeps_its_log(train, tracking, name, home) -> None:
    with pytest.raises(ModuleFailed, match="the fuse blew"):
        asyncio.run(train(fail="the fuse blew"))
    (run,) = runs(tracking, name)
    assert run.info.status == "FAILED" and "the fuse blew" in run.data.tags["volvox.reason"]
    assert [file.path for file in tracking.client().list_artifacts(run.info.run_id, "log")] == ["log/train.log"]
    assert not list((home.cache / "work").iterdir())


def test_a_cancel_ends_the_child_and_the_run_and_keeps_the_checkpoints(train, tracking, name, home) -> None:
    async def cancel() -> int:
        task = asyncio.create_task(train(epochs=100, seconds=0.2))
        checkpoint = next_checkpoint(home)
        while not (found := checkpoint()):
            await asyncio.sleep(0.05)
        pid = int((found.parent / "pid").read_text())
        assert process_started(pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert process_started(asyncio.run(cancel())) is None
    (run,) = runs(tracking, name)
    assert run.info.status == "KILLED"
    assert next_checkpoint(home)() and not list((home.cache / "work").iterdir())


def test_a_killed_training_goes_on_in_its_own_run_from_its_newest_checkpoint(
    train, tracking, name, home, dataset, tmp_path
) -> None:
    (tmp_path / "dataset.json").write_text(dataset.model_dump_json())
    script = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from blocks.store import ObjectStore
        from blocks.tracking import Tracking
        from tasks.training import train_model
        from volvox.records import Dataset
        from volvox.settings import Home
        asyncio.run(train_model.fn(
            "learner", Dataset.model_validate_json(Path(sys.argv[1]).read_text()), {"epochs": 6, "seconds": 0.5},
            name=sys.argv[2], start_from=None, store=ObjectStore.local().open(), home=Home.current(),
            tracking=Tracking.local(),
        ))
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "dataset.json"), name]
    process = subprocess.Popen(command, start_new_session=True)
    checkpoint, deadline = next_checkpoint(home), time.monotonic() + 60
    while not (found := checkpoint("epoch-1")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert found, "the training never reached its second checkpoint"
    child = int((found.parent / "pid").read_text())
    while process_started(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process_started(child) is None, "the module outlived the process that started it"
    (run,) = runs(tracking, name)
    assert run.info.status == "RUNNING"
    assert json.loads((found.parent / "run.json").read_text())["run_id"] == run.info.run_id

    seen: list[progress.Event] = []
    with progress.listening(seen.append):
        model = asyncio.run(train(epochs=6, seconds=0.5))
    assert min(event.done for event in seen if event.kind == "advanced") >= 3
    (run,) = runs(tracking, name)
    assert run.info.run_id == model.run_id and run.info.status == "FINISHED"
    assert run.data.metrics["val_accuracy"] == 0.5
    assert not found.parent.exists()


def next_checkpoint(home):
    def look(pattern: str = "epoch-*"):
        return next((home.root / "store" / "checkpoints").glob(f"*/{pattern}"), None)

    return look


def test_a_training_killed_on_one_machine_goes_on_on_another_through_a_bucket(
    learner, dataset, store, tracking, name, tmp_path, monkeypatch
) -> None:
    server = StandIn("bucket")
    access = Access(server.url, access_key_id="k", secret_access_key="s")
    place = Place("s3://bucket/prefix", tmp_path, access)
    for digest in (dataset.learning_tree, dataset.held_out_tree, dataset.manifest_object):
        assert place.open().put_file(store.path(digest)) == digest
    (tmp_path / "dataset.json").write_text(dataset.model_dump_json())
    training = textwrap.dedent(
        f"""
        import asyncio
        from blocks.tracking import Tracking
        from tasks.training import train_model
        from volvox.records import Dataset
        from volvox.settings import Home
        dataset = Dataset.model_validate_json(Path({str(tmp_path / "dataset.json")!r}).read_text())
        asyncio.run(train_model.fn(
            "learner", dataset, {{"epochs": 6, "seconds": 1.0}}, name={name!r}, start_from=None, store=store,
            home=Home(Path(sys.argv[2])), tracking=Tracking.local(),
        ))
        """
    )
    try:
        process = place.run(training, "one machine")
        kept, deadline = server.buckets["bucket"], time.monotonic() + 60
        while not any(key.endswith("/epoch-1") for key in kept) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the training never kept its second checkpoint"

        seen: list[progress.Event] = []
        with progress.listening(seen.append):
            model = asyncio.run(
                train_model.fn(
                    learner,
                    dataset,
                    {"epochs": 6, "seconds": 1.0},
                    name=name,
                    start_from=None,
                    store=place.open("another machine"),
                    home=Home(tmp_path / "another home"),
                    tracking=tracking,
                )
            )
        assert min(event.done for event in seen if event.kind == "advanced") >= 3
        (run,) = runs(tracking, name)
        assert run.info.run_id == model.run_id and run.info.status == "FINISHED"
        assert not [key for key in kept if "/checkpoints/" in key], "what is done needs none"
    finally:
        server.close()
