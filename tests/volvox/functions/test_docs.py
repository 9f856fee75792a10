from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from volvox.functions.definition import Function
from volvox.functions.entries import Kept, Table
from volvox.functions.oscar_keys import READ_ONLY, SERVICE
from volvox.functions.own_form import KEYS
from volvox.functions.reading import parse
from volvox.functions.registry import apply_all
from volvox.functions.scar_keys import LAMBDA, SIBLINGS
from volvox.settings import Home

PAGE = (Path(__file__).parents[3] / "docs" / "functions.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for script in ("count.sh", "yolo.sh", "plants.sh"):
        (tmp_path / script).write_text("#!/bin/sh\n")
    return tmp_path


def test_there_are_examples_of_all_forms(folder: Path) -> None:
    found = [function.origin for text in EXAMPLES for function in parse(text, folder / "f.yaml").functions]
    assert set(found) == {"volvox", "scar", "oscar"}


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_can_be_applied(home: Home, folder: Path, text: str) -> None:
    read = parse(text, folder / "f.yaml")
    assert read.warnings == ()
    assert read.missing == ()
    assert [change.kind for change in apply_all(home, read.functions)] == ["added"] * len(read.functions)


def test_every_key_of_our_own_is_explained() -> None:
    explained = {key for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
    assert set(KEYS) <= explained


def test_the_defaults_that_are_told_are_true() -> None:
    stated = Function(name="x", model="x").model_dump()
    for key in ("timeout_seconds", "deadline_seconds", "priority", "keep_days"):
        row = re.search(rf"^\| `{key}` \| (.*) \|$", PAGE, re.MULTILINE)
        assert row
        assert f"{stated[key]:g}" in re.findall(r"-?\d+", row[1].replace("-100 to 100", ""))
    for part in ("scaling", "retries"):
        row = re.search(rf"^\| `{part}` \| (.*) \|$", PAGE, re.MULTILINE)
        assert row
        for key, value in stated[part].items():
            assert (f"`{key}` {value:g}" if isinstance(value, int | float) else f"`{key}`") in row[1]


def _names(table: Table) -> Iterator[str]:
    for name, about in table.items():
        yield name
        if not isinstance(about, Kept):
            yield from _names(about)


@pytest.mark.parametrize(("start", "tables"), [("## SCAR's form", (LAMBDA, SIBLINGS)), ("## OSCAR's form", (SERVICE,))])
def test_every_key_of_theirs_that_is_kept_is_named(start: str, tables: tuple[Table, ...]) -> None:
    section = re.split(r"\n## ", PAGE[PAGE.index(start) + 3 :])[0]
    named = {word for code in re.findall(r"`([^`\n]+)`", section) for word in re.findall(r"\w+", code)}
    missing = [name for table in tables for name in _names(table) if name not in named]
    assert missing == []
    if start.startswith("## OSCAR"):
        assert set(READ_ONLY) <= named
