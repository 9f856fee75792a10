from __future__ import annotations

import pytest

from flows.batch_inference import batch_inference, in_a_sentence
from flows.parameters import form
from volvox.progress import Event


@pytest.mark.parametrize(
    ("done", "detail", "said"),
    [
        (0, {"failed": 0}, "0 of 5,000 files, 0 failed"),
        (1200, {"failed": 3, "files/s": 41.2, "s left": 92}, "1,200 of 5,000 files, 3 failed, 41.2 files/s, 92 s left"),
        (5000, {"failed": 3, "files/s": 40, "s left": 0}, "5,000 of 5,000 files, 3 failed, 40 files/s"),
    ],
)
def test_progress_is_a_sentence(done: int, detail: dict[str, float], said: str) -> None:
    assert in_a_sentence(Event("", "advanced", done=done, total=5000, unit="files", detail=detail)) == said


def test_its_parameters_are_a_name_and_a_digest() -> None:
    told = form(batch_inference)
    assert {*told["properties"]} == {"function", "jobs", "store"}
    assert told["properties"]["jobs"]["pattern"] == "^[0-9a-f]{64}$"
    assert told["required"] == ["function", "jobs"]
