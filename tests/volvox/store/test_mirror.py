"""What is kept of a folder of checkpoints in a bucket, and what is not yet."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from tests.volvox.store.places import QUICK, Place
from tests.volvox.store.standin import StandIn, error
from volvox.store import mirror

PREFIX = "some/prefix/checkpoints/key/"


def _kept(server: StandIn) -> dict[str, bytes]:
    found = server.buckets["bucket"].items()
    return {key.removeprefix(PREFIX): data for key, (data, _) in found if key.startswith(PREFIX)}


def _await(server: StandIn, names: set[str]) -> None:
    end = time.monotonic() + 15
    while set(_kept(server)) != names and time.monotonic() < end:
        time.sleep(0.02)
    assert set(_kept(server)) == names


def test_a_file_that_is_still_written_is_not_kept_half(bucket_place: Place, server: StandIn) -> None:
    with bucket_place.open().checkpoints("key") as folder:
        with (folder / "growing").open("wb") as stream:
            for _ in range(20):
                stream.write(b"x" * (1 << 20))
                stream.flush()
                time.sleep(0.1)
                assert not _kept(server)
        (folder / "whole").write_bytes(b"w")
        _await(server, {"growing", "whole"})
        assert len(_kept(server)["growing"]) == 20 << 20


def test_a_file_that_changes_while_it_is_uploaded_leaves_what_was_kept(
    bucket_place: Place, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SETTLED_SECONDS", 0.2)
    with bucket_place.open().checkpoints("key") as folder:
        path = folder / "large"
        path.write_bytes(b"1" * (20 << 20))
        _await(server, {"large"})
        blocks = mirror.Mirror._blocks
        seen = []

        def written_meanwhile(self, stream, told):
            for number, block in enumerate(blocks(self, stream, told)):
                if not seen and number == 1:
                    seen.append(number)
                    with path.open("r+b") as other:
                        other.write(b"2" * 10)
                yield block

        monkeypatch.setattr(mirror.Mirror, "_blocks", written_meanwhile)
        path.write_bytes(b"3" * (20 << 20))
        while not seen:
            time.sleep(0.02)
        while server.uploads:  # the upload in parts is given up
            time.sleep(0.02)
        assert _kept(server)["large"] == b"1" * (20 << 20)
        monkeypatch.setattr(mirror.Mirror, "_blocks", blocks)
        end = time.monotonic() + 10
        while _kept(server)["large"] != path.read_bytes() and time.monotonic() < end:
            time.sleep(0.05)
    assert _kept(server)["large"] == b"2" * 10 + b"3" * ((20 << 20) - 10)


def test_a_renamed_or_linked_file_is_not_uploaded_twice(bucket_place: Place, server: StandIn) -> None:
    with bucket_place.open().checkpoints("key") as folder:
        (folder / "epoch-1.ckpt").write_bytes(b"1" * 1000)
        _await(server, {"epoch-1.ckpt"})
        server.received = 0
        os.link(folder / "epoch-1.ckpt", folder / "best.ckpt")
        (folder / "epoch-1.ckpt").rename(folder / "last.ckpt")
        _await(server, {"best.ckpt", "last.ckpt"})
        assert server.received == 0
    assert _kept(server) == {"best.ckpt": b"1" * 1000, "last.ckpt": b"1" * 1000}


def test_what_is_replaced_is_removed_only_when_its_successor_is_kept(bucket_place: Place, server: StandIn) -> None:
    with bucket_place.open().checkpoints("key") as folder:
        (folder / "epoch-1").write_bytes(b"1")
        _await(server, {"epoch-1"})
        (folder / "epoch-2").write_bytes(b"2" * (2 << 20))
        (folder / "epoch-1").unlink()
        (folder / "log").write_bytes(b"")  # never settles, and holds up nothing
        end = time.monotonic() + 15
        while "epoch-1" in _kept(server) and time.monotonic() < end:
            with (folder / "log").open("ab") as stream:
                stream.write(b"a line\n")
            assert {"epoch-1", "epoch-2"} & set(_kept(server)), "there is something to go on from"
            time.sleep(0.02)
        assert set(_kept(server)) - {"log"} == {"epoch-2"}


def test_an_outage_does_not_disturb_the_training_and_is_made_up_for(
    bucket_place: Place, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    with bucket_place.open().checkpoints("key") as folder:
        server.answer = (503, error("SlowDown"))
        (folder / "epoch-1").write_bytes(b"1")
        while not caplog.messages:
            time.sleep(0.02)
        server.answer = None
        _await(server, {"epoch-1"})
    assert len(caplog.messages) == 1 and "checkpoints are not kept in s3://bucket/some/prefix for now" in caplog.text


def test_who_has_lost_the_lock_keeps_nothing_more(bucket_place: Place, server: StandIn) -> None:
    store = bucket_place.open()
    lock = store.try_lock("training", "key")
    assert lock is not None
    with store.checkpoints("key") as folder:
        (folder / "epoch-1").write_bytes(b"mine")
        _await(server, {"epoch-1"})
        said = {"holder": "another", "count": 1, "lapse_seconds": QUICK.lapse}
        server.buckets["bucket"]["some/prefix/locks/training-key"] = (json.dumps(said).encode(), time.time())
        end = time.monotonic() + 5
        while not lock.lost and time.monotonic() < end:
            time.sleep(0.02)
        (folder / "epoch-1").unlink()
        (folder / "epoch-2").write_bytes(b"mine")
    assert _kept(server) == {"epoch-1": b"mine"}
    lock.close()


def test_what_a_killed_process_left_on_this_machine_is_not_taken_for_what_is_kept(bucket_place: Place) -> None:
    store = bucket_place.open()
    folder = store._checkpoints("key")
    folder.mkdir(parents=True)
    (folder / "old").write_bytes(b"old")
    with store.checkpoints("key") as found:
        assert found == folder and not list(found.iterdir())
    assert not folder.exists()


def test_the_newest_stays_the_newest(bucket_place: Place, server: StandIn) -> None:
    now = time.time()
    for number, name in enumerate(("b", "c", "a")):
        server.buckets["bucket"][PREFIX + name] = (b"", now - 100 + 10 * number)
    with bucket_place.open().checkpoints("key") as folder:
        assert sorted(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime)[-1].name == "a"


def test_after_a_cancel_the_last_upload_takes_no_longer_than_it_may(
    bucket_place: Place, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volvox.store.s3._LAST_UPLOAD_SECONDS_CANCELLED", 0.0)
    with pytest.raises(asyncio.CancelledError), bucket_place.open().checkpoints("key") as folder:
        (folder / "epoch-1").write_bytes(b"1")
        raise asyncio.CancelledError
    assert _kept(server) == {}
