"""Predictions that nobody waits for."""

from __future__ import annotations

import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.volvox.serving.job_server import JobServer


def test_a_prediction_is_made_later_and_its_answer_is_kept(jobs: JobServer) -> None:
    files = {"image": ("a flower.txt", b"petals", "text/plain")}
    answer = jobs.client.post("/v2/models/trainer/predict/?mode=async", files=files, data={"text": "hello"})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/v2/jobs/{job['uuid']}" == job["links"]["self"]
    assert (job["kind"], job["model"], job["version"], len(job["uuid"])) == ("predict", "trainer", "1", 32)
    done = jobs.until(job["uuid"])
    assert (done["state"], done["reason"], done["runs"]) == ("SUCCEEDED", "", 1)
    created, started, finished = (datetime.fromisoformat(done[name]) for name in ("created", "started", "finished"))
    assert created.tzinfo is not None
    assert created <= started <= finished
    result = jobs.client.get(job["links"]["result"])
    assert result.headers["content-type"] == "application/json"
    assert result.json() == {"status": "OK", "predictions": {"text": "hello", "content": "petals"}}
    # The module has removed its file; the job's own stays until the job is removed.
    assert [path.read_bytes() for path in (jobs.folder_of(job["uuid"]) / "uploads").iterdir()] == [b"petals"]
    assert jobs.uploads() == []
    assert jobs.client.delete(f"/v2/jobs/{job['uuid']}").json()["state"] == "SUCCEEDED"
    assert not jobs.folder_of(job["uuid"]).exists()
    for path in ("", "/result", "/log"):
        assert jobs.client.get(f"/v2/jobs/{job['uuid']}{path}").status_code == 404
    assert jobs.client.delete(f"/v2/jobs/{job['uuid']}").status_code == 404


def test_an_answer_keeps_its_content_type(jobs: JobServer) -> None:
    headers = {"Accept": "text/csv"}
    answer = jobs.client.post("/v2/models/trainer/predict/?mode=async", data={"text": "a"}, headers=headers)
    uuid = answer.json()["uuid"]
    assert jobs.until(uuid)["state"] == "SUCCEEDED"
    result = jobs.client.get(f"/v2/jobs/{uuid}/result")
    assert (result.headers["content-type"], result.text) == ("text/csv", "a,1")


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        ({"seconds": "99"}, 422, '{"seconds": ["Must be greater than or equal to 0 and less than or equal to 60."]}'),
        ({"do": "raise"}, 500, "500: KeyError: 'no such layer'"),
        ({"do": "die"}, 500, "exit code 3"),
    ],
)
def test_a_failed_job_says_what_who_had_waited_would_have_read(
    jobs: JobServer, data: dict, status: int, said: str
) -> None:
    job = jobs.until(jobs.later(**data)["uuid"])
    assert job["state"] == "FAILED"
    assert job["reason"]
    result = jobs.client.get(f"/v2/jobs/{job['uuid']}/result")
    assert result.status_code == status
    assert said in result.text
    log = jobs.client.get(f"/v2/jobs/{job['uuid']}/log")
    assert log.headers["content-type"].startswith("text/plain")
    assert ("Traceback" in log.text) == (data.get("do") == "raise")


def test_there_is_no_result_before_its_time_and_a_running_job_can_be_cancelled(jobs: JobServer) -> None:
    uuid = jobs.later(seconds="50")["uuid"]
    jobs.until(uuid, "RUNNING")
    early = jobs.client.get(f"/v2/jobs/{uuid}/result")
    assert early.status_code == 409
    assert "is RUNNING and has no result yet" in early.text
    waiting = jobs.later(text="behind")
    assert waiting["position"] == 1
    assert waiting["reason"] == "0 jobs before it, 1 running"
    began = time.monotonic()
    cancelled = jobs.client.delete(f"/v2/jobs/{uuid}").json()
    assert cancelled["state"] == "CANCELLED"
    assert jobs.client.post("/v2/models/trainer/predict/").status_code == 200
    assert time.monotonic() - began < 15
    assert "was cancelled" in jobs.client.get(f"/v2/jobs/{uuid}/result").text
    assert jobs.until(waiting["uuid"])["state"] == "SUCCEEDED"


def test_a_job_that_waits_can_be_cancelled_and_is_never_made(jobs: JobServer, tmp_path: Path) -> None:
    first = jobs.later(seconds="50")["uuid"]
    second = jobs.later(runs=str(tmp_path / "runs"))["uuid"]
    assert jobs.client.delete(f"/v2/jobs/{second}").json()["state"] == "CANCELLED"
    jobs.client.delete(f"/v2/jobs/{first}")
    jobs.until(jobs.later()["uuid"])
    assert not (tmp_path / "runs").exists()


def test_jobs_are_listed_newest_first_and_filtered(jobs: JobServer) -> None:
    uuids = [jobs.later(text=str(number))["uuid"] for number in range(3)]
    for uuid in uuids:
        jobs.until(uuid)
    listed = jobs.client.get("/v2/jobs/?limit=3").json()["jobs"]
    assert [job["uuid"] for job in listed] == uuids[::-1]
    assert {job["state"] for job in jobs.client.get("/v2/jobs/?state=succeeded").json()["jobs"]} == {"SUCCEEDED"}
    assert jobs.client.get("/v2/jobs/?model=nobody").json() == {"jobs": []}
    assert {job["kind"] for job in jobs.client.get("/v2/jobs/?kind=predict").json()["jobs"]} == {"predict"}
    for wrong in ("state=done", "limit=0", "limit=x", "kind=other"):
        assert jobs.client.get(f"/v2/jobs/?{wrong}").status_code == 422
    assert jobs.client.get("/v2/jobs?limit=1").headers["location"] == "/v2/jobs/?limit=1"


def test_a_job_of_a_model_that_is_not_there_is_refused(jobs: JobServer) -> None:
    assert jobs.client.post("/v2/models/nobody/predict/?mode=async").status_code == 404


def test_a_job_of_a_killed_server_is_made_by_the_next(jobs: JobServer, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    files = {"image": ("a.txt", b"petals", "text/plain")}
    answer = jobs.client.post(
        "/v2/models/trainer/predict/?mode=async", files=files, data={"seconds": "1.5", "runs": str(runs)}
    )
    running = answer.json()["uuid"]
    waiting = jobs.later(text="waits")["uuid"]
    jobs.until(running, "RUNNING")
    while not runs.exists():
        time.sleep(0.02)
    jobs.end(signal.SIGKILL)
    (jobs.home / "serving" / "jobs" / ("0" * 32)).mkdir()  # one that was being made
    jobs.start()
    first, second = jobs.until(running), jobs.until(waiting)
    assert (first["state"], first["runs"], second["state"], second["runs"]) == ("SUCCEEDED", 2, "SUCCEEDED", 1)
    assert jobs.client.get(f"/v2/jobs/{running}/result").json()["predictions"]["content"] == "petals"
    assert len(set(runs.read_text().split())) == 2
    states = [event[2] for event in jobs.events(running) if event[1] == "state"]
    assert "the server ended while it ran; it runs again" in states[2]
    assert not (jobs.home / "serving" / "jobs" / ("0" * 32)).exists()
