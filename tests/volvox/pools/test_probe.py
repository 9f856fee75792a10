from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.checks.conftest import up
from volvox.pools import probe


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("Authorization")))
        status, body = server.answers.get(self.path.partition("?")[0], (404, {}))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A stand-in for Prefect and MLflow, and a folder as the store."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.answers = [], {"/api/health": (200, True), "/health": (200, "OK")}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("PREFECT_API_URL", f"{server.url}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("VOLVOX_STORE", str(tmp_path))
    for name in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_all_is_well_where_everything_answers(services, tmp_path: Path) -> None:
    told = probe.probe()
    assert {name: one["ok"] for name, one in told.items()} == {"prefect": True, "mlflow": True, "store": True}
    assert probe.exit_code(told) == 0
    assert list(tmp_path.iterdir()) == [], "the object is deleted again"


def test_what_is_not_named_is_not_tried(services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert set(probe.probe()) == {"prefect", "store"}


def test_each_failure_has_its_sentence_and_its_bit(services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    services.answers["/health"] = (403, {})
    monkeypatch.setenv("VOLVOX_STORE", str(tmp_path / "absent"))
    told = probe.probe()
    assert "http://127.0.0.1:9/api/health cannot be reached from the job" in told["prefect"]["said"]
    assert "answers 403" in told["mlflow"]["said"]
    assert "--allowed-hosts" in told["mlflow"]["said"]
    assert f"there is no folder {tmp_path / 'absent'} in the container" in told["store"]["said"]
    assert probe.exit_code(told) == 64 + 1 + 2 + 4


def test_a_database_is_no_tracking_server(services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/mlflow.db")
    assert "which no job shares" in probe.probe()["mlflow"]["said"]


def test_a_store_that_may_not_be_written_is_told(services, as_user, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    folder.mkdir(mode=0o755)
    told = as_user("import volvox.pools.probe as p; raise SystemExit(p.main())", env={"VOLVOX_STORE": str(folder)})
    assert told.returncode == 64 + 4, told.stderr
    found = probe.parse(told.stdout)
    assert found is not None
    assert f"{folder} cannot be written by user" in found["store"]["said"]


def test_credentials_are_sent_and_not_told(services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:hunter2")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    services.answers["/api/health"] = (401, {})
    told = probe.probe()
    assert "it asks for credentials" in told["prefect"]["said"]
    assert all(given and given.startswith("Basic ") for _, given in services.asked)
    assert "hunter2" not in json.dumps(told)


def test_a_store_that_is_a_block_is_asked_of_prefect(services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOLVOX_STORE", "block:shared")
    path = "/api/block_types/slug/volvox-object-store/block_documents/name/shared"
    assert "answers 404: nothing is there" in probe.probe()["store"]["said"]
    (tmp_path / "shared").mkdir()
    services.answers[path] = (200, {"data": {"address": str(tmp_path / "shared")}})
    assert probe.probe()["store"]["ok"]


def test_the_command_prints_one_line_that_is_found_among_others(services) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "volvox.pools.probe"], capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )  # fmt: skip
    assert done.returncode == 0
    told = probe.parse(f"entrypoint says hello\n2026-01-01T00:00:00Z {done.stdout}bye {{}}\n")
    assert told == probe.probe()
    assert probe.parse("nothing of the kind") is None
    assert probe.parse('{"volvox-probe": ') is None


@pytest.mark.parametrize(
    ("code", "failed"), [(0, set()), (65, {"prefect"}), (68, {"store"}), (71, {"prefect", "mlflow", "store"})]
)
def test_the_exit_code_alone_says_what_failed(code: int, failed: set[str]) -> None:
    found = probe.failed(code)
    assert found is not None
    assert {name for name, ok in found.items() if not ok} == failed


@pytest.mark.parametrize("code", [1, 2, 64, 72, 126, 137])
def test_another_exit_code_is_none_of_a_probes(code: int) -> None:
    assert probe.failed(code) is None


def test_it_needs_neither_prefect_nor_mlflow_nor_torch(services) -> None:
    code = (
        "import sys, runpy\ntry:\n    runpy.run_module('volvox.pools.probe', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([n for n in ('prefect', 'mlflow', 'torch', 'pydantic', 'httpx', 'yaml') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.aws
def test_a_store_in_a_bucket_is_written_read_and_left_as_it_was(services, monkeypatch: pytest.MonkeyPatch) -> None:
    up("aws", monkeypatch)
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="volvox-probe")
    try:
        monkeypatch.setenv("VOLVOX_STORE", "s3://volvox-probe/store")
        assert probe.probe()["store"] == {"ok": True, "said": "s3://volvox-probe/store can be written and read"}
        assert client.list_objects_v2(Bucket="volvox-probe")["KeyCount"] == 0
        monkeypatch.setenv("VOLVOX_STORE", "s3://volvox-absent/store")
        told = probe.probe()["store"]
        assert not told["ok"]
        assert "volvox-absent" in told["said"]
    finally:
        client.delete_bucket(Bucket="volvox-probe")
