"""`deepaas-run`, `deepaas-cli`, `deepaas-predict` with the options that DEEPaaS 2.6 has."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

MODULE = """
import io
from marshmallow import fields, validate

READY = []


def get_metadata():
    return {"name": "toy", "version": "1"}


def warm():
    READY.append(1)


def get_predict_args():
    return {
        "data": fields.Raw(metadata={"type": "file", "location": "form", "description": "100% of it"}),
        "n": fields.Int(load_default=2, validate=validate.Range(1, 9)),
        "flag": fields.Bool(load_default=False),
        "many": fields.List(fields.Int(), load_default=[7]),
        "table": fields.Dict(load_default={}),
        "secret-word": fields.Str(load_default="x", metadata={"location": "headers"}),
        "accept": fields.Str(validate=validate.OneOf(["application/json", "image/png"])),
    }


def predict(data=None, accept="application/json", **given):
    print("the module is asked")
    if given["n"] == 8:
        raise KeyError("eight")
    if given["n"] == 9:
        import os
        os._exit(4)
    content = open(data.filename, "rb").read() if data else b""
    if accept == "image/png":
        return io.BytesIO(b"PNG" + content)
    return {**given, "warm": len(READY), "content": content.decode(), "type": data and data.content_type}
"""
TRAIN = """

def get_train_args():
    return {"epochs": fields.Int(load_default=3), "labels": fields.Raw(metadata={"type": "file"})}


def train(epochs, labels=None):
    print("epoch 1")
    return {"epochs": epochs, "labels": open(labels.filename).read() if labels else ""}
"""


@pytest.fixture
def toy(install_module, monkeypatch: pytest.MonkeyPatch) -> None:
    install_module("toy", MODULE)
    monkeypatch.setenv("DEEPAAS_V2_MODEL", "toy")


def _run(command: str, *words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys; from volvox.deepaas import {command}; sys.exit({command}.run(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", script, *words], env={**os.environ, **variables}, cwd=cwd,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def _returned(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return re.search(r"INFO deepaas-cli: return: (.*)", done.stderr).group(1)


@pytest.mark.parametrize("command", ["run", "cli", "predict"])
def test_the_version_is_one_that_oscar_accepts(command: str) -> None:
    done = _run(command, "--version")
    assert done.returncode == 0
    assert [int(part) for part in done.stdout.strip().split(".")] >= [2, 5, 0]


class TestCli:
    def test_predict_is_warm_needs_no_training_arguments_and_tells_what_it_returned(
        self, toy: None, tmp_path: Path
    ) -> None:
        (tmp_path / "a.txt").write_text("abc")
        done = _run(
            "cli", "predict", "--data", str(tmp_path / "a.txt"), "--n", "3", "--flag", "True", "--many", "[1, 2]",
            "--table", "{'a': 1}", "--secret-word", "open",
        )  # fmt: skip
        assert json.loads(_returned(done)) == {
            "n": 3, "flag": True, "many": [1, 2], "table": {"a": 1}, "secret-word": "open",
            "warm": 1, "content": "abc", "type": "text/plain",
        }  # fmt: skip
        assert "the module is asked" in done.stderr
        assert (tmp_path / "a.txt").exists()

    def test_defaults_are_the_modules(self, toy: None) -> None:
        told = json.loads(_returned(_run("cli", "predict")))
        assert (told["n"], told["flag"], told["many"], told["secret-word"]) == (2, False, [7], "x")

    def test_the_result_goes_to_a_file_that_gets_the_extension_of_its_type(self, toy: None, tmp_path: Path) -> None:
        target = tmp_path / "new" / "out"
        done = _run("cli", f"--deepaas_method_output={target}", "--nodeepaas_with_multiprocessing", "predict")
        assert _returned(done) == f"Output is saved in {target}.json"
        assert json.loads(target.with_name("out.json").read_text())["n"] == 2
        done = _run("cli", "--deepaas_method_output", str(tmp_path / "out.png"), "predict", "--accept", "image/png")
        assert _returned(done) == f"Output is saved in {tmp_path / 'out.png'}"
        assert (tmp_path / "out.png").read_bytes() == b"PNG"

    def test_metadata_and_warm_and_no_method_at_all(self, toy: None, tmp_path: Path) -> None:
        metadata = {"name": "toy", "version": "1"}
        done = _run("cli", "--deepaas_method_output", str(tmp_path / "m.json"), "get_metadata")
        assert json.loads(_returned(done)) == metadata
        assert json.loads((tmp_path / "m.json").read_text()) == metadata
        assert json.loads(_returned(_run("cli"))) == metadata
        assert _returned(_run("cli", "warm")) == "Finished warm() method"

    def test_a_training_is_told_as_the_api_tells_a_job(self, install_module, tmp_path: Path) -> None:
        install_module("trains", MODULE + TRAIN)
        (tmp_path / "labels.txt").write_text("a b")
        done = _run(
            "cli", "--model-name", "trains", "--deepaas_method_output", "job.json", "train", "--labels", "labels.txt",
            cwd=tmp_path,
        )  # fmt: skip
        assert _returned(done) == "Output is saved in job.json"
        job = json.loads((tmp_path / "job.json").read_text())
        assert (job["status"], len(job["uuid"])) == ("done", 32)
        assert job["args"] == {"epochs": 3, "labels": "labels.txt"}
        assert job["result"]["output"] == {"epochs": 3, "labels": "a b"}
        assert set(job["result"]) == {"output", "finish_date", "duration"}
        assert "epoch 1" in done.stderr

    def test_help_lists_the_modules_arguments(self, toy: None) -> None:
        done = _run("cli", "predict", "--help")
        assert done.returncode == 0
        assert "100% of it" in " ".join(done.stdout.split())
        assert "--secret-word" in done.stdout
        assert "train --help" in " ".join(_run("cli", "--help").stdout.split())

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (("predict", "--n", "12"), 2, "refuses its arguments: {'n': ['Must be greater than or equal to 1"),
            (("predict", "--n", "many"), 2, "argument --n: invalid int value: 'many'"),
            (("predict", "--nobody", "1"), 2, "unrecognized arguments: --nobody"),
            (("predict", "--data", "/nowhere"), 2, "there is no file /nowhere"),
            (("predict", "--n", "8"), 5, "KeyError: 'eight'"),
            (("predict", "--n", "9"), 5, "ended with exit code 4"),
            (("train",), 2, "the module does not implement train()"),
            (("--model-name", "nobody", "predict"), 2, "no model module 'nobody' is installed"),
            (("forecast",), 2, "unrecognized arguments: forecast"),
        ],
    )
    def test_what_goes_wrong_is_told(self, toy: None, words: tuple[str, ...], code: int, told: str) -> None:
        done = _run("cli", *words)
        assert (done.returncode, told in done.stderr) == (code, True), done.stderr
        assert "return:" not in done.stderr

    def test_the_model_may_be_named_in_a_configuration(self, toy: None, tmp_path: Path) -> None:
        (tmp_path / "c.conf").write_text("[DEFAULT]\nmodel-name = nobody\n")
        assert "'nobody' is installed" in _run("cli", "--config-file", str(tmp_path / "c.conf"), "warm").stderr


class TestPredict:
    @pytest.fixture
    def web(self, tmp_path: Path) -> Iterator[str]:
        (tmp_path / "web").mkdir()
        (tmp_path / "web" / "far.txt").write_text("from far")

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *given: object) -> None:
                super().__init__(*given, directory=str(tmp_path / "web"))

            def log_message(self, *_: object) -> None: ...

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()

    def test_a_file_and_an_address_are_answered(self, toy: None, tmp_path: Path, web: str) -> None:
        (tmp_path / "near.txt").write_text("from near")
        done = _run("predict", "-i", str(tmp_path / "near.txt"), "-o", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"Output saved at {tmp_path / 'out' / 'out_near.json'}\n"
        assert json.loads((tmp_path / "out" / "out_near.json").read_text())["content"] == "from near"
        done = _run("predict", "-i", f"{web}/far.txt", "-u", "-o", str(tmp_path / "out"), "-ct", "image/png")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "out_far.png").read_bytes() == b"PNGfrom far"

    def test_a_type_that_the_module_does_not_offer_is_refused(self, toy: None, tmp_path: Path) -> None:
        (tmp_path / "near.txt").write_text("x")
        done = _run("predict", "-i", str(tmp_path / "near.txt"), "-o", str(tmp_path), "-ct", "image/gif")
        assert (done.returncode, "Must be one of" in done.stderr) == (2, True), done.stderr


def test_run_takes_the_options_of_deepaas(toy: None, tmp_path: Path) -> None:
    script = "import sys; from volvox.deepaas import run; sys.exit(run.run(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", script, "--listen-port", "0", "--workers", "1", "--notrain-endpoint", "--nowarm", "-d"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            url = re.search(r"http://\S+", process.stdout.readline()).group()
            for _ in range(600):
                if httpx.get(f"{url}/health/ready").status_code == 200:
                    break
            told = httpx.post(f"{url}/v2/models/toy/predict/", json={"n": 3}, timeout=60)
            assert (told.json()["predictions"]["n"], told.json()["predictions"]["warm"]) == (3, 0)
            assert httpx.get(f"{url}/v2/models/toy/train/").status_code == 402
        finally:
            process.terminate()
    assert process.returncode == 0
