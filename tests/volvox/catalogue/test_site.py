from __future__ import annotations

import json
from pathlib import Path

import pytest

from volvox.catalogue import site as site_module
from volvox.catalogue.site import Site
from volvox.errors import InvalidInput


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "catalogue")


def _files(place: Path, name: str, text: str = "a page", **metadata: object) -> Path:
    folder = place / f"files-{name}-{len(list(place.iterdir()))}"
    folder.mkdir()
    told = {"title": name.title(), "summary": "", "tags": [], **metadata}
    (folder / "index.html").write_text(text)
    (folder / "entry.json").write_text(json.dumps({"name": name, "path": f"{name}/", "metadata": told}))
    return folder


def test_an_entry_is_shown_and_listed(site: Site, tmp_path: Path) -> None:
    assert not site.shows("digits", "t1")
    site.publish("digits", "t1", _files(tmp_path, "digits"))
    assert site.shows("digits", "t1")
    assert (site.root / "digits" / "index.html").read_text() == "a page"
    assert [entry["name"] for entry in json.loads((site.root / "catalogue.json").read_text())] == ["digits"]
    assert '<a href="digits/">digits</a>' in (site.root / "index.html").read_text()
    assert (site.root / "volvox.css").is_file()
    assert (site.root / "catalogue.js").is_file()


def test_a_new_version_takes_the_place_of_the_old_one(site: Site, tmp_path: Path) -> None:
    site.publish("digits", "t1", _files(tmp_path, "digits", "old"))
    site.publish("digits", "t2", _files(tmp_path, "digits", "new"))
    assert site.shows("digits", "t2")
    assert not site.shows("digits", "t1")
    assert (site.root / "digits" / "index.html").read_text() == "new"
    assert [path.name for path in (site.root / ".entries" / "digits").iterdir()] == ["t2"]


def test_an_entry_that_cannot_be_read_is_a_placeholder_and_breaks_nothing(site: Site, tmp_path: Path) -> None:
    site.publish("good", "t1", _files(tmp_path, "good"))
    broken = _files(tmp_path, "broken")
    (broken / "entry.json").write_text("{")
    site.publish("broken", "t2", broken)
    told = {entry["name"]: entry["metadata"] for entry in site.entries()}
    assert told["broken"]["tags"] == ["invalid metadata"]
    assert "cannot be read" in told["broken"]["description"]
    page = (site.root / "index.html").read_text()
    assert "invalid metadata" in page
    assert '<a href="good/">' in page


def test_what_a_killed_process_left_is_cleared_away(site: Site, tmp_path: Path) -> None:
    (site.root / ".incoming-a").mkdir(parents=True)
    (site.root / ".incoming-b").write_text("half")
    (site.root / ".entries" / "digits" / ".incoming-c").mkdir(parents=True)
    site.publish("digits", "t1", _files(tmp_path, "digits"))
    assert not list(site.root.rglob(".incoming-*"))


@pytest.mark.parametrize("step", range(12))
def test_killed_anywhere_the_site_is_whole_and_the_next_call_goes_on(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    site.publish("digits", "t1", _files(tmp_path, "digits", "old"))
    new = _files(tmp_path, "digits", "new", summary="changed")
    calls = 0

    def dying(replace):
        def call(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls > step:
                raise KeyboardInterrupt
            return replace(*arguments, **keywords)

        return call

    with monkeypatch.context() as patched:
        for name in ("rename", "replace", "symlink_to"):
            patched.setattr(Path, name, dying(getattr(Path, name)))
        try:
            site.publish("digits", "t2", new)
        except KeyboardInterrupt:
            assert not site.shows("digits", "t2") or calls <= step
    assert (site.root / "digits" / "index.html").read_text() in ("old", "new")
    assert json.loads((site.root / "digits" / "entry.json").read_text())["name"] == "digits"
    assert json.loads((site.root / "catalogue.json").read_text())
    site.publish("digits", "t2", new)
    assert site.shows("digits", "t2")
    assert json.loads((site.root / "catalogue.json").read_text())[0]["metadata"]["summary"] == "changed"
    assert not list(site.root.rglob(".incoming-*"))


def test_a_new_look_makes_the_index_again(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish("digits", "t1", _files(tmp_path, "digits"))
    monkeypatch.setattr(site_module, "looks", lambda: "another")
    assert not site.shows("digits", "t1")


def test_what_an_entry_says_of_itself_is_escaped_in_the_index(site: Site, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    site.publish("digits", "t1", _files(tmp_path, "digits", title=attack, summary=attack, tags=[attack]))
    assert "<script>alert" not in (site.root / "index.html").read_text()


@pytest.mark.parametrize("name", ["index.html", "catalogue.json", ".entries", "../x"])
def test_a_model_cannot_take_the_place_of_the_catalogue_s_own_files(site: Site, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="give it another --name"):
        site.publish(name, "t1", tmp_path)
    assert not site.root.exists()


def test_an_unchanged_index_is_not_written_again(site: Site, tmp_path: Path) -> None:
    site.publish("digits", "t1", _files(tmp_path, "digits"))
    before = (site.root / "index.html").stat().st_ino
    site.rebuild()
    assert (site.root / "index.html").stat().st_ino == before
