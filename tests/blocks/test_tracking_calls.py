"""Both ways to open a run, against one real server: they must be interchangeable."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator

import pytest

from blocks.tracking_calls import HttpCalls, HttpError, LibraryCalls


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(params=["http", "library"])
def calls(request, server, monkeypatch):
    if request.param == "http":
        return HttpCalls(server)
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    return LibraryCalls(MlflowClient(server))


def client(server: str):
    from mlflow import MlflowClient

    return MlflowClient(server)


def test_an_experiment_is_created_once_and_brought_back_when_deleted(calls, server) -> None:
    name = f"plankton & co {uuid.uuid4()}"
    made = calls.experiment(name, None)
    assert calls.experiment(name, None) == made
    client(server).delete_experiment(made)
    assert calls.experiment(name, None) == made
    assert client(server).get_experiment(made).lifecycle_stage == "active"


def test_a_run_is_created_and_set_back_to_running(calls, server) -> None:
    run_id = calls.create_run(calls.experiment("runs", None), "first", {"mlflow.source.name": "volvox"})
    run = client(server).get_run(run_id)
    assert run.info.run_name == "first" and run.info.status == "RUNNING"
    assert run.data.tags["mlflow.source.name"] == "volvox" and run.info.start_time > 1e12
    client(server).set_terminated(run_id, "KILLED")
    assert calls.resume_run(run_id)
    assert client(server).get_run(run_id).info.status == "RUNNING"


def test_a_run_that_is_not_there_cannot_be_resumed(calls) -> None:
    assert not calls.resume_run("0" * 32)


def test_an_alias_is_a_version_with_its_tags_or_nothing(calls, server) -> None:
    name = f"model-{uuid.uuid4().hex}"
    assert calls.aliased(name, "champion") is None
    client(server).create_registered_model(name)
    assert calls.aliased(name, "champion") is None
    run_id = calls.create_run(calls.experiment("runs", None), "second", {})
    source = f"{client(server).get_run(run_id).info.artifact_uri}/model"
    client(server).create_model_version(name, source, run_id=run_id, tags={"volvox.model": "abc"}, await_creation_for=0)
    client(server).set_registered_model_alias(name, "champion", "1")
    found = calls.aliased(name, "champion")
    assert (found.version, found.run_id, found.tags) == ("1", run_id, {"volvox.model": "abc"})


def test_a_server_that_is_gone_is_told_as_such() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(HttpError) as caught:
            HttpCalls(f"http://127.0.0.1:{taken.getsockname()[1]}").resume_run("x")
    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"
