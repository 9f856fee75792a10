"""One object in, one JSON out, through a real server."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from blocks.server import ModelServer
from tasks.inference import answer_object
from tests.volvox.serving.running_server import serving
from volvox import progress
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.records import Service


@pytest.fixture
def server(home, learner) -> Iterator[ModelServer]:
    with serving(home.root):
        yield ModelServer.local(home)


@pytest.fixture
def service(server: ModelServer, tmp_path: Path, dataset) -> Service:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.json").write_text(json.dumps({"skill": 1.0, "classes": dataset.classes}))
    told, _ = asyncio.run(
        server.deploy(
            "squares", version="1", model_version="a" * 64, module="learner", weights=tmp_path / "weights",
            labels=dataset.classes,
        )
    )  # fmt: skip
    return Service(
        name="squares", version="1", model_version="a" * 64, url=server.url,
        predict_url=f"{server.url}/v2/models/squares/predict/", try_url=f"{server.url}/models/squares/",
        module_description=told["description"],
    )  # fmt: skip


@pytest.fixture
def ask(service, dataset, store, server, home):
    def answered(source: str = "", on=dataset, of: Service = service):
        job = asyncio.run(answer_object.fn(of, source, on, store=store, server=server, home=home))
        return job, json.loads(store.path(job.answer_object).read_bytes())

    return answered


def test_without_a_source_the_first_held_out_image_is_answered(ask) -> None:
    job, answer = ask()
    assert (job.service, job.version, job.input) == ("squares", "1", "0-0.png")
    assert answer["predictions"]["predictions"]["labels"][0] == "cat"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_file_is_answered(ask, tmp_path: Path, form: str) -> None:
    image = tmp_path / "2-own image.png"
    image.write_bytes(b"anything")
    job, answer = ask(form.format(str(image).replace(" ", "%20") if "file" in form else image))
    assert job.input == "2-own image.png"
    assert answer["predictions"]["predictions"]["labels"][0] == "owl"


def test_an_object_on_a_web_server_is_answered_and_not_kept(ask, tmp_path: Path, home) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "1-x.png").write_bytes(b"anything")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        job, answer = ask(f"http://127.0.0.1:{listening.server_port}/1-x.png?key=secret")
        listening.shutdown()
    assert job.input == "1-x.png"
    assert answer["predictions"]["predictions"]["labels"][0] == "dog"
    assert not list(home.cache.glob("object-*"))


def test_the_same_object_is_not_asked_twice(ask) -> None:
    first, events = ask(), []
    with progress.listening(events.append):
        assert ask() == first
    assert "reused" in [event.kind for event in events]


@pytest.mark.parametrize(
    ("source", "error", "reason"),
    [
        ("/no/such/file.png", NotFound, "/no/such/file.png"),
        ("ftp://somewhere/x.png", InvalidInput, "ftp://"),
        ("http://example.org/x.png", InvalidInput, "not encrypted"),
    ],
)
def test_an_object_that_cannot_be_read_is_refused(ask, source: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        ask(source)


def test_without_source_and_dataset_there_is_nothing_to_answer(ask) -> None:
    with pytest.raises(InvalidInput, match="no object was given"):
        ask("", on=None)


def test_a_model_that_takes_no_file_is_told(ask, service: Service) -> None:
    with pytest.raises(InvalidInput, match="takes no file"):
        ask(of=service.model_copy(update={"module_description": {}}))


def test_a_server_that_is_gone_is_unavailable(service, dataset, store, home) -> None:
    gone = ModelServer(url="http://127.0.0.1:1")
    with pytest.raises(Unavailable, match="volvox up"):
        asyncio.run(answer_object.fn(service, "", dataset, store=store, server=gone, home=home))
