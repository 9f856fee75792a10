"""A registered version, served by a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from blocks.server import ModelServer
from tasks.serving import serve_model
from tests.volvox.serving.running_server import serving
from volvox import progress
from volvox.errors import InvalidInput, ModuleFailed, Unavailable
from volvox.modules.discovery import find
from volvox.records import ModelVersion, Verdict

ACCEPTED = Verdict(accepted=True, reason="good", metric="accuracy", value=1.0, threshold=0.5)


@pytest.fixture
def server(home, learner) -> Iterator[ModelServer]:
    with serving(home.root):
        yield ModelServer.local(home)


@pytest.fixture
def make_version(learner, store, tmp_path: Path, dataset):
    """A registered version of the learner; `mark` makes it another one."""

    def make(mark: str = "", **model: object) -> ModelVersion:
        folder = tmp_path / f"weights-{mark}"
        folder.mkdir()
        content = {"skill": 1.0, "classes": dataset.classes, "mark": mark, **model}
        (folder / "model.json").write_text(json.dumps(content))
        return ModelVersion(
            name="squares", version=mark or "1", model=f"model-{mark}", module="learner", code=find("learner").code,
            weights_tree=store.put_tree(folder), verdict=ACCEPTED,
        )  # fmt: skip

    return make


def _heard(events: list[progress.Event]) -> list[str]:
    return [event.kind for event in events]


def test_a_version_is_served_where_its_record_says(server, make_version, dataset, store) -> None:
    service = asyncio.run(serve_model.fn(make_version(), dataset, store=store, server=server))
    assert (service.name, service.version, service.model_version) == ("squares", "1", make_digest(service))
    assert [told["name"] for told in service.module_description["predict"]] == ["image", "top"]
    image = store.tree(dataset.held_out_tree) / "images" / "1-1.png"
    answer = httpx.post(service.predict_url, files={"image": ("1-1.png", image.read_bytes())}).json()
    assert answer["predictions"]["predictions"]["labels"][0] == "dog"
    assert httpx.get(service.try_url).status_code == 200


def make_digest(service) -> str:
    """The digest that the server itself reports."""
    return asyncio.run(ModelServer.local().served())[service.name]["model_version"]


def test_the_try_page_shows_one_sample_of_each_class(server, make_version, dataset, store) -> None:
    service = asyncio.run(serve_model.fn(make_version(), dataset, store=store, server=server))
    page = httpx.get(service.try_url).text
    assert page.count("data-sample=") == len(dataset.classes)


def test_a_version_that_is_served_already_is_reused(server, make_version, dataset, store) -> None:
    version, events = make_version(), []
    first = asyncio.run(serve_model.fn(version, dataset, store=store, server=server))
    with progress.listening(events.append):
        second = asyncio.run(serve_model.fn(version, dataset, store=store, server=server))
    assert second == first
    assert "reused" in _heard(events)


def test_a_version_that_cannot_answer_is_refused_and_the_one_before_goes_on(
    server, make_version, dataset, store
) -> None:
    asyncio.run(serve_model.fn(make_version("1"), dataset, store=store, server=server))
    with pytest.raises(ModuleFailed, match="'stranger' is none of the 3 classes"):
        wrong = make_version("2", classes=["stranger", "other", "third"])
        asyncio.run(serve_model.fn(wrong, dataset, store=store, server=server))
    with pytest.raises(ModuleFailed, match="ZeroDivisionError"):
        asyncio.run(serve_model.fn(make_version("3", classes={}), dataset, store=store, server=server))
    assert asyncio.run(server.served())["squares"]["version"] == "1"


def test_a_held_out_part_without_images_is_refused(server, make_version, make_dataset, store) -> None:
    with pytest.raises(InvalidInput, match=r"test part|no held-out image"):
        asyncio.run(serve_model.fn(make_version(), make_dataset(images=0), store=store, server=server))


def test_without_a_server_the_message_says_how_to_start_one(home, monkeypatch) -> None:
    monkeypatch.delenv("VOLVOX_WEB_URL", raising=False)
    with pytest.raises(Unavailable, match="volvox up"):
        ModelServer.local(home)
