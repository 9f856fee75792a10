"""The folders of jobs: emptied and used again, and never believed after the machine went down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from volvox.dispatch import work as works
from volvox.dispatch.work import Spares, Work, work_of
from volvox.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def begun(home: Home, job: str, spares: Spares | None = None) -> Work:
    work = work_of(home, job)
    work.begin(spares)
    work.input("a.png").write_bytes(b"abc")
    (work.output / "a.json").write_text("{}")
    return work


def test_a_folder_is_used_again_and_is_empty_then(home: Home) -> None:
    spares = Spares(home)
    first = begun(home, "a" * 32, spares)
    first.answered({"job": "a"})
    was = first.folder.stat().st_ino
    first.end(spares)
    assert not first.folder.exists()
    second = work_of(home, "b" * 32)
    second.begin(spares)
    assert second.folder.stat().st_ino == was
    assert sorted(path.name for path in second.folder.rglob("*")) == ["in", "out"]
    assert second.answer() is None


def test_what_has_folders_in_it_is_removed_whole(home: Home) -> None:
    spares = Spares(home)
    work = begun(home, "a" * 32, spares)
    (work.output / "deep").mkdir()
    (work.output / "deep" / "b.json").write_text("{}")
    work.end(spares)
    assert not work.folder.exists()
    assert not spares.take(work.folder)


def test_what_an_attempt_left_is_removed_though_there_is_a_spare(home: Home) -> None:
    spares = Spares(home)
    begun(home, "a" * 32, spares).end(spares)
    begun(home, "b" * 32).answered({"job": "b"})
    again = work_of(home, "b" * 32)
    again.begin(spares)
    assert again.answer() is None
    assert again.files() == []


def test_spares_of_a_dispatcher_that_was_killed_are_removed(home: Home) -> None:
    spares = Spares(home)
    begun(home, "a" * 32, spares).end(spares)
    Spares(home)
    assert list((home.root / "dispatch" / "jobs").iterdir()) == []


def test_an_answer_from_before_the_machine_went_down_is_none(home: Home) -> None:
    work = begun(home, "a" * 32)
    work.answered({"job": "a", "notes": ["one"]})
    told = work.answer()
    assert told is not None and told["notes"] == ["one"]
    (work.folder / "done.json").write_text(json.dumps({**told, "boot": "another"}))
    assert work.answer() is None


def test_files_come_in_order_and_links_are_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    work = begun(home, "a" * 32)
    (work.output / "b").mkdir()
    (work.output / "b" / "c.json").write_text("{}")
    (work.output / "link").symlink_to("/etc/hostname")
    assert [name for name, _ in work.files()] == ["a.json", "b/c.json"]
    monkeypatch.setattr(works, "_boot", lambda: "")  # a system that does not say
    work.answered({"job": "a"})
    assert work.answer() == {"job": "a", "boot": ""}
