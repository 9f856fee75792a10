from __future__ import annotations

import asyncio
import datetime
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from volvox.errors import InvalidInput, Unavailable
from volvox.pools.placement import PoolState
from volvox.pools.states import pool_states, states_at


def ago(seconds: float) -> str:
    return (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)).isoformat()


def worker(silent: float = 1, status: str = "ONLINE", interval: int | None = 30) -> dict[str, Any]:
    return {"status": status, "last_heartbeat_time": ago(silent), "heartbeat_interval_seconds": interval}


class Server:
    """What a Prefect server would answer, and what it was asked."""

    def __init__(self, workers: list[dict[str, Any]] | None = None, **pool: Any) -> None:
        self.pool = {"name": "docker", "is_paused": False, "concurrency_limit": 2, **pool}
        self.workers = [worker()] if workers is None else workers
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.together = 0
        self._open = 0

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        self.asked.append((path, body))
        self._open += 1
        self.together = max(self.together, self._open)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._open -= 1
        if path == "/work_pools/filter":
            return [self.pool]
        if path.endswith("/workers/filter"):
            return self.workers if "/docker/" in path else None
        kinds = body["flow_runs"]["state"]["type"]["any_"]
        return 3 if "SCHEDULED" in kinds else 1


def state(server: Server) -> PoolState:
    return asyncio.run(pool_states(server.post, ["docker"]))["docker"]


def test_a_pool_has_its_workers_queue_and_limit() -> None:
    assert state(Server()) == PoolState(online=True, queued=3, running=1, limit=2)


def test_a_pool_that_the_server_does_not_know_does_not_exist() -> None:
    found = asyncio.run(pool_states(Server().post, ["docker", "other"]))
    assert found["other"] == PoolState(online=False, exists=False)
    assert found["docker"].online


def test_everything_is_asked_at_once_and_only_runs_that_are_due_count_as_waiting() -> None:
    server = Server()
    asyncio.run(pool_states(server.post, ["docker", "other"]))
    assert server.together == len(server.asked) == 1 + 2 * 3
    waiting = [body for path, body in server.asked if "SCHEDULED" in str(body)]
    assert all("before_" in body["flow_runs"]["expected_start_time"] for body in waiting)


@pytest.mark.parametrize(
    ("workers", "online"),
    [
        ([], False),
        ([{"status": "OFFLINE"}], False),
        ([{"silent": 80}], False),
        ([{"silent": 70}], True),
        ([{"silent": 80, "interval": 60}], True),
        ([{"silent": 80, "interval": None}], False),
        ([{"silent": 80}, {"silent": 1}], True),
    ],
)
def test_a_worker_counts_while_its_heart_beats(workers: list[dict[str, Any]], online: bool) -> None:
    assert state(Server([worker(**told) for told in workers])).online is online


def test_a_worker_that_was_never_heard_does_not_count() -> None:
    assert not state(Server([{"status": "ONLINE", "last_heartbeat_time": None}])).online


def test_a_paused_pool_takes_nothing_though_its_worker_lives() -> None:
    found = state(Server(is_paused=True))
    assert found.paused
    assert not found.online


def test_no_pool_is_no_question() -> None:
    server = Server()
    assert asyncio.run(pool_states(server.post, [])) == {}
    assert server.asked == []


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture
def http_server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.authorization = self.headers.get("Authorization")  # type: ignore[attr-defined]
            status, body = self.server.answer  # type: ignore[attr-defined]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer = (200, [])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}/api"


def test_the_credentials_of_prefect_are_used(http_server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:pass")
    with pytest.raises(Unavailable):  # a list is no count
        http_server.answer = (500, {})
        asyncio.run(states_at(url(http_server), ["docker"]))
    assert http_server.authorization == "Basic YWRtaW46cGFzcw=="


def test_a_server_that_refuses_says_what_to_set(http_server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    http_server.answer = (401, {})
    with pytest.raises(InvalidInput, match="refuses these credentials"):
        asyncio.run(states_at(url(http_server), ["docker"]))


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9/api does not answer .*`volvox up`"):
        asyncio.run(states_at("http://127.0.0.1:9/api", ["docker"]))
