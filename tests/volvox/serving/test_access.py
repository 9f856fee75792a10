"""Ids of requests, and the access log."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
import sys
from pathlib import Path

import httpx
import pytest

from tests.volvox.serving.running_server import RunningServer
from volvox.serving import access
from volvox.serving.app import create_app


@pytest.mark.parametrize(
    "path", ["/", "/v2/models/", "/health/ready", "/nowhere", "/oip/v2", "/metrics", "/models/tiny"]
)
def test_every_answer_has_an_id_and_a_given_one_comes_back(shared: RunningServer, path: str) -> None:
    first, second = (shared.client.get(path).headers.get_list("x-request-id") for _ in range(2))
    assert len(first) == len(second) == 1
    assert first != second
    assert shared.client.get(path, headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "ä"])
def test_an_id_that_could_harm_a_log_is_replaced(shared: RunningServer, given: str) -> None:
    answer = shared.client.get("/v2/models/", headers={"x-request-id": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/v2/models/tiny/predict/", "/v2/models/%74iny/predict/"])
def test_the_log_of_a_failure_has_the_id(shared: RunningServer, path: str) -> None:
    number = f"failure-{len(path)}"
    files = {"image": b"1"}
    answer = shared.client.post(path, files=files, data={"mode": "raise"}, headers={"x-request-id": number})
    assert answer.status_code == 500
    lines = (shared.folder / "errors").read_text().splitlines()
    assert [line for line in lines if "no such layer" in line and number in line]


@pytest.fixture
def lines() -> io.StringIO:
    """The access log, turned on for one test."""
    kept = access.log.handlers[:], access.log.propagate, access.log.level
    stream = io.StringIO()
    access.turn_on(stream)
    yield stream
    access.log.handlers[:], access.log.propagate = kept[0], kept[1]
    access.log.setLevel(kept[2])


def ask(tmp_path: Path, *paths: str) -> list[httpx.Response]:
    async def asked() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(tmp_path), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.get(path, headers={"x-request-id": "number-1"}) for path in paths]

    return asyncio.run(asked())


def test_each_request_has_a_line_without_its_query(lines: io.StringIO, tmp_path: Path) -> None:
    ask(tmp_path, "/health/live?token=secret", "/nowhere%0Aforged")
    first, second = lines.getvalue().splitlines()
    assert re.search(r' 127\.0\.0\.1 "GET /health/live" 200 [\d.]+ms number-1$', first)
    assert second.endswith("number-1")
    assert '"GET /nowhere\\nforged" 404' in second


def test_a_prediction_that_takes_the_short_way_has_a_line_too(server: RunningServer) -> None:
    assert server.end() == 0
    server.command = [sys.executable, "-m", "tests.volvox.serving.guarded_server", str(server.home)]
    server.command.append('{"access_log": true}')
    server.environment["PYTHONPATH"] = os.pathsep.join([str(server.site), str(Path(__file__).parents[3])])
    server.start()
    server.deploy("1")
    number = server.client.post("/v2/models/tiny/predict/?top=x", files={"image": b"1"}).headers["x-request-id"]
    while "POST" not in (line := server.process.stdout.readline()):
        assert line
    assert re.search(rf' 127\.0\.0\.1 "POST /v2/models/tiny/predict/" 422 [\d.]+ms {number}$', line)


def test_nothing_is_written_unless_it_is_turned_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ask(tmp_path, "/health/live")
    assert capfd.readouterr() == ("", "")
    assert not access.log.isEnabledFor(logging.INFO)


def test_an_error_of_the_server_itself_has_an_id_and_is_logged_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("volvox.serving.api.metadata", lambda model: 1 / 0)
    monkeypatch.setattr("volvox.serving.services.Services.__iter__", lambda self: iter([None]))
    (answer,) = ask(tmp_path, "/v2/models/")
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "number-1")
    assert "number-1" in caplog.text
