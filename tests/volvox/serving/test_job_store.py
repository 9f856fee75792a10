"""The database of jobs."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from volvox.errors import NotFound
from volvox.serving import job_store
from volvox.serving.job_store import Store


def _add(store: Store, uuid: str, model: str = "m", kind: str = "predict") -> job_store.Job:
    return store.add(uuid, kind=kind, model=model, module="tiny")


def test_a_job_goes_from_state_to_state_and_every_change_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    job = _add(store, "a")
    assert (job.state, job.started, job.finished, job.runs) == ("PENDING", None, None, 0)
    assert store.move("a", "RUNNING", of=("PENDING",)).runs == 1
    assert store.move("a", "PENDING", of=("RUNNING",), reason="again").started is None
    assert store.move("a", "RUNNING", of=("PENDING",)).runs == 2
    done = store.move("a", "SUCCEEDED", of=("RUNNING",), status=200)
    assert (done.status, done.started <= done.finished) == (200, True)
    assert store.move("a", "CANCELLED", of=job_store.OPEN) is None
    assert store.get("a") == done
    changes = store.changes("a")
    assert [change.state for change in changes] == ["PENDING", "RUNNING", "PENDING", "RUNNING", "SUCCEEDED"]
    assert [change.reason for change in changes] == ["", "", "again", "", ""]
    assert store.changes("a", changes[3].number) == changes[4:]
    store.close()


def test_of_two_who_change_a_state_one_does(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    stores = [Store(path) for _ in range(4)]
    for number in range(20):
        _add(stores[0], str(number))
        won: list[object] = []

        def move(store: Store, uuid: str = str(number), won: list[object] = won) -> None:
            won.append(store.move(uuid, "CANCELLED", of=job_store.OPEN))

        threads = [threading.Thread(target=move, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(job is not None for job in won) == 1
    for store in stores:
        store.close()


def test_everything_is_there_again_after_opening_it_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    job = _add(store, "a")
    store.close()
    assert Store(tmp_path / "jobs.sqlite").get("a") == job


@pytest.mark.parametrize("content", [b"this is no database, but a text that is long enough", b""])
def test_a_database_that_cannot_be_read_is_put_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(content)
    assert Store(path).newest() == []
    aside = tmp_path / "jobs.sqlite.unreadable"
    assert (aside.read_bytes() if aside.exists() else b"") == content


def test_a_database_of_a_newer_server_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert Store(path).newest() == []
    assert sqlite3.connect(tmp_path / "jobs.sqlite.unreadable").execute("PRAGMA user_version").fetchone() == (99,)


def test_what_is_before_a_job_is_counted_for_what_it_waits_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    for uuid, model, kind in (("a", "m", "predict"), ("b", "n", "predict"), ("c", "m", "train"), ("d", "n", "train")):
        _add(store, uuid, model, kind)
    last = _add(store, "e", "m")
    store.move("a", "RUNNING", of=("PENDING",))
    assert store.before(last) == (0, 1)
    assert store.before(store.get("d")) == (1, 0)  # one slot for the trainings of all models
    assert store.models_waited_for() == ["n", "m"] or store.models_waited_for() == ["m", "n"]
    assert [job.uuid for job in store.waiting("train")] == ["c", "d"]
    assert [job.uuid for job in store.newest(model="m")] == ["e", "c", "a"]
    store.unlist("c")
    assert [job.uuid for job in store.newest(kind="train", listed=True)] == ["d"]


def test_old_jobs_and_too_many_jobs_expire_and_open_ones_never(tmp_path: Path, monkeypatch) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    for number in range(6):
        _add(store, str(number))
    long_ago = (datetime.now(UTC) - timedelta(days=3)).isoformat(timespec="microseconds")
    with monkeypatch.context() as patched:
        patched.setattr(job_store, "now", lambda: long_ago)
        store.move("0", "FAILED", of=("PENDING",))
    for uuid in ("2", "1", "3"):
        store.move(uuid, "SUCCEEDED", of=("PENDING",))
    assert store.expired(days=2, newest=100) == ["0"]
    assert sorted(store.expired(days=100, newest=2)) == ["0", "2"]
    assert store.remove("0")
    assert not store.remove("4"), "a job that waits was removed"
    assert store.changes("0") == []
    with pytest.raises(NotFound, match="no job '0'"):
        store.get("0")
