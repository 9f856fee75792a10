"""Functions and their jobs over HTTP, without a dispatcher: what is kept, told and refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.volvox.dispatch.conftest import Site, function
from volvox.dispatch.calls import answers, call, failure, place_for
from volvox.dispatch.work import work_of
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable
from volvox.events import Sender, senders
from volvox.functions import registry
from volvox.inbox import Ending
from volvox.serving.app import create_app


@pytest.fixture
def web(site: Site) -> Iterator[TestClient]:
    registry.apply(site.home, function(site))
    with TestClient(create_app(site.home.root, functions=True)) as client:
        yield client


def uploaded(web: TestClient, name: str = "a.png", content: bytes = b"abc") -> str:
    told = web.post("/v1/functions/f/files", files={"file": (name, content)})
    assert told.status_code == 202
    return told.json()["jobs"][0]["id"]


def ended(site: Site, job_id: str, state: str = "SUCCEEDED", reason: str = "", **error: str) -> None:
    site.inbox.take("f", 100, "me")
    site.inbox.end([Ending(job_id, state, reason, error=error)], "me")  # pyright: ignore[reportArgumentType]


def test_a_file_that_is_uploaded_lies_in_the_input_place_and_is_a_job(web: TestClient, site: Site) -> None:
    job_id = uploaded(web, "sub\\ünï code.png")
    assert (site.source / "ünï code.png").read_bytes() == b"abc"
    told = web.get(f"/v1/jobs/{job_id[:8]}").json()
    assert (told["id"], told["state"], told["key"], told["source"]) == (job_id, "RUNNABLE", "ünï code.png", "upload")
    assert "next one" in told["reason"]
    assert uploaded(web, "b.png") != job_id
    assert web.get("/v1/jobs/ffffffff").status_code == 404
    told = web.post("/v1/functions/f/files", params={"folder": "ann"}, files={"file": ("a.png", b"x")}).json()
    assert told["jobs"][0]["key"] == "ann/a.png"


def test_a_folder_that_leaves_the_place_is_refused(web: TestClient, site: Site) -> None:
    told = web.post("/v1/functions/f/files", params={"folder": "../.."}, files={"file": ("a.png", b"x")})
    assert told.status_code == 422
    assert {path.name for path in site.source.parent.iterdir()} == {"home", "in", "out"}


def test_jobs_are_listed_page_by_page(web: TestClient) -> None:
    ids = [uploaded(web, f"{number}.png") for number in range(3)]
    first = web.get("/v1/jobs/", params={"limit": 2}).json()
    assert [job["id"] for job in first["jobs"]] == ids[:0:-1]
    rest = web.get("/v1/jobs/", params={"limit": 2, "before": first["next"]}).json()
    assert [job["id"] for job in rest["jobs"]] == ids[:1]
    assert rest["next"] is None
    assert web.get("/v1/jobs/", params={"state": "succeeded"}).json()["jobs"] == []
    for wrong in ({"state": "done"}, {"limit": "x"}, {"before": "-1"}):
        assert web.get("/v1/jobs/", params=wrong).status_code == 422


def test_a_job_is_cancelled_and_run_again(web: TestClient, site: Site) -> None:
    job_id = uploaded(web)
    assert web.post(f"/v1/jobs/{job_id}/retry").status_code == 422
    assert web.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "FAILED"
    assert web.post(f"/v1/jobs/{job_id}/retry").json()["state"] == "RUNNABLE"
    ended(site, job_id)
    assert web.post(f"/v1/jobs/{job_id}/cancel").status_code == 422


def test_functions_are_told_with_their_jobs(web: TestClient) -> None:
    uploaded(web)
    (told,) = web.get("/v1/functions/").json()["functions"]
    assert (told["name"], told["model"], told["jobs"], told["instances"]) == ("f", "m", {"RUNNABLE": 1}, [])
    assert web.get("/v1/functions/f").json()["definition"]["name"] == "f"
    assert web.get("/v1/functions/g").status_code == 404
    assert web.post("/v1/functions/g/files", files={"file": ("a", b"x")}).status_code == 404


def test_a_call_that_takes_longer_is_told_as_a_job(web: TestClient) -> None:
    told = web.post("/v1/functions/f/call", params={"wait": "0"}, files={"file": ("a.png", b"abc")})
    assert told.status_code == 202
    assert told.headers["location"] == f"/v1/jobs/{told.json()['id']}"
    for wrong in ({"wait": "-1"}, {"wait": "nan"}, {"wait": "x"}):
        assert web.post("/v1/functions/f/call", params=wrong, files={"file": ("a", b"x")}).status_code == 422
    assert web.post("/v1/functions/f/call").status_code == 422


def test_a_call_that_was_answered_is_answered(web: TestClient, site: Site) -> None:
    def answer() -> None:
        while not (jobs := site.inbox.take("f", 1, "me")):
            pass
        kept = work_of(site.home, jobs[0].id).kept
        kept.mkdir(parents=True)
        (kept / "a.png.json").write_text('{"ok": 1}')
        output = {"url": "", "key": "a.png.json", "size": 9}
        site.inbox.end([Ending(jobs[0].id, "SUCCEEDED", outputs=[output])], "me")

    thread = threading.Thread(target=answer)
    thread.start()
    told = web.post("/v1/functions/f/call", files={"file": ("a.png", b"abc")})
    thread.join()
    assert told.json() == {"ok": 1}
    job_id = told.headers["x-volvox-job"]
    assert web.get(f"/v1/jobs/{job_id}/outputs/a.png.json").json() == {"ok": 1}
    assert web.get(f"/v1/jobs/{job_id}/outputs/..%2f..%2finbox.db").status_code == 404


@pytest.mark.parametrize(
    ("kind", "error"),
    [("refused", InvalidInput), ("missing", NotFound), ("gone", Unavailable), ("timeout", ModuleFailed)],
)
def test_a_call_that_failed_says_how(site: Site, kind: str, error: type[Exception]) -> None:
    registry.apply(site.home, function(site))
    handed = place_for(site.home, "a.png")
    handed.path.write_bytes(b"abc")
    job = call(site.home, site.inbox, "f", handed)
    ended(site, job.id, "FAILED", "because", kind=kind)
    assert type(failure(site.inbox.job(job.id))) is error
    with pytest.raises(error, match="because"):
        answers(site.home, site.inbox.job(job.id))


def test_changes_are_told_live_and_none_twice(web: TestClient, site: Site) -> None:
    start = site.inbox.last_change()
    job_id = uploaded(web)
    site.inbox.cancel(job_id)
    # A server that is about to end tells what there is, and ends the stream.
    services = web.app.state.services  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    threading.Timer(0.5, lambda: setattr(services, "ending", True)).start()
    with web.stream("GET", "/v1/jobs/changes", headers={"Last-Event-ID": str(start)}) as told:
        lines = [line for line in told.iter_lines() if line.startswith("data: ")]
    assert [json.loads(line[6:])["state"] for line in lines] == ["FAILED"]


def test_notifications_are_taken_from_known_senders_only(web: TestClient, site: Site) -> None:
    body = {
        "EventName": "s3:ObjectCreated:Put",
        "Records": [
            {
                "eventSource": "minio:s3",
                "eventName": "s3:ObjectCreated:Put",
                "s3": {"bucket": {"name": "b"}, "object": {"key": "in%2Fa+b.png"}},
            }
        ],
    }
    assert web.post("/events/", json=body).status_code == 401
    token = senders.add(Path(site.home.root, "dispatch", "senders.yaml"), Sender(name="b", places=("s3://b",)))
    headers = {"Authorization": f"Bearer {token}"}
    assert web.post("/events/", json=body, headers=headers).status_code == 200
    (waiting,) = site.inbox.arrivals()
    assert (waiting.arrival.place, waiting.arrival.key, waiting.arrival.source) == ("s3://b", "in/a b.png", "webhook")
    assert web.post("/events/", json=body, headers={"Authorization": "Bearer nobody"}).status_code == 401
