"""Many files by one run: what is written, what is told of each, and what is not done twice when it is begun again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tasks.batch_inference import answer_files
from volvox import progress
from volvox.bulk import listing, outcomes
from volvox.bulk.answers import BatchAnswers
from volvox.bulk.listing import Listed, Listing
from volvox.errors import InvalidInput, ModuleFailed, NotFound
from volvox.functions.definition import Function
from volvox.inbox import NewJob
from volvox.places import open_place
from volvox.runtimes.interface import Outcome
from volvox.runtimes.models import Model
from volvox.settings import Home
from volvox.store import Store

PICKY = """
import os, time
from pathlib import Path
from marshmallow import ValidationError, fields

def get_predict_args():
    return {"text": fields.Raw(required=True, metadata={"type": "file", "location": "form"}),
            "top": fields.Int(load_default=1)}

def predict(text, top):
    said = Path(text.filename).read_text()
    with open(os.environ["ASKED"], "a") as stream:
        print(text.original_filename, file=stream, flush=True)
    if said == "broken":
        raise ValueError("it is no picture")
    if said == "refuse":
        raise ValidationError({"text": ["Not for me."]})
    if said == "crash":
        os._exit(3)
    if said == "wait":
        time.sleep(0.5)
    return {"said": said, "top": top, "weights": Path(os.environ["VOLVOX_WEIGHTS"], "name").read_text()}
"""


@dataclass
class Drop:
    """A list of files, and what became of it."""

    store: Store
    home: Home
    source: Path
    target: Path
    log: Path
    digest: str
    told: Listing

    def run(self) -> BatchAnswers:
        return asyncio.run(answer_files.fn(self.digest, store=self.store, home=self.home))

    def outcomes(self, made: BatchAnswers) -> dict[str, Outcome]:
        """By the file's key."""
        keys = {job.id: job.key for job in self.told.jobs}
        return {keys[one.job]: one for one in outcomes.read(self.store, [made.outcomes_object])}

    def name(self, key: str) -> str:
        """The name of the answer to a file."""
        (job,) = [job for job in self.told.jobs if job.key == key]
        return f"{key}.{job.id[:8]}.json"

    def answers(self) -> dict[str, Any]:
        found = [path for path in self.target.rglob("*") if path.is_file()]
        return {path.relative_to(self.target).as_posix(): json.loads(path.read_bytes()) for path in found}

    def asked(self) -> list[str]:
        return sorted(self.log.read_text().splitlines()) if self.log.exists() else []


Dropped = Callable[..., Drop]


@pytest.fixture
def drop(home: Home, store: Store, tmp_path: Path, install_module: Any, monkeypatch: pytest.MonkeyPatch) -> Dropped:
    """`drop({"a.txt": "content"})`: a list of these files."""
    install_module("picky", PICKY)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    weights, source, target = tmp_path / "weights", tmp_path / "in", tmp_path / "out"
    for folder in (weights, source, target):
        folder.mkdir()
    (weights / "name").write_text("w3")
    model = Model("picky", "3", "d" * 64, "picky", weights=store.put_tree(weights))

    def make(files: dict[str, str], gone: Sequence[str] = (), **more: Any) -> Drop:
        for key, content in files.items():
            (source / key).parent.mkdir(parents=True, exist_ok=True)
            (source / key).write_text(content)
        place, jobs = open_place(f"file://{source}"), []
        for key in files:
            found = place.find(key)
            assert found is not None
            job = NewJob("f", place.url, key, found.version)
            jobs.append(Listed(job.id, job.place, job.key, job.version, "", "", "sweep", len(jobs)))
        for key in gone:
            (source / key).unlink()
        told = {"name": "f", "model": "picky", "inputs": [{"url": place.url}], "outputs": [{"url": f"file://{target}"}]}
        made = Listing(Function.model_validate({**told, **more}), "v1", model, tuple(jobs))
        return Drop(store, home, source, target, tmp_path / "asked", made.keep(store), made)

    return make


FILES = {f"{number:02}.txt": f"file {number}" for number in range(20)}


def test_every_file_is_answered_under_the_name_that_single_ones_have(drop: Dropped) -> None:
    here = drop({**FILES, "ann/deep er.txt": "ünï"}, arguments={"top": 7})
    events: list[progress.Event] = []
    with progress.listening(events.append):
        made = here.run()
    assert (made.function, made.model, made.version) == ("f", "picky", "3")
    assert (made.files, made.answered, made.failed) == (21, 21, 0)
    assert here.answers() == {
        here.name(key): {"status": "OK", "predictions": {"said": said, "top": 7, "weights": "w3"}}
        for key, said in {**FILES, "ann/deep er.txt": "ünï"}.items()
    }
    told = here.outcomes(made)
    output = told["00.txt"].outputs[0]
    assert output == {"url": f"file://{here.target}", "key": here.name("00.txt"), "size": output["size"]}
    assert output["size"] == (here.target / here.name("00.txt")).stat().st_size
    far = [event for event in events if event.kind == "advanced"]
    assert (far[0].done, far[-1].done, far[-1].total, far[-1].unit) == (0, 21, 21, "files")
    assert far[-1].detail["failed"] == 0
    assert far[-1].detail["files/s"] > 0
    assert not [*(here.home.cache / "batch").iterdir()], "nothing is left of what was fetched"


def test_what_fails_at_one_file_stops_no_other_and_is_told(drop: Dropped) -> None:
    wrong = {"x-broken": "broken", "x-refused": "refuse", "x-gone": "", "x-crash": "crash"}
    here = drop({**FILES, **wrong}, gone=["x-gone"])
    made = here.run()
    told = here.outcomes(made)
    assert {key: one.kind for key, one in told.items() if one.kind} == {
        "x-broken": "failed", "x-refused": "refused", "x-gone": "missing", "x-crash": "gone",
    }  # fmt: skip
    assert "it is no picture" in told["x-broken"].reason
    assert "text: Not for me." in told["x-refused"].reason
    assert "x-gone" in told["x-gone"].reason
    assert (made.answered, made.failed) == (20, 4)
    assert {*here.answers()} == {here.name(key) for key in FILES}


def test_a_place_that_refuses_is_told_of_each_file(drop: Dropped) -> None:
    here = drop({"a.txt": "a"})
    here.target.rmdir()
    here.target.write_text("no folder")
    (outcome,) = here.outcomes(here.run()).values()
    assert outcome.kind == "unpublished"
    assert str(here.target) in outcome.reason


def test_a_list_that_was_answered_is_not_begun_again(drop: Dropped) -> None:
    here = drop(FILES)
    first, asked = here.run(), here.asked()
    assert here.run() == first
    assert here.asked() == asked == sorted(FILES)


def test_a_run_that_was_killed_goes_on_where_it_was(drop: Dropped) -> None:
    """Of a run that was killed there are answers, and outcomes that were told; of some answers it could not tell."""
    here = drop({**FILES, "x-broken": "broken"})
    names = sorted(FILES)
    by_key = {job.key: job for job in here.told.jobs}
    telling = outcomes.Telling(here.store, here.digest, len(here.told.jobs))
    for key in names[:4]:
        telling.add(Outcome(by_key[key].id, outputs=({"url": "told", "key": key, "size": 1},)))
    telling.add(Outcome(by_key["x-broken"].id, "failed", "it was broken then too"))
    telling.tell()
    for key in names[4:8]:
        (here.target / here.name(key)).write_text('"of before"')
    made = here.run()
    assert here.asked() == names[8:]
    told = here.outcomes(made)
    assert [told[key].outputs[0]["url"] for key in names[:4]] == ["told"] * 4
    assert [told[key].outputs[0]["key"] for key in names[4:8]] == [here.name(key) for key in names[4:8]]
    assert [here.answers()[here.name(key)] for key in names[4:8]] == ["of before"] * 4
    assert told["x-broken"].reason == "it was broken then too"
    assert (made.files, made.failed) == (21, 1)


def test_what_was_cancelled_is_passed_over(drop: Dropped) -> None:
    here = drop(FILES)
    unwanted = [job.id for job in here.told.jobs[10:]]
    outcomes.pass_over(here.store, here.digest, unwanted[:5])
    outcomes.pass_over(here.store, here.digest, unwanted[5:])
    told = here.outcomes(here.run())
    assert {key for key, one in told.items() if one.kind == "cancelled"} == {*sorted(FILES)[10:]}
    assert here.asked() == sorted(FILES)[:10]


def test_what_is_cancelled_while_the_run_goes_on_is_passed_over(drop: Dropped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volvox.bulk.answering._LOOK_SECONDS", 0.01)
    monkeypatch.setattr("volvox.bulk.answering._CANCELLED_SECONDS", 0.01)
    here = drop({**FILES, "00.txt": "wait"}, scaling={"batch": 1})
    unwanted = [job.id for job in here.told.jobs[10:]]

    def cancel(event: progress.Event) -> None:
        if event.kind == "advanced" and event.done == 0:
            outcomes.pass_over(here.store, here.digest, unwanted)

    with progress.listening(cancel):
        told = here.outcomes(here.run())
    assert {key for key, one in told.items() if one.kind == "cancelled"} == {*sorted(FILES)[10:]}


def test_an_answer_that_is_there_is_never_written_again(drop: Dropped) -> None:
    here = drop({"a.txt": "a"})
    (here.target / here.name("a.txt")).write_text('"of before"')
    made = here.run()
    assert here.answers() == {here.name("a.txt"): "of before"}
    assert made.answered == 1


def test_outcomes_are_told_while_the_run_goes_on(store: Store) -> None:
    telling = outcomes.Telling(store, "l", 3)
    assert not telling.begun_before
    assert outcomes.told(store, "l") is None
    telling.tell()
    told = outcomes.told(store, "l")
    assert told == outcomes.Told((), 0)
    first = Outcome("1", "failed", "why", exit_code=3, seconds=0.5, notes=("a link was left out",))
    telling.add(first)
    telling.add(Outcome("1"))
    assert not telling.due, "not at once"
    telling.tell()
    second = Outcome("2", outputs=({"url": "u", "key": "k", "size": 1},))
    telling.add(second)
    telling.tell()
    told = outcomes.told(store, "l")
    assert told is not None
    assert (len(told.pieces), told.done) == (2, 2)
    assert [*outcomes.read(store, told.pieces)] == [first, second]
    again = outcomes.Telling(store, "l", 3)
    assert again.begun_before
    assert again.known == {"1": first, "2": second}
    assert [*outcomes.read(store, [again.whole()])] == [first, second]


def test_what_is_no_list_is_refused(store: Store, home: Home) -> None:
    for content in (b"x", b"{}", b'{"function": {}, "version": "", "model": {}, "jobs": []}'):
        with pytest.raises(InvalidInput, match="is no list of files that this release reads"):
            asyncio.run(answer_files.fn(store.put_bytes(content), store=store, home=home))
    with pytest.raises(NotFound):
        asyncio.run(answer_files.fn("0" * 64, store=store, home=home))


def test_arguments_that_the_model_has_not_fail_the_run(drop: Dropped) -> None:
    here = drop(FILES, arguments={"never heard of": 1})
    with pytest.raises(InvalidInput, match="never heard of"):
        here.run()
    assert here.answers() == {}


def test_a_model_that_does_not_start_fails_the_run(drop: Dropped) -> None:
    here = drop(FILES)
    other = replace(here.told, model=replace(here.told.model, module="never-installed"))
    with pytest.raises(ModuleFailed, match="never-installed"):
        replace(here, digest=other.keep(here.store)).run()
    assert here.answers() == {}


def test_the_list_is_read_as_it_was_kept(drop: Dropped) -> None:
    here = drop(FILES)
    assert listing.read(here.store, here.digest) == here.told
