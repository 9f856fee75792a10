from __future__ import annotations

import dataclasses
import datetime
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.volvox.packaging import standin
from volvox.catalogue.facts import Published, size
from volvox.catalogue.metadata import faults
from volvox.catalogue.page import write_page
from volvox.modules import discovery
from volvox.records import Image, Rejected
from volvox.store import FolderStore, Store

TODAY = datetime.date(2026, 3, 1)
ATTACK = '<img src=x onerror="alert(1)">'


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def published(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Published:
    made = standin.cycle_until_packaging(tmp_path, store, monkeypatch)
    image = Image(
        name="volvox/brightness:1", version=made.version.digest, context_object="c" * 64, built=True,
        image_id="sha256:1", bytes=268_000_000, layers=(("COPY to /model", 12), ("base image", 86_000_000)),
    )  # fmt: skip
    return Published(
        made.version, made.model, made.evaluation, made.dataset, image, discovery.find("standin"), "image", "MIT"
    )


def _write(published: Published, folder: Path, store: Store) -> dict:
    return write_page(published, folder, report=store.tree(published.evaluation.report_tree), sbom=None, today=TODAY)


def _page(published: Published, tmp_path: Path, store: Store) -> str:
    _write(published, tmp_path / "page", store)
    return (tmp_path / "page" / "index.html").read_text()


def test_the_page_tells_how_good_the_model_is_and_how_to_run_it(
    published: Published, tmp_path: Path, store: Store
) -> None:
    page = _page(published, tmp_path, store)
    for told in (
        "Light or dark", "97.5 %", "gate accepted", "accuracy 0.975 &gt;= 0.9", "<strong>mean</strong>",
        "docker run --rm -p 5000:5000 volvox/brightness:1",
        "/v2/models/brightness/predict/", "-F image=@photo.png", 'href="/models/brightness/"', "268 MB", "86.0 MB",
        'src="confusion.png"', "volvox cycle FOLDER --module standin --from brightness",
        published.dataset.digest, "f00d",
    ):  # fmt: skip
        assert told in page, told


def test_every_file_that_the_page_links_beside_it_is_there(published: Published, tmp_path: Path, store: Store) -> None:
    page = _page(published, tmp_path, store)
    linked = [link for link in re.findall(r'(?:href|src)="([^"#]+)"', page) if not link.startswith(("/", "http", ".."))]
    assert {"model-card.md", "metadata.yaml", "confusion.png"} <= set(linked)
    assert [link for link in linked if not (tmp_path / "page" / link).is_file()] == []


def test_the_metadata_is_valid_and_complete(published: Published, tmp_path: Path, store: Store) -> None:
    entry = _write(published, tmp_path / "page", store)
    metadata = yaml.safe_load((tmp_path / "page" / "metadata.yaml").read_text())
    assert faults(metadata) == []
    assert metadata == entry["metadata"] == json.loads((tmp_path / "page" / "metadata.json").read_text())
    assert metadata["metrics"]["accuracy"] == 0.975
    assert metadata["links"]["docker_image"] == "volvox/brightness:1"
    assert metadata["provenance"]["dataset"] == published.dataset.digest
    assert metadata["license"] == "MIT"
    assert metadata["dates"] == {"created": "2026-03-01", "updated": "2026-03-01"}


def test_nothing_that_a_module_or_its_data_says_becomes_markup(
    published: Published, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = f"{ATTACK} [x](javascript:alert(1)) ![t](https://example.org/t.png) <script>alert(1)</script>"
    stated = yaml.safe_load(standin.METADATA) | {
        "title": ATTACK, "summary": ATTACK, "description": description, "tags": [ATTACK],
        "links": {"source_code": "javascript:alert(1)", "documentation": f"https://example.org/{ATTACK}"},
    }  # fmt: skip
    standin.install(tmp_path / "site", monkeypatch, metadata=yaml.safe_dump(stated))
    attacked = dataclasses.replace(
        published,
        dataset=published.dataset.model_copy(
            update={"source": ATTACK, "rejected": (Rejected(file=ATTACK, reason=ATTACK),), "rejected_total": 1}
        ),
        evaluation=published.evaluation.model_copy(
            update={"per_class": (published.evaluation.per_class[0].model_copy(update={"name": ATTACK}),)}
        ),
    )
    seen = _Elements()
    seen.feed(_page(attacked, tmp_path, store))
    assert {source for name, source in seen.sources if name == "img"} == {
        "confusion.png", "reliability.png", "mistakes.png",
    }  # fmt: skip
    assert [source for name, source in seen.sources if name == "script"] == ["../catalogue.js"]
    assert not [link for link in seen.links if link.startswith("javascript:")]
    assert seen.handlers == []


def test_an_image_that_was_not_built_says_why(published: Published, tmp_path: Path, store: Store) -> None:
    image = published.image.model_copy(update={"built": False, "reason": "no container engine runs here"})
    page = _page(dataclasses.replace(published, image=image), tmp_path, store)
    assert "No image was built: no container engine runs here." in page
    assert "docker run" not in page


def test_metadata_that_is_not_yaml_is_shown_as_a_placeholder_with_its_numbers(
    published: Published, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.install(tmp_path / "site", monkeypatch, metadata="title: a: b: c\n")
    page = _page(published, tmp_path, store)
    assert "invalid metadata" in page
    assert "is not YAML" in page
    assert "97.5 %" in page


def test_the_model_card_is_markdown_with_the_numbers(published: Published, tmp_path: Path, store: Store) -> None:
    _write(published, tmp_path / "page", store)
    card = (tmp_path / "page" / "model-card.md").read_text()
    assert card.startswith("# brightness\n\nLight or dark. ")
    assert "| dark | 100.0 % | 95.0 % | 97.0 % | 2 |" in card
    assert published.version.weights_tree in card


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (268_437_555, "268 MB"), (3.2e12, "3.2 TB")]
)
def test_a_size_is_told_in_decimal_units(count: float, text: str) -> None:
    assert size(count) == text


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[tuple[str, str | None]] = []
        self.links: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src":
                self.sources.append((tag, value))
            elif name == "href":
                self.links.append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)
