from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from volvox.catalogue.metadata import INVALID, NEWEST, as_newest, complete, faults, placeholder, versions

TODAY = datetime.date(2026, 3, 1)
FIRST: dict[str, Any] = {
    "title": "Seeds", "summary": "Seeds.", "description": ["One.", "Two."], "date_creation": "2018-01-01",
    "keywords": ["pre-trained", "seeds"], "license": "Apache-2.0", "dataset_url": "https://example.org/data",
    "sources": {"dockerfile_repo": "https://x", "docker_registry_repo": "deephdc/x", "code": "https://code"},
}  # fmt: skip
SECOND: dict[str, Any] = {
    "metadata_version": "2.0.0", "title": "Seeds", "summary": "Seeds.", "description": "All.",
    "links": {"source_code": "https://code"}, "libraries": ["PyTorch"], "tasks": ["Computer Vision"],
    "categories": ["AI4 inference"], "tags": ["seeds"], "dates": {"created": "2020-01-01", "updated": "2021-01-01"},
}  # fmt: skip


def test_all_published_schemas_are_known() -> None:
    assert versions() == ["1.0.0", "2.0.0", "2.1.0", "2.2.0", "2.3.0"]


@pytest.mark.parametrize("metadata", [FIRST, SECOND, SECOND | {"metadata_version": NEWEST}])
def test_a_file_is_judged_by_the_schema_of_its_own_version(metadata: dict[str, Any]) -> None:
    assert faults(metadata) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"libraries": ["Pytorch"]}, "libraries.0: 'Pytorch' is not one of"),
        ({"summary": None}, "summary: None is not of type 'string'"),
        ({"metadata_version": "9.0.0"}, "metadata_version is '9.0.0'; known are 1.0.0"),
        ({"metadata_version": "../../../etc"}, "metadata_version is"),
        ({"tags": ["a", "a"]}, "tags: ['a', 'a'] has non-unique elements"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: dict[str, Any], fault: str) -> None:
    assert any(sentence.startswith(fault) for sentence in faults(SECOND | change))


def test_formats_are_annotations() -> None:
    assert faults(SECOND | {"links": {"source_code": "https://code", "docker_image": "ai4oshub/x"}}) == []


def test_a_file_of_the_first_version_is_read_in_the_words_of_the_newest() -> None:
    newest = as_newest(FIRST)
    assert faults(newest) == []
    assert newest["description"] == "One.\n\nTwo."
    assert newest["links"] == {
        "source_code": "https://code", "docker_image": "deephdc/x", "dataset": "https://example.org/data",
    }  # fmt: skip
    assert newest["tags"] == ["pre-trained", "seeds"]
    assert newest["categories"] == ["AI4 pre trained"]
    assert newest["dates"]["created"] == "2018-01-01"


def test_facts_are_added_and_what_the_module_says_stays() -> None:
    facts = {"title": "no", "links": {"docker_image": "volvox/seeds:1"}, "metrics": {"accuracy": 0.9}}
    made = complete("seeds", SECOND, facts, today=TODAY)
    assert faults(made) == []
    assert made["title"] == "Seeds"
    assert made["links"] == {"source_code": "https://code", "docker_image": "volvox/seeds:1"}
    assert made["metrics"] == {"accuracy": 0.9}
    assert made["dates"] == {"created": "2020-01-01", "updated": "2026-03-01"}


@pytest.mark.parametrize(
    ("stated", "reason", "said"),
    [
        (SECOND | {"tasks": ["Seeing"]}, "", "tasks.0: 'Seeing' is not one of"),
        ({}, "", "the module has no metadata file"),
        ({}, "metadata.yaml is not YAML", "metadata.yaml is not YAML"),
    ],
)
def test_metadata_that_is_not_valid_becomes_a_placeholder_that_keeps_the_facts(
    stated: dict[str, Any], reason: str, said: str
) -> None:
    made = complete("seeds", stated, {"metrics": {"accuracy": 0.9}}, reason=reason, today=TODAY)
    assert faults(made) == []
    assert made["tags"] == [INVALID]
    assert said in made["description"]
    assert made["metrics"] == {"accuracy": 0.9}


def test_a_placeholder_is_valid_itself() -> None:
    assert faults(placeholder("seeds", "why")) == []


def test_the_notice_names_the_source_and_licence_of_the_schemas() -> None:
    import volvox.catalogue

    notice = Path(volvox.catalogue.__file__).parent / "schemas" / "NOTICE"
    assert "Apache License" in notice.read_text()


def test_a_date_that_yaml_reads_as_a_date_is_valid() -> None:
    stated = yaml.safe_load(yaml.safe_dump(SECOND).replace("'2020-01-01'", "2020-01-01"))
    assert isinstance(stated["dates"]["created"], datetime.date)
    assert faults(stated) == []
    assert json.dumps(complete("seeds", stated, {}, today=TODAY))
