"""Locks in a bucket: who holds one, who is told that it is lost, and what a server without conditions allows."""

from __future__ import annotations

import json
import logging
import threading
import time

import pytest

from tests.volvox.store.places import QUICK, Place
from tests.volvox.store.standin import StandIn, error
from volvox.errors import Unavailable
from volvox.store import lease
from volvox.store.lease import Times

NAME = "some/prefix/locks/stage-key"


@pytest.fixture(autouse=True)
def _not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_conditional", {})


def _written(server: StandIn, holder: str) -> None:
    said = {"holder": holder, "count": 1, "lapse_seconds": QUICK.lapse}
    server.buckets["bucket"][NAME] = (json.dumps(said).encode(), time.time())


def test_a_killed_holder_holds_nobody_up_for_a_minute() -> None:
    times = Times()
    assert times.lapse + times.renew + 2 * lease._LOOK_SECONDS[1] < 60
    # A renewal that is under way when the holder gives up must be over before another takes the lease.
    assert times.lost + 2 * lease.ONCE.request < times.lapse
    assert lease.ONCE.retries == 0 and lease.ONCE.connect <= lease.ONCE.request


def test_a_holder_is_told_when_another_has_taken_its_lock(bucket_place: Place, server: StandIn) -> None:
    lock = bucket_place.open().try_lock("stage", "key")
    assert lock is not None and not lock.lost
    told = threading.Event()
    lock.when_lost(told.set)
    _written(server, "another")
    assert told.wait(5)
    assert "another run has taken it" in lock.lost and "run the same command again" in lock.lost
    at_once = threading.Event()
    lock.when_lost(at_once.set)
    assert at_once.is_set()
    lock.close()
    assert json.loads(server.buckets["bucket"][NAME][0])["holder"] == "another", "what another holds is not let go"


def test_a_holder_that_cannot_renew_is_told_before_another_may_take_over(bucket_place: Place, server: StandIn) -> None:
    lock = bucket_place.open().try_lock("stage", "key")
    assert lock is not None
    told = threading.Event()
    lock.when_lost(told.set)
    began = time.monotonic()
    server.answer = (503, error("SlowDown"))
    assert told.wait(5)
    assert QUICK.lost - QUICK.renew - 0.1 <= time.monotonic() - began < QUICK.lapse
    assert "the store did not answer for too long" in lock.lost
    lock.close()


def test_a_short_outage_is_survived(bucket_place: Place, server: StandIn) -> None:
    lock = bucket_place.open().try_lock("stage", "key")
    assert lock is not None
    server.answer = (503, error("SlowDown"))
    time.sleep(QUICK.lost / 2)
    server.answer = None
    time.sleep(QUICK.lost)
    assert not lock.lost
    lock.close()
    assert bucket_place.open().try_lock("stage", "key") is not None


def test_a_write_whose_answer_is_lost_counts(bucket_place: Place, server: StandIn) -> None:
    store = bucket_place.open()
    first = store.try_lock("stage", "other")
    assert first is not None
    first.close()
    server.lost_answers = 1  # the server wrote it, and the holder does not know
    lock = store.try_lock("stage", "key")
    assert lock is not None
    server.lost_answers = 1
    time.sleep(3 * QUICK.renew)
    assert not lock.lost
    lock.close()


def test_work_under_a_lost_lock_ends_with_an_error(bucket_place: Place, server: StandIn) -> None:
    with pytest.raises(Unavailable, match="another run has taken it"), bucket_place.open().locked("stage", "key"):
        _written(server, "another")
        time.sleep(5 * QUICK.renew)


def test_a_lease_of_an_unknown_form_is_waited_for(bucket_place: Place, server: StandIn) -> None:
    server.buckets["bucket"][NAME] = (b'{"version": 7}', time.time())
    assert bucket_place.open().try_lock("stage", "key") is None


def test_waiting_asks_the_server_now_and_then_only(bucket_place: Place, server: StandIn) -> None:
    holder = bucket_place.open().try_lock("stage", "key")
    assert holder is not None
    store = bucket_place.open("another machine")
    server.requests.clear()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        assert store.try_lock("stage", "key") is None
        time.sleep(0.01)
    assert len([request for request in server.requests if request.startswith("GET")]) <= 5
    holder.close()


def test_the_server_is_asked_once_whether_it_heeds_conditions(bucket_place: Place, server: StandIn) -> None:
    for machine in ("one", "another"):
        for key in ("a", "b"):
            lock = bucket_place.open(machine).try_lock("stage", key)
            assert lock is not None
            lock.close()
    assert len([request for request in server.requests if request.endswith("locks/.probe")]) <= 6


@pytest.mark.parametrize("bare", [True, False])
def test_a_lock_can_be_had_again_however_the_server_compares_etags(
    bucket_place: Place, server: StandIn, bare: bool
) -> None:
    server.bare_etags = bare
    for machine in ("one", "another", "one"):
        lock = bucket_place.open(machine).try_lock("stage", "key")
        assert lock is not None
        time.sleep(2 * QUICK.renew)
        assert not lock.lost
        lock.close()


def test_a_server_that_never_heeds_an_etag_is_taken_for_one_that_ignores_conditions(
    bucket_place: Place, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    server.bare_etags = None
    for _ in range(2):
        lock = bucket_place.open().try_lock("stage", "key")
        assert lock is not None
        lock.close()
    assert "ignores conditional writes" in caplog.text


def test_without_conditions_locks_work_and_the_weakness_is_told_once(
    bucket_place: Place, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    server.conditional = False
    stores = [bucket_place.open(f"machine {number}") for number in range(4)]
    had, barrier = [], threading.Barrier(len(stores))

    def want(store) -> None:
        barrier.wait()
        if lock := store.try_lock("stage", "key"):
            had.append(lock)

    with caplog.at_level(logging.WARNING):
        stores[0].try_lock("stage", "other").close()
        threads = [threading.Thread(target=want, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(had) == 1
    (said,) = caplog.messages
    assert "ignores conditional writes" in said and "results stay right" in said
    time.sleep(QUICK.lapse)
    assert not had[0].lost
    assert stores[0].try_lock("stage", "key") is None
    had[0].close()
    lock = bucket_place.open("a fifth").try_lock("stage", "key")
    assert lock is not None
    _written(server, "another")
    time.sleep(3 * QUICK.renew)
    assert "another run has taken it" in lock.lost
    lock.close()


def test_a_server_that_knows_no_conditions_and_says_so_is_taken_for_one_that_ignores_them(
    bucket_place: Place, server: StandIn
) -> None:
    server.conditional = None
    lock = bucket_place.open().try_lock("stage", "key")
    assert lock is not None
    lock.close()
