"""What jobs may take, and what they leave to those who wait: servers in this process, with limits of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.volvox.serving.job_server import TRAINER
from volvox.serving.app import create_app
from volvox.serving.deployed import Deployed
from volvox.serving.job_store import Store
from volvox.serving.jobs import Jobs
from volvox.serving.limits import Limits
from volvox.serving.served import ServedModel
from volvox.serving.services import Services


@contextlib.asynccontextmanager
async def _server(home: Path, **limits: Any) -> AsyncIterator[tuple[Jobs, ServedModel, httpx.AsyncClient]]:
    services = Services(home / "serving", Limits(**limits))
    app = create_app(home, services.limits, services)
    model = services.serve(Deployed(name="trainer", module="trainer", model_version="a" * 64), None)
    async with app.router.lifespan_context(app):
        await model.start()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://server", timeout=30
        ) as client:
            yield app.state.jobs, model, client


async def _later(client: httpx.AsyncClient, **data: str) -> httpx.Response:
    return await client.post("/v2/models/trainer/predict/?mode=async", data=data)


async def _until(client: httpx.AsyncClient, uuid: str, *states: str) -> dict[str, Any]:
    end = time.monotonic() + 20
    while True:
        job = (await client.get(f"/v2/jobs/{uuid}")).json()
        if job["state"] in (states or ("SUCCEEDED", "FAILED", "CANCELLED")):
            return job
        assert time.monotonic() < end, job
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def trainer(install_module) -> None:
    install_module("trainer", TRAINER)


def test_a_job_is_interrupted_when_its_time_is_over_and_only_so_many_may_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with _server(tmp_path, job_seconds=0.5, jobs_waiting=2, deadline_seconds=0.2) as (_, model, client):
            pid = model.worker_pids[0]
            first = (await _later(client, seconds="30")).json()["uuid"]
            await _until(client, first, "RUNNING")
            waiting = [(await _later(client, text=text)).json()["uuid"] for text in "ab"]
            refused = await _later(client)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            job = await _until(client, first)
            assert job["reason"] == "model 'trainer' did not answer within 0.5 s: it was interrupted"
            assert (await client.get(f"/v2/jobs/{first}/result")).status_code == 500
            for uuid in waiting:
                assert (await _until(client, uuid))["state"] == "SUCCEEDED"
            assert model.worker_pids == [pid], "the worker was replaced, though it could be interrupted"

    asyncio.run(test())


def test_who_waits_for_an_answer_goes_before_jobs_and_jobs_take_no_place_in_the_queue(tmp_path: Path) -> None:
    async def test() -> None:
        order: list[str] = []

        async def ask(client: httpx.AsyncClient, name: str) -> None:
            answer = await client.post("/v2/models/trainer/predict/", data={"seconds": "0.1"})
            assert answer.status_code == 200, answer.text
            order.append(name)

        async with _server(tmp_path, queue=2) as (_, _, client):
            running = (await _later(client, seconds="0.6")).json()["uuid"]
            await _until(client, running, "RUNNING")
            uuids = [(await _later(client, text=str(number))).json()["uuid"] for number in range(5)]
            asking = [asyncio.create_task(ask(client, "first"))]
            await asyncio.sleep(0.05)
            asking.append(asyncio.create_task(ask(client, "second")))
            await asyncio.gather(*asking)
            assert order == ["first", "second"]
            answered = time.time()
            for uuid in uuids:
                job = await _until(client, uuid)
                assert job["state"] == "SUCCEEDED"
                assert datetime.fromisoformat(job["started"]).timestamp() > answered - 0.05

    asyncio.run(test())


def test_where_there_are_two_workers_jobs_leave_one_to_those_who_wait(tmp_path: Path) -> None:
    async def test() -> None:
        async with _server(tmp_path, workers=2) as (_, _, client):
            uuids = [(await _later(client, seconds="20")).json()["uuid"] for _ in range(2)]
            await _until(client, uuids[0], "RUNNING")
            began = time.monotonic()
            for _ in range(10):
                assert (await client.post("/v2/models/trainer/predict/")).status_code == 200
            assert time.monotonic() - began < 5
            assert (await client.get(f"/v2/jobs/{uuids[1]}")).json()["state"] == "PENDING"

    asyncio.run(test())


def test_finished_jobs_are_swept_with_their_files(tmp_path: Path) -> None:
    async def test() -> None:
        async with _server(tmp_path) as (_, _, client):
            uuids = [(await _later(client)).json()["uuid"] for _ in range(3)]
            for uuid in uuids:
                await _until(client, uuid)
        async with _server(tmp_path, jobs_kept=1) as (jobs, _, client):
            end = time.monotonic() + 10
            while await jobs.ask(Store.uuids) != {uuids[-1]}:
                assert time.monotonic() < end
                await asyncio.sleep(0.02)
            kept = [path for path in (tmp_path / "serving" / "jobs").iterdir() if path.is_dir()]
            assert [path.name for path in kept] == [uuids[-1]]
            assert (await client.get(f"/v2/jobs/{uuids[-1]}/result")).json()["status"] == "OK"

    asyncio.run(test())


def test_a_job_during_which_the_server_died_too_often_is_not_tried_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with _server(tmp_path) as (jobs, _, client):
            uuid = (await _later(client, text="deadly")).json()["uuid"]
            await _until(client, uuid)
        store = Store(tmp_path / "serving" / "jobs" / "jobs.sqlite")
        store.move(uuid, "RUNNING", of=("SUCCEEDED",), deaths=2)
        store.close()
        async with _server(tmp_path) as (jobs, _, client):
            job = await _until(client, uuid)
            assert (job["state"], job["runs"]) == ("FAILED", 2)
            assert job["reason"] == "the server ended while it ran, 3 times; it is not tried again"
            assert (await jobs.get(uuid)).deaths == 3

    asyncio.run(test())


def test_a_job_of_a_model_that_is_served_no_more_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with _server(tmp_path) as (jobs, model, client):
            blocking = (await _later(client, seconds="0.3")).json()["uuid"]
            uuid = (await _later(client)).json()["uuid"]
            del jobs.services._served["trainer"]
            assert (await _until(client, blocking))["state"] == "SUCCEEDED"
            job = await _until(client, uuid)
            assert job["state"] == "FAILED"
            assert "no model 'trainer' is served here" in job["reason"]
            jobs.services._served["trainer"] = model

    asyncio.run(test())


def test_a_module_keeps_its_own_argument_named_mode(tmp_path: Path) -> None:
    async def test() -> None:
        async with _server(tmp_path) as (jobs, _, client):
            answer = await client.post("/v2/models/trainer/predict/?mode=async&mode=other&text=a")
            uuid = answer.json()["uuid"]
            kept = json.loads((jobs.files.of(uuid) / "request.json").read_text())
            assert kept["query"] == {"mode": ["other"], "text": ["a"]}
            await _until(client, uuid)

    asyncio.run(test())
