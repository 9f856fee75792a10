from __future__ import annotations

from pathlib import Path

import pytest

from volvox.errors import InvalidInput
from volvox.parameters import as_json
from volvox.records import Job

JOB = Job(service="a", version="1", input="x", input_digest="d", answer_object="o")


class Block:
    def __init__(self, saved_as: str | None) -> None:
        self._block_document_id = saved_as


def test_records_blocks_and_paths_become_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = as_json({"job": JOB, "jobs": [JOB], "store": Block("1-2"), "folder": Path("x"), "none": None, "n": (1, 2.5)})
    assert Job.model_validate(told["job"]) == Job.model_validate(told["jobs"][0]) == JOB
    assert told["store"] == {"$ref": {"block_document_id": "1-2"}}
    assert told["folder"] == str(tmp_path / "x")
    assert (told["none"], told["n"]) == (None, [1, 2.5])


@pytest.mark.parametrize("source", ["s3://bucket/a.zip", "https://example.org/a.zip", ""])
def test_an_address_stays_what_it_is_and_a_path_becomes_absolute(source: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_json({"source": source}) == {"source": source}
    assert as_json({"source": "pets"}) == {"source": str(tmp_path / "pets")}


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, float("nan"), [b"bytes"]])
def test_what_is_no_json_is_refused_with_its_name(value: object) -> None:
    with pytest.raises(InvalidInput, match="given"):
        as_json({"given": value})


def test_a_block_that_is_not_saved_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'store' is not saved"):
        as_json({"store": Block(None)})
