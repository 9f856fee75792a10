import asyncio
import http.server
import os
import socket
import threading
import time

import pytest
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr

from blocks.tracking import Tracking, unavailable_told
from volvox.errors import Unavailable
from volvox.identity import this_process
from volvox.stack import state


class TestTrackingBlock(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Tracking]:
        return Tracking

    @pytest.mark.skip(reason="Prefect's own test fetches the logo from the network")
    def test_has_a_valid_image(self, block) -> None: ...

    @pytest.mark.skip(reason="there is no published page to point to")
    def test_has_a_documentation_url(self, block) -> None: ...


@pytest.fixture
def no_address(home, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return home


def test_the_environment_names_the_server_before_the_stack_does(no_address, monkeypatch) -> None:
    state.write(no_address, state.State("mlflow", *this_process(), url="http://127.0.0.1:5001"))
    assert Tracking.local().uri == "http://127.0.0.1:5001"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    made = Tracking.local()
    assert made.uri == "https://mlflow.example.org" and made.environment()["MLFLOW_TRACKING_TOKEN"] == "secret"
    assert "secret" not in repr(made)


@pytest.mark.parametrize("recorded", [None, state.State("mlflow", 2**22 + 1, 1.0, url="http://127.0.0.1:5001")])
def test_without_a_server_that_runs_the_database_of_the_home_is_written(no_address, recorded) -> None:
    if recorded is not None:
        state.write(no_address, recorded)
    made = Tracking.local()
    assert made.uri == f"sqlite:///{no_address.root}/mlflow/mlflow.db" and not made.served


def test_a_server_that_does_not_answer_is_unavailable_in_time(monkeypatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        tracking = Tracking(uri=f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(os, "environ", dict(os.environ))
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"did not answer for 0\.3 s .*volvox up"):
            asyncio.run(tracking.activate(0.3))
        assert time.monotonic() - began < 15
        assert not asyncio.run(tracking.answers(0.1))


class _Answers(http.server.BaseHTTPRequestHandler):
    status, headers_seen = 200, []

    def do_GET(self) -> None:
        self.headers_seen.append(self.headers.get("Authorization"))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *arguments) -> None: ...


def test_a_server_that_is_still_starting_is_waited_for_with_the_token(monkeypatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(_Answers, "status", 503)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracking = Tracking(uri=f"http://127.0.0.1:{server.server_port}", token=SecretStr("t"))
        assert not asyncio.run(tracking.answers(0.1))
        threading.Timer(0.5, lambda: setattr(_Answers, "status", 200)).start()
        asyncio.run(tracking.activate(10))
        server.shutdown()
    assert set(_Answers.headers_seen) == {"Bearer t"}
    assert os.environ["MLFLOW_TRACKING_URI"] == tracking.uri


def test_what_the_server_refuses_is_no_reason_to_try_again(tracking) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="not found"), unavailable_told(tracking):
        tracking.client().get_run("0" * 32)
    with pytest.raises(Unavailable, match="does not answer"), unavailable_told(tracking):
        raise MlflowException("API request failed with exception ConnectionError")
