"""HTTP routes of functions on our own server, as API Gateway has them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.volvox.dispatch.conftest import Site, Tame, dispatching, function
from volvox.dispatch.calls import arguments_of, call, place_for
from volvox.dispatch.work import CALLS, work_of
from volvox.functions import registry
from volvox.inbox import Ending, Job
from volvox.runtimes.interface import Call, Outcome
from volvox.serving.app import create_app
from volvox.serving.limits import Limits

URL = "/v1/apis/f/scar/launch"


def applied(site: Site, **gateway: Any) -> None:
    registry.apply(site.home, function(site, settings={"api_gateway": {"name": "api", **gateway}}))


@pytest.fixture
def web(site: Site) -> Iterator[TestClient]:
    applied(site)
    with TestClient(create_app(site.home.root, functions=True)) as client:
        yield client


@contextmanager
def answering(site: Site, answer: Callable[[Job], dict[str, Any]]) -> Iterator[list[tuple[Job, bytes]]]:
    """Answer the next call by what `answer` gives of it; the job and its file."""
    seen: list[tuple[Job, bytes]] = []

    def work() -> None:
        while not (jobs := site.inbox.take("f", 1, "me")):
            pass
        job = jobs[0]
        seen.append((job, (site.home.root / "dispatch" / CALLS / job.key).read_bytes()))
        site.inbox.end([Ending(job.id, **{"state": "SUCCEEDED", **answer(job)})], "me")

    thread = threading.Thread(target=work)
    thread.start()
    yield seen
    thread.join()


def kept(site: Site, **files: bytes) -> Callable[[Job], dict[str, Any]]:
    """Answers with these files."""

    def answer(job: Job) -> dict[str, Any]:
        folder = work_of(site.home, job.id).kept
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_bytes(content)
        return {"outputs": [{"url": "", "key": name.replace("_", "."), "size": 1} for name in files]}

    return answer


def test_a_body_is_the_file_the_query_its_arguments_and_the_answer_comes_back(web: TestClient, site: Site) -> None:
    body = bytes(range(256))
    with answering(site, kept(site, a_json=b'{"ok": 1}')) as seen:
        told = web.post(
            f"{URL}?top=3&label=a%20b", content=body, headers={"content-type": "image/png", "authorization": "Bearer x"}
        )
    assert (told.status_code, told.json(), told.headers["content-type"]) == (200, {"ok": 1}, "application/json")
    job, content = seen[0]
    assert content == body and job.key.endswith("/request.png") and told.headers["x-volvox-job"] == job.id
    event = json.loads(job.event)
    assert (event["httpMethod"], event["path"], event["resource"]) == ("POST", "/launch", "/{proxy+}")
    assert event["requestContext"]["stage"] == "scar"
    assert "authorization" not in event["headers"] and "Bearer" not in job.event
    assert arguments_of(job) == {"top": "3", "label": "a b"}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST", "HEAD"])
def test_any_method_calls_it_unless_the_file_names_one(web: TestClient, site: Site, method: str) -> None:
    with answering(site, kept(site, a_txt=b"fine")) as seen:
        told = web.request(method, URL, headers={"x-file-name": "../../photo.jpg"})
    assert (told.status_code, told.text) == (200, "" if method == "HEAD" else "fine")
    assert seen[0][1] == b"" and seen[0][0].key.rpartition("/")[2] == "photo.jpg"
    applied(site, http_method="POST")
    told = web.request(method, URL) if method != "POST" else web.get(URL)
    assert (told.status_code, told.headers["allow"]) == (405, "POST")


def test_several_files_and_none_are_answered(web: TestClient, site: Site) -> None:
    with answering(site, kept(site, a_txt=b"1", b_bin=b"\xff")):
        told = web.post(URL, content=b"x").json()
    assert told == {"files": [{"path": "a.txt", "content": "MQ=="}, {"path": "b.bin", "content": "/w=="}]}

    def printed(job: Job) -> dict[str, Any]:
        log = work_of(site.home, job.id).log
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("said\n")
        return {}

    with answering(site, printed):
        told = web.post(URL, content=b"x")
    assert (told.text, told.headers["content-type"]) == ("said\n", "text/plain; charset=utf-8")


@pytest.mark.parametrize(("kind", "status"), [("refused", 422), ("failed", 500), ("gone", 503), ("timeout", 504)])
def test_what_fails_has_the_status_that_it_has_on_amazon(web: TestClient, site: Site, kind: str, status: int) -> None:
    with answering(site, lambda _: {"state": "FAILED", "reason": "because", "error": {"kind": kind}}):
        told = web.post(URL, content=b"x")
    assert (told.status_code, told.json()) == (status, {"kind": kind, "reason": "because"})


def test_what_takes_longer_than_the_limit_is_told_and_goes_on(web: TestClient, site: Site) -> None:
    applied(site, integration={"timeoutInMillis": 100})
    told = web.post(URL, content=b"x")
    assert told.status_code == 504 and told.json()["kind"] == "timeout" and "0.1 s" in told.json()["reason"]
    job = site.inbox.job(told.headers["x-volvox-job"])
    assert (told.headers["location"], job.state) == (f"/v1/jobs/{job.id}", "RUNNABLE")


def test_what_is_no_route_is_not_found(web: TestClient, site: Site) -> None:
    assert web.post("/v1/apis/g/scar/launch", content=b"x").status_code == 404
    for path in ("/v1/apis/f/other/launch", "/v1/apis/f/scar/"):
        told = web.post(path, content=b"x")
        assert told.status_code == 404 and "scar/{proxy+}" in told.text
    applied(site, path_part="ask", stage_name="prod")
    assert web.post("/v1/apis/f/prod/else", content=b"x").status_code == 404
    registry.apply(site.home, function(site))
    told = web.post(URL, content=b"x")
    assert told.status_code == 404 and "api_gateway.name" in told.text
    assert site.inbox.jobs() == []


def test_a_body_that_is_too_large_is_refused_and_nothing_of_it_stays(site: Site) -> None:
    applied(site)
    with TestClient(create_app(site.home.root, limits=Limits(upload_bytes=10), functions=True)) as web:
        assert web.post(URL, content=b"x" * 11).status_code == 413
        assert web.post(URL, content=(b"x" * 6 for _ in range(2))).status_code == 413  # pyright: ignore[reportArgumentType]
    assert site.inbox.jobs() == [] and list((site.home.root / "dispatch" / CALLS).iterdir()) == []


def test_the_query_reaches_the_function_as_arguments_of_this_call(site: Site) -> None:
    class Seeing(Tame):
        seen: list[dict[str, Any]] = []

        async def invoke(self, name: str, calls: Sequence[Call]) -> list[Outcome]:
            self.seen += [dict(call.arguments) for call in calls]
            return await super().invoke(name, calls)

    async def test() -> None:
        runtime = Seeing()
        applied(site)
        async with dispatching(site, runtime) as running:
            for event in (json.dumps({"queryStringParameters": {"top": "3"}}), json.dumps({"httpMethod": "GET"}), ""):
                handed = place_for(site.home, "a.png")
                handed.path.write_bytes(b"abc")
                call(site.home, site.inbox, "f", handed, event=event)
            await running.ended(3)
        assert sorted(map(str, runtime.seen)) == ["{'top': '3'}", "{}", "{}"]

    asyncio.run(test())
