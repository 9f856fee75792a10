from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tasks.publication import publish_model
from tests.volvox.packaging import standin
from volvox import progress
from volvox.records import CatalogueEntry, Image
from volvox.settings import Home
from volvox.store import FolderStore, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def made(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> standin.Made:
    return standin.cycle_until_packaging(tmp_path, store, monkeypatch)


@pytest.fixture
def image(made: standin.Made) -> Image:
    return Image(
        name="volvox/brightness:1", version=made.version.digest, context_object="", built=False, reason="no engine"
    )


def _publish(made: standin.Made, image: Image, store: Store) -> tuple[CatalogueEntry, bool]:
    kinds: list[str] = []
    with progress.listening(lambda event: kinds.append(event.kind)):
        entry = asyncio.run(
            publish_model.fn(
                made.version, made.model, made.evaluation, made.dataset, image, store=store, home=Home.current()
            )
        )
    return entry, "reused" in kinds


def _catalogue() -> Path:
    return Home.current().root / "catalogue"


def test_a_version_is_published_with_its_page_and_metadata(made: standin.Made, image: Image, store: Store) -> None:
    entry, reused = _publish(made, image, store)
    assert not reused
    assert entry.path == "/catalogue/brightness/"
    assert (_catalogue() / "brightness" / "confusion.png").is_file()
    listed = json.loads((_catalogue() / "catalogue.json").read_text())
    assert [told["metadata"]["title"] for told in listed] == ["Light or dark"]
    assert all(map(store.has, entry.objects()))
    assert "-F image=@photo.png" in (_catalogue() / "brightness" / "index.html").read_text()


def test_a_second_publication_is_reused_and_writes_nothing(made: standin.Made, image: Image, store: Store) -> None:
    first, _ = _publish(made, image, store)
    before = {path: path.stat().st_mtime_ns for path in _catalogue().rglob("*")}
    assert _publish(made, image, store) == (first, True)
    assert {path: path.stat().st_mtime_ns for path in _catalogue().rglob("*")} == before


@pytest.mark.parametrize("lost", [".", "brightness", "index.html", ".index"])
def test_a_catalogue_that_lost_something_gets_it_back(
    made: standin.Made, image: Image, store: Store, lost: str
) -> None:
    _publish(made, image, store)
    path = _catalogue() / lost
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path)
    _, reused = _publish(made, image, store)
    assert reused
    assert (_catalogue() / "brightness" / "index.html").is_file()
    assert (_catalogue() / "index.html").is_file()


def test_an_image_that_is_built_later_changes_the_page(made: standin.Made, image: Image, store: Store) -> None:
    _publish(made, image, store)
    built = image.model_copy(update={"built": True, "reason": "", "image_id": "sha256:1"})
    _, reused = _publish(made, built, store)
    assert not reused
    assert "docker run" in (_catalogue() / "brightness" / "index.html").read_text()


def test_other_metadata_of_the_module_changes_the_page(
    made: standin.Made, image: Image, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(made, image, store)
    standin.install(tmp_path / "site", monkeypatch, metadata=standin.METADATA.replace("Light or dark", "Bright"))
    _publish(made, image, store)
    assert '<p class="lead">Bright. ' in (_catalogue() / "brightness" / "index.html").read_text()
