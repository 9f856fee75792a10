"""Trainings: DEEPaaS's wire, a slot and a process of their own, and what becomes of them when the server is killed."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from datetime import datetime, timedelta

import pytest

from tests.volvox.serving.job_server import JobServer, processes
from tests.volvox.serving.running_server import gone

TRAIN = "/v2/models/trainer/train/"
DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"
DEFAULTS = {"epochs": 1, "seconds": 0.0, "do": "train", "layers": [8, 4]}


def _until_epoch(jobs: JobServer, uuid: str, epoch: int) -> None:
    end = time.monotonic() + 20
    while ((jobs.job(uuid)["progress"] or {}).get("done") or 0) < epoch:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_training_is_told_of_as_deepaas_does(jobs: JobServer) -> None:
    before = datetime.now()
    begun = jobs.train(epochs="2", nobody="1")
    assert begun.keys() == {"date", "args", "uuid", "status"}
    assert re.fullmatch(DATE, begun["date"])
    assert before <= datetime.fromisoformat(begun["date"]) <= datetime.now()
    assert re.fullmatch("[0-9a-f]{32}", begun["uuid"])
    assert (begun["status"], begun["args"]) == ("running", {**DEFAULTS, "epochs": 2})
    jobs.until(begun["uuid"])
    done = jobs.client.get(TRAIN + begun["uuid"]).json()
    assert done.keys() == {"date", "args", "uuid", "status", "result"}
    assert (done["status"], done["date"]) == ("done", begun["date"])
    result = done["result"]
    assert result["output"] == {"resumed_from_epoch": 0, "start": "", "weights": "version 1", "loss": None}
    took = datetime.fromisoformat(result["finish_date"]) - datetime.fromisoformat(done["date"])
    assert result["duration"] == str(took)
    assert re.fullmatch(r"\d:\d\d:\d\d\.\d{6}", result["duration"])
    assert jobs.client.get(TRAIN).json()[-1] == done
    job = jobs.job(begun["uuid"])
    step = {"done": 2, "total": 2, "unit": "epochs", "metrics": {"loss": None}}
    assert (job["kind"], job["state"], job["progress"]) == ("train", "SUCCEEDED", step)
    assert jobs.client.get(f"/v2/jobs/{begun['uuid']}/log").text == "nice 10\nepoch 1\nepoch 2\n"
    files = jobs.client.get(f"/v2/jobs/{begun['uuid']}/output/").json()["files"]
    assert [told["path"] for told in files] == ["model.json", "progress.jsonl"]
    assert jobs.client.get(f"/v2/jobs/{begun['uuid']}/output/model.json").json() == {"epochs": 2}
    for path in ("%2e%2e/request.json", "../request.json", "nothing", "%00"):
        assert jobs.client.get(f"/v2/jobs/{begun['uuid']}/output/{path}").status_code == 404
    assert jobs.client.delete(TRAIN + begun["uuid"]).json() == done
    gone_now = jobs.client.get(TRAIN + begun["uuid"])
    assert (gone_now.status_code, gone_now.text) == (404, "404: Not Found")
    assert not jobs.folder_of(begun["uuid"]).exists()


def test_a_file_reaches_train(jobs: JobServer) -> None:
    answer = jobs.client.post(TRAIN, files={"start": ("foo.txt", b"from here", "text/plain")}, data={"layers": "3"})
    begun = answer.json()
    assert begun["args"] == {**DEFAULTS, "layers": [3], "start": ["start", "text/plain", "foo.txt"]}
    assert jobs.until(begun["uuid"])["state"] == "SUCCEEDED"
    assert jobs.client.get(f"/v2/jobs/{begun['uuid']}/result").json()["start"] == "from here"


def test_wrong_arguments_are_refused_before_there_is_a_training(jobs: JobServer) -> None:
    before = len(jobs.client.get(TRAIN).json())
    answer = jobs.client.post(f"{TRAIN}?epochs=0&seconds=x")
    assert answer.status_code == 422
    assert answer.json().keys() == {"epochs", "seconds"}
    assert answer.json()["seconds"] == ["Not a valid number."]
    assert jobs.client.post(TRAIN, content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert len(jobs.client.get(TRAIN).json()) == before
    assert jobs.uploads() == []


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("raise", "the loss is not a number"),
        ("exit", "the process of train() of module 'trainer' ended with exit code 3"),
    ],
)
def test_a_training_that_fails_says_why(jobs: JobServer, do: str, message: str) -> None:
    uuid = jobs.train(do=do)["uuid"]
    jobs.until(uuid)
    told = jobs.client.get(TRAIN + uuid).json()
    assert (told["status"], told["message"]) == ("error", message)
    assert "result" not in told
    assert message in jobs.job(uuid)["reason"]
    assert jobs.client.delete(TRAIN + uuid).json() == told


def test_what_is_not_there_is_answered_as_deepaas_does(jobs: JobServer) -> None:
    missing = jobs.client.post("/v2/models/tiny-plain/train/")
    assert missing.status_code == 501
    assert missing.text == "501: Not implemented by underlying model (loaded 'tiny-plain')"
    assert jobs.client.get("/v2/models/tiny-plain/train/").json() == []
    assert jobs.client.get("/v2/models/nobody/train/").status_code == 404
    assert jobs.client.get(TRAIN + "0123").text == jobs.client.delete(TRAIN + "0123").text == "404: Not Found"
    prediction = jobs.later()["uuid"]
    assert jobs.client.get(TRAIN + prediction).status_code == 404
    moved = jobs.client.post("/v2/models/trainer/train?epochs=1")
    assert (moved.status_code, moved.headers["location"]) == (308, TRAIN + "?epochs=1")
    assert jobs.client.head(TRAIN).status_code == 405


def test_the_next_training_waits_predictions_do_not_and_a_cancelled_one_leaves_no_process(jobs: JobServer) -> None:
    running = jobs.train(epochs="1000", seconds="0.05", do="family")["uuid"]
    waiting = jobs.train()["uuid"]
    _until_epoch(jobs, running, 1)
    job = jobs.job(waiting)
    assert (job["state"], job["position"]) == ("PENDING", 1)
    assert job["reason"] == "0 trainings before it, 1 of 1 training slot taken"
    assert jobs.client.get(TRAIN + waiting).json()["status"] == "running"
    began = time.monotonic()
    for _ in range(5):
        assert jobs.client.post("/v2/models/trainer/predict/").status_code == 200
    assert time.monotonic() - began < 5
    assert len(processes(running)) == 3
    began = time.monotonic()
    answer = jobs.client.delete(TRAIN + running)
    assert processes(running) == []
    assert time.monotonic() - began < 15
    assert answer.status_code == 200
    assert answer.json().keys() == {"date", "args", "uuid", "status"}
    assert answer.json()["status"] == "cancelled"
    assert jobs.client.get(TRAIN + running).status_code == 404
    assert jobs.job(running)["state"] == "CANCELLED"
    assert jobs.until(waiting)["state"] == "SUCCEEDED"


def test_a_stream_is_live_and_goes_on_where_it_broke(jobs: JobServer) -> None:
    uuid = jobs.train(epochs="8", seconds="0.2")["uuid"]
    began = time.monotonic()
    first = jobs.events(uuid, at_most=6)
    assert jobs.job(uuid)["state"] == "RUNNING", "the events came only when all was over"
    rest = jobs.events(uuid, last=first[-1][0])
    whole = jobs.events(uuid)
    assert time.monotonic() - began < 20
    assert len({number for number, _, _ in whole}) == len(whole)
    for kind in ("log", "progress", "state"):
        assert [data for _, told, data in first + rest if told == kind] == [
            data for _, told, data in whole if told == kind
        ]
    lines = [data for _, kind, data in whole if kind == "log"]
    assert lines == ["nice 10", *(f"epoch {number}" for number in range(1, 9))]
    steps = [json.loads(data) for _, kind, data in whole if kind == "progress"]
    assert [step["done"] for step in steps] == list(range(1, 9))
    states = [json.loads(data)["state"] for _, kind, data in whole if kind == "state"]
    assert states == ["PENDING", "RUNNING", "SUCCEEDED"]
    assert whole[-1][1] == "state"
    last = {"Accept": "text/event-stream", "Last-Event-ID": whole[-1][0]}
    assert jobs.client.get(f"/v2/jobs/{uuid}/log", headers=last).status_code == 204


def test_everything_documented_is_what_is_answered(jobs: JobServer) -> None:
    document = jobs.client.get("/openapi.json").json()
    train = document["paths"][TRAIN]["post"]
    assert {told["name"] for told in train["parameters"]} == {"epochs", "seconds", "do", "layers"}
    assert "start" in train["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert "/v2/models/tiny-plain/train/" not in document["paths"]
    schema = document["paths"]["/v2/jobs/{uuid}"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    uuid = jobs.train()["uuid"]
    assert set(jobs.until(uuid)) == set(schema["properties"])
    numbers = [told["operationId"] for path in document["paths"].values() for told in path.values() if
               "operationId" in told]  # fmt: skip
    assert len(set(numbers)) == len(numbers)


def test_after_a_kill_a_training_goes_on_from_its_checkpoints_or_has_failed(jobs: JobServer) -> None:
    resumed = jobs.train(epochs="15", seconds="0.1")["uuid"]
    behind = jobs.train()["uuid"]
    _until_epoch(jobs, resumed, 3)
    pids = processes(resumed)
    last = jobs.events(resumed, at_most=3)[-1][0]
    jobs.end(signal.SIGKILL)
    assert all(gone(pid) for pid in pids)
    jobs.start()
    assert jobs.until(resumed)["state"] == "SUCCEEDED"
    assert jobs.job(resumed)["runs"] == 2
    assert jobs.client.get(f"/v2/jobs/{resumed}/result").json()["resumed_from_epoch"] >= 3
    reasons = [json.loads(data)["reason"] for _, kind, data in jobs.events(resumed, last=last) if kind == "state"]
    assert "the server ended while it ran; it goes on from its checkpoints" in reasons
    assert jobs.until(behind)["state"] == "SUCCEEDED"

    lost = jobs.train(epochs="1000", seconds="0.05", do="forget")["uuid"]
    _until_epoch(jobs, lost, 1)
    following = threading.Thread(target=jobs.events, args=(lost,))  # a stream that is open does not hold the server
    following.start()
    time.sleep(0.3)
    began = time.monotonic()
    jobs.end()  # in order: what it says is the same
    following.join()
    assert timedelta(seconds=time.monotonic() - began) < timedelta(seconds=15)
    assert processes(lost) == []
    jobs.start()
    job = jobs.job(lost)
    assert job["state"] == "FAILED"
    assert job["reason"] == "the server ended while it ran, and it had left no checkpoint to go on from"
    told = jobs.client.get(TRAIN + lost).json()
    assert (told["status"], told["message"]) == ("error", job["reason"])
