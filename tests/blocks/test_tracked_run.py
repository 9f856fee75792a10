import asyncio
import json
import uuid

import pytest

from blocks.tracked_run import TrackedRun, is_number
from volvox.errors import Unavailable


@pytest.fixture
def run(tracking, tmp_path) -> TrackedRun:
    return TrackedRun.begin(tracking, f"experiment-{uuid.uuid4().hex}", name="a run", kept=tmp_path / "run.json")


def told(run: TrackedRun):
    return run.tracking.client().get_run(run.run_id)


def test_the_kept_id_is_the_same_run_and_an_unknown_one_is_a_new_run(run, tracking, tmp_path) -> None:
    tracking.client().set_terminated(run.run_id, "FAILED")
    again = TrackedRun.begin(tracking, "unused", name="a run", kept=tmp_path / "run.json")
    assert again.run_id == run.run_id and told(run).info.status == "RUNNING"
    (tmp_path / "run.json").write_text(json.dumps({"run_id": "0" * 32}))
    new = TrackedRun.begin(tracking, f"experiment-{uuid.uuid4().hex}", name="a run", kept=tmp_path / "run.json")
    assert new.run_id not in ("0" * 32, run.run_id)
    assert json.loads((tmp_path / "run.json").read_text())["run_id"] == new.run_id


@pytest.mark.parametrize("kept", ["", "{", "[]", "{}"])
def test_half_a_note_of_the_id_is_a_new_run(tracking, tmp_path, kept) -> None:
    (tmp_path / "run.json").write_text(kept)
    assert TrackedRun.begin(tracking, f"experiment-{uuid.uuid4().hex}", name="x", kept=tmp_path / "run.json").run_id


def test_more_metrics_than_one_request_may_hold_are_written_in_order(run) -> None:
    for step in range(1100):
        run.log({"loss": 1 / (step + 1), "name": "text", "ok": True, "odd(name)": 1}, step)
    run.write()
    history = run.tracking.client().get_metric_history(run.run_id, "loss")
    assert [metric.step for metric in history] == list(range(1100))
    assert set(told(run).data.metrics) == {"loss", "odd_name_"}


def test_metrics_wait_while_the_server_is_away_and_are_not_lost(run, tmp_path, monkeypatch) -> None:
    from mlflow.exceptions import MlflowException

    monkeypatch.setattr("blocks.tracked_run._WRITE_SECONDS", 0.02)
    client, away = run.tracking.client(), [True]
    real = client.log_batch

    def log_batch(*arguments, **keywords):
        if away[0] and keywords.get("metrics"):
            raise MlflowException("API request failed")
        return real(*arguments, **keywords)

    monkeypatch.setattr(client, "log_batch", log_batch)

    async def work() -> None:
        async with run.recording(tmp_path, lambda: None):
            run.log({"loss": 1.0}, 0)
            await asyncio.sleep(0.2)
            away[0] = False
            run.log({"loss": 0.5}, 1)

    asyncio.run(work())
    assert [m.value for m in client.get_metric_history(run.run_id, "loss")] == [1.0, 0.5]
    assert told(run).info.status == "FINISHED"


def test_a_server_that_stays_away_fails_a_training_that_ended_well(run, tmp_path, monkeypatch) -> None:
    from mlflow.exceptions import MlflowException

    def gone(*arguments, **keywords):
        raise MlflowException("API request failed")

    async def work() -> None:
        async with run.recording(tmp_path, lambda: None):
            monkeypatch.setattr(run.tracking.client(), "log_batch", gone)
            run.log({"loss": 1.0}, 0)

    with pytest.raises(Unavailable, match="does not answer"):
        asyncio.run(work())


def test_what_the_training_raised_is_not_hidden_by_a_server_that_is_gone(run, tmp_path, monkeypatch) -> None:
    from mlflow.exceptions import MlflowException

    def gone(*arguments, **keywords):
        raise MlflowException("API request failed")

    async def work() -> None:
        async with run.recording(tmp_path, gone):
            monkeypatch.setattr(run.tracking.client(), "set_terminated", gone)
            raise ValueError("the fuse blew")

    with pytest.raises(ValueError, match="the fuse blew"):
        asyncio.run(work())


def test_truth_values_and_texts_are_no_numbers() -> None:
    assert [is_number(value) for value in (1, 1.5, float("nan"), True, "1", None)] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
