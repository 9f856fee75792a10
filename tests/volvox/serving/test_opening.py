"""Links into the stack's other servers, which may still be starting."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from tests.volvox.serving.running_server import RunningServer
from volvox.identity import process_started, this_process
from volvox.serving import opening


class _Healthy(http.server.BaseHTTPRequestHandler):
    healthy = True

    def do_GET(self) -> None:
        self.send_response(200 if self.healthy and self.path in ("/health", "/api/health") else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def other() -> Iterator[str]:
    """The address of a server that answers both health paths."""
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def _record(server: RunningServer, name: str, url: str) -> None:
    pid, started = this_process()
    assert process_started(pid) == started
    told = {"name": name, "pid": pid, "started": started, "url": url, "port": 1}
    (server.home / "stack" / f"{name}.json").write_text(json.dumps(told))


def test_a_service_that_answers_is_redirected_to_with_path_query_and_fragment(
    server: RunningServer, other: str
) -> None:
    _record(server, "prefect", other)
    _record(server, "mlflow", other)
    to_run = server.client.get("/open/prefect/runs/flow-run/1?tab=Logs")
    assert (to_run.status_code, to_run.headers["location"]) == (302, f"{other}/runs/flow-run/1?tab=Logs")
    to_model = server.client.get("/open/mlflow/%23/models/my model")
    assert to_model.headers["location"] == f"{other}/#/models/my%20model"
    assert server.client.get("/open/mlflow").headers["location"] == f"{other}/"


def test_a_service_that_does_not_answer_yet_is_waited_for_on_a_page(server: RunningServer, other: str) -> None:
    _record(server, "mlflow", "http://127.0.0.1:1")
    page = server.client.get("/open/mlflow/")
    assert page.status_code == 200
    assert "MLflow is starting…" in page.text
    assert 'http-equiv="refresh" content="1"' in page.text
    _record(server, "mlflow", other)
    assert server.client.get("/open/mlflow/").status_code == 302


def test_a_service_that_is_not_running_says_how_to_start_it(server: RunningServer) -> None:
    assert "volvox up" in server.client.get("/open/prefect/").text


def test_an_unhealthy_or_hanging_server_does_not_count_as_answering(other: str, monkeypatch) -> None:
    assert asyncio.run(opening.answers(other, "mlflow"))
    monkeypatch.setattr(_Healthy, "healthy", False)
    assert not asyncio.run(opening.answers(other, "mlflow"))
    assert not asyncio.run(opening.answers("http://127.0.0.1:1", "mlflow"))


@pytest.mark.parametrize("path", ["//evil.example/", "\\evil", "a\r\nX: y", "https://evil.example"])
def test_a_path_never_leaves_the_service(path: str) -> None:
    target = opening.target("http://127.0.0.1:5500", path, "")
    assert target.startswith("http://127.0.0.1:5500/")
    assert "\n" not in target
