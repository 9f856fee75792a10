"""The worker's side, without a server: what it makes of requests and results."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.serving.modules import write_modules, write_weights
from tests.volvox.serving.running_server import gone
from volvox.worker.answering import HEAD, Answering, frame, gather

MODULE = """
import io
from marshmallow import fields

class ValidationError(ValueError):
    messages = {"x": ["not this one"]}

class HTTPException(Exception):
    status, reason = 418, "a teapot"

class Number:
    def tolist(self):
        return [1.5, 2]

def get_predict_args():
    return {
        "kind": fields.String(data_key="what-kind", load_default="number"),
        "mime": fields.String(data_key="Accept", metadata={"location": "headers"}),
        "only_query": fields.Integer(metadata={"location": "query"}),
        "table": fields.Dict(),
        "many": fields.List(fields.Integer()),
    }

def predict(kind, **given):
    if kind == "number":
        return Number()
    if kind == "stream":
        return io.BytesIO(b"streamed")
    if kind == "refuse":
        raise ValidationError("no")
    if kind == "teapot":
        raise HTTPException()
    if kind == "set":
        return {1, 2}
    if kind == "later":
        raise NotImplementedError
    return given
"""


@pytest.fixture
def answering(install_module) -> Answering:
    install_module("odd", MODULE)
    return Answering("odd")


def _ask(answering: Answering, **request: Any) -> tuple[dict[str, Any], bytes]:
    header, body = answering.answer(request)
    return json.loads(json.dumps(header)), body if isinstance(body, bytes) else b"".join(body)


def _ask_kind(answering: Answering, kind: str) -> tuple[dict[str, Any], bytes]:
    return _ask(answering, query={"what-kind": [kind]})


def test_numpy_like_results_become_lists(answering: Answering) -> None:
    assert json.loads(_ask_kind(answering, "number")[1]) == {"status": "OK", "predictions": [1.5, 2]}


def test_a_stream_is_answered_as_bytes(answering: Answering) -> None:
    assert _ask_kind(answering, "stream") == ({"content_type": "application/octet-stream"}, b"streamed")


def test_a_validation_error_raised_by_predict_is_a_refusal(answering: Answering) -> None:
    error = _ask_kind(answering, "refuse")[0]["error"]
    assert (error["kind"], error["messages"]) == ("refused", {"x": ["not this one"]})


def test_an_http_error_raised_by_predict_keeps_its_status(answering: Answering) -> None:
    error = _ask_kind(answering, "teapot")[0]["error"]
    assert (error["kind"], error["status"], error["message"]) == ("http", 418, "a teapot")


def test_a_result_that_is_not_json_is_a_failure_with_its_trace(answering: Answering) -> None:
    error = _ask_kind(answering, "set")[0]["error"]
    assert error["kind"] == "failed"
    assert "a set cannot be returned" in error["message"]
    assert "Traceback" in error["trace"]


def test_predict_that_is_not_implemented_is_told_as_missing(answering: Answering) -> None:
    assert _ask_kind(answering, "later")[0]["error"] == {
        "kind": "missing",
        "message": "Not implemented by underlying model (loaded 'odd')",
    }


def test_values_come_from_where_their_field_allows(answering: Answering) -> None:
    request = {
        "query": {"what-kind": ["echo"], "many": ["1"]},
        "form": {"only_query": ["3"], "many": ["7", "8"], "kind": ["number"]},
        "json": {"table": {"a": 1}, "many": [9]},
        "headers": {"accept": "text/csv"},
    }
    _, body = _ask(answering, **request)
    assert json.loads(body)["predictions"] == {"many": [1], "mime": "text/csv", "table": {"a": 1}}


def test_text_in_a_file_field_reaches_the_module_as_text() -> None:
    from marshmallow import fields

    image = fields.Raw(metadata={"type": "file", "location": "form"})
    assert gather({"image": image}, {"form": {"image": ["text"]}}) == {"image": "text"}


def test_a_file_is_handed_over_as_deepaas_does() -> None:
    from marshmallow import fields

    image = fields.Raw(metadata={"type": "file", "location": "form"}, data_key="data")
    sent = {"data": [{"path": "/tmp/x.png", "content_type": "image/png", "name": "été.png"}]}
    found = gather({"image": image}, {"files": sent})["data"]
    assert (found.name, found.filename, found.content_type, found.original_filename) == (
        "data", "/tmp/x.png", "image/png", "été.png",
    )  # fmt: skip


def _started(site: Path, module: str, weights: Path) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "volvox.worker.answering", "--module", module, "--socket", str(theirs.fileno()),
             "--parent", str(os.getpid())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": str(site), "VOLVOX_WEIGHTS": str(weights)},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return process, ours


def _next(connection: socket.socket) -> dict[str, Any]:
    head = connection.recv(HEAD.size, socket.MSG_WAITALL)
    header, body = HEAD.unpack(head)
    return json.loads(connection.recv(header + body, socket.MSG_WAITALL)[:header])


def test_a_process_says_what_it_is_answers_and_ends_with_its_socket(tmp_path: Path) -> None:
    process, connection = _started(write_modules(tmp_path / "site"), "tiny", write_weights(tmp_path / "w", "1"))
    assert [told["name"] for told in _next(connection)["ready"]["predict"]] == ["image", "top", "labels", "mode"]
    connection.sendall(frame({"query": {"top": ["0"]}}))
    assert _next(connection)["error"]["kind"] == "refused"
    connection.close()
    assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("tiny-broken", "ModuleNotFoundError: No module named 'a_library_that_nobody_has'"),
        ("tiny", "RuntimeError: these weights cannot be read"),
        ("nobody", "no model module 'nobody' is installed here"),
    ],
)
def test_a_module_that_does_not_start_is_told_with_its_trace(tmp_path: Path, module: str, reason: str) -> None:
    weights = write_weights(tmp_path / "w", "1", refuse_to_warm="")
    process, connection = _started(write_modules(tmp_path / "site"), module, weights)
    said = _next(connection)
    assert said["failed"] == reason
    assert "Traceback" in said["trace"]
    connection.close()
    assert process.wait(10) == 1


def test_a_worker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    site, weights = write_modules(tmp_path / "site"), write_weights(tmp_path / "w", "1")
    code = (
        "import os, socket, subprocess, sys, time\n"
        "ours, theirs = socket.socketpair()\n"
        "child = subprocess.Popen([sys.executable, '-m', 'volvox.worker.answering', '--module', 'tiny',\n"
        "    '--socket', str(theirs.fileno()), '--parent', str(os.getpid())], pass_fds=[theirs.fileno()])\n"
        "ours.recv(8)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "VOLVOX_WEIGHTS": str(weights)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    assert gone(worker)


def test_the_worker_imports_nothing_beyond_the_standard_library(tmp_path: Path) -> None:
    code = (
        "import sys, volvox.worker.answering\n"
        "files = {name: str(getattr(module, '__file__', '')) for name, module in sys.modules.items()}\n"
        "outside = {name for name, file in files.items() if 'site-packages' in file and not name.startswith('_')}\n"
        "assert not outside, outside\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
