"""`volvox predict --input-file ...`: files in, answers out, over HTTP."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.volvox.serving.test_serve import Servers
from volvox.cli import predicting
from volvox.errors import InvalidInput, ModuleFailed, NotFound, Unavailable

SHOW = """
import io
from marshmallow import fields, validate


def get_predict_args():
    return {
        "picture": fields.Raw(required=True, metadata={"type": "file", "location": "form"}),
        "accept": fields.Str(validate=validate.OneOf(["application/json", "image/png"])),
    }


def predict(picture, accept):
    content = open(picture.filename, "rb").read()
    if content == b"refuse":
        raise validate.ValidationError("not this one")
    if content == b"break":
        raise KeyError("broken")
    if accept == "image/png":
        return io.BytesIO(b"\\x89PNG" + content)
    return {"name": picture.original_filename, "text": content.decode(), "type": picture.content_type}
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("predicting"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(servers: Servers) -> str:
    (servers.folder / "show.py").write_text(SHOW)
    return servers.url("--module", "./show.py")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in (("a.png", "A"), ("b.txt", "B"), ("refuse.txt", "refuse"), ("break.txt", "break")):
        (tmp_path / name).write_text(text)
    return tmp_path


def _volvox(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "volvox", "predict", *words], env={**os.environ, **variables},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def _ask(url: str, *inputs: Path, output: Path | None = None, model: str = "", content_type: str = "") -> None:
    predicting.predict(
        [str(path) for path in inputs], url=url, model=model, content_type=content_type, output=output, compact=False
    )


def test_an_answer_is_printed_as_json_in_lines_or_in_one(url: str, files: Path) -> None:
    done = _volvox("--input-file", str(files / "a.png"), "--url", url)
    assert done.returncode == 0, done.stderr
    told = {"status": "OK", "predictions": {"name": "a.png", "text": "A", "type": "image/png"}}
    assert done.stdout == json.dumps(told, indent=2) + "\n"
    done = _volvox("--input-file", str(files / "a.png"), "--url", url, "--model-name", "show", "--json")
    assert done.stdout == json.dumps(told) + "\n"


def test_an_image_is_written_as_it_is(url: str, files: Path) -> None:
    target = files / "new" / "out.png"
    _ask(url, files / "a.png", output=target, content_type="image/png")
    assert target.read_bytes() == b"\x89PNGA"


def test_several_files_are_answered_into_a_folder_and_one_that_fails_does_not_harm_others(
    url: str, files: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(InvalidInput, match="1 of 3 files were not answered"):
        _ask(url, files / "a.png", files / "refuse.txt", files / "b.txt", output=files / "answers")
    assert sorted(path.name for path in (files / "answers").iterdir()) == ["a.png.json", "b.txt.json"]
    assert "refuse.txt: " in capsys.readouterr().err
    _ask(url, files / "a.png", files / "b.txt", output=files / "images", content_type="image/png")
    assert (files / "images" / "b.txt.png").read_bytes() == b"\x89PNGB"


def test_bytes_are_refused_on_a_terminal_and_pass_through_a_pipe(url: str, files: Path) -> None:
    words = ["--input-file", str(files / "a.png"), "--url", url, "--content-type", "image/png"]
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "volvox", "predict", *words], stdout=theirs, stderr=subprocess.PIPE, timeout=60,
        check=False,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"the answer is 5 bytes of image/png, nothing for a terminal; keep it with --output-file" in done.stderr
    piped = subprocess.run([sys.executable, "-m", "volvox", "predict", *words], capture_output=True, check=False)
    assert piped.stdout == b"\x89PNGA"


def test_neither_prefect_nor_mlflow_is_imported(url: str, files: Path) -> None:
    code = (
        "import sys; from volvox.cli.main import run\n"
        "assert run(['predict', '--json', '--input-file', sys.argv[1], '--url', sys.argv[2]]) == 0\n"
        "assert not {'prefect', 'mlflow', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(files / "a.png"), url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_goes_wrong_is_told(url: str, files: Path, home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*absent to ask about"):
        _ask(url, files / "absent")
    with pytest.raises(NotFound, match=r"serves no model 'nobody'; served: show"):
        _ask(url, files / "a.png", model="nobody")
    with pytest.raises(InvalidInput, match=r"answered 422: .*not this one"):
        _ask(url, files / "refuse.txt")
    with pytest.raises(ModuleFailed, match=r"answered 500: KeyError: 'broken'"):
        _ask(url, files / "break.txt")
    with pytest.raises(InvalidInput, match=r"422.*Must be one of"):
        _ask(url, files / "a.png", content_type="image/gif")
    with pytest.raises(InvalidInput, match=r"--output-file .* is one file; name a folder"):
        _ask(url, files / "a.png", files / "b.txt", output=files / "a.png")
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:9 did not answer"):
        _ask("http://127.0.0.1:9", files / "a.png")
    monkeypatch.delenv("VOLVOX_WEB_URL", raising=False)
    with pytest.raises(Unavailable, match=r"no web server runs for .*volvox up.*--url"):
        _ask("", files / "a.png")


def test_a_server_with_several_models_asks_which(servers: Servers, files: Path) -> None:
    several = servers.url("--module", "tiny-plain", "--module", "tiny-strict")
    with pytest.raises(InvalidInput, match="serves 2 models; say which with --model-name: tiny-plain, tiny-strict"):
        _ask(several, files / "a.png")
    with pytest.raises(InvalidInput, match=r"model 'tiny-plain' takes no file"):
        _ask(several, files / "a.png", model="tiny-plain")


def test_nothing_to_ask_about_is_told() -> None:
    done = _volvox("--json")
    assert (done.returncode, done.stderr) == (2, "error: give a FILE to ask about, or --input-file FILE\n")


def test_a_server_of_deepaas_is_asked_as_its_swagger_says(files: Path, capsys: pytest.CaptureFixture) -> None:
    parameters = [
        {"in": "query", "name": "accept", "type": "string"},
        {"in": "formData", "name": "files", "type": "file", "required": True},
    ]
    documents = {
        "/v2/models/": {"models": [{"id": "0", "name": "x", "links": [{"rel": "self", "href": "/v2/models/theirs"}]}]},
        "/swagger.json": {"paths": {"/v2/models/theirs/predict/": {"post": {"parameters": parameters}}}},
    }
    asked: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = documents.get(self.path)
            self._say(200 if found else 404, json.dumps(found).encode())

        def do_POST(self) -> None:
            asked.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self._say(200, b'{"status": "OK"}')

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _ask(f"http://127.0.0.1:{server.server_port}", files / "a.png", content_type="application/json")
        server.shutdown()
    path, body = asked[0]
    assert path == "/v2/models/theirs/predict/?accept=application%2Fjson"
    assert re.search(rb'name="files"; filename="a.png"', body)
    assert json.loads(capsys.readouterr().out) == {"status": "OK"}


def test_an_answer_of_another_type_than_was_asked_for_is_refused(servers: Servers, files: Path) -> None:
    (servers.folder / "only.py").write_text(SHOW.replace('"accept": fields', '"kind": fields').replace(
        "predict(picture, accept)", "predict(picture, accept=None, kind=None)"
    ))  # fmt: skip
    only = servers.url("--module", "./only.py")
    with pytest.raises(InvalidInput, match=r"model 'only' answers application/json, not image/png"):
        _ask(only, files / "a.png", content_type="image/png")
