"""Bringing an object into the cache."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from volvox import progress
from volvox.cancelling import Cancelled
from volvox.data import download as module
from volvox.data.download import download
from volvox.data.http import WebObject
from volvox.errors import InvalidInput, Unavailable, VolvoxError

DATA = os.urandom(3_000_000)
SUM = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def remote(web, monkeypatch) -> WebObject:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.001)
    web.files["/a.zip"] = DATA
    return WebObject(f"{web.address}/a.zip")


def left(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def test_what_is_fetched_lies_under_its_sum_and_is_not_asked_for_again(web, remote, tmp_path) -> None:
    path = download(remote, tmp_path, threading.Event(), SUM)
    assert (path.name, path.read_bytes()) == (SUM, DATA)
    asked = len(web.asked)
    assert download(remote, tmp_path, threading.Event(), SUM) == path
    assert len(web.asked) == asked


def test_without_a_sum_the_etag_says_whether_it_is_the_same(web, remote, tmp_path) -> None:
    path = download(remote, tmp_path, threading.Event())
    assert download(remote, tmp_path, threading.Event()) == path
    assert len(web.asked) == 3  # its head, it, and its head again
    web.files["/a.zip"] = b"other"
    assert download(remote, tmp_path, threading.Event()).read_bytes() == b"other"


def test_without_sum_and_etag_it_is_fetched_each_time_and_lies_under_its_own_sum(web, remote, tmp_path) -> None:
    web.etags = False
    assert download(remote, tmp_path, threading.Event()).name == SUM
    web.files["/a.zip"] = DATA[::-1]
    assert download(remote, tmp_path, threading.Event()).read_bytes() == DATA[::-1]


def test_a_wrong_sum_is_refused_and_nothing_is_left(remote, tmp_path) -> None:
    with pytest.raises(InvalidInput, match=f"has the sha256 {SUM}, not 0000"):
        download(remote, tmp_path, threading.Event(), "0" * 64)
    assert not left(tmp_path)


@pytest.mark.parametrize("etags", [True, False])
def test_a_broken_connection_is_taken_up_again(web, remote, tmp_path, etags) -> None:
    web.etags = etags
    web.break_after = [len(DATA), 1_000_000, 1_500_000]
    assert download(remote, tmp_path, threading.Event(), SUM).read_bytes() == DATA
    ranges = [asked for _, asked in web.asked if asked]
    assert bool(ranges) == etags
    assert left(tmp_path) == [SUM]


def test_a_server_that_breaks_off_again_and_again_is_unavailable_and_a_later_call_goes_on(
    web, remote, tmp_path
) -> None:
    web.break_after = [len(DATA), 1_000_000, *[0] * 20]
    with pytest.raises(Unavailable, match="broke off"):
        download(remote, tmp_path, threading.Event(), SUM)
    web.break_after, web.asked = [], []
    assert download(remote, tmp_path, threading.Event(), SUM).read_bytes() == DATA
    start = int(web.asked[-1][1].removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 1_000_000


def test_an_object_that_changes_between_two_calls_is_fetched_anew(web, remote, tmp_path) -> None:
    web.break_after = [len(DATA), 1_000_000, *[0] * 20]
    with pytest.raises(Unavailable):
        download(remote, tmp_path, threading.Event())
    web.break_after, web.files["/a.zip"] = [], DATA[::-1]
    assert download(remote, tmp_path, threading.Event()).read_bytes() == DATA[::-1]


def test_a_cancel_ends_it_and_keeps_what_came(web, remote, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_TELL_SECONDS", 0)
    cancelled = threading.Event()
    with progress.listening(lambda event: cancelled.set()), pytest.raises(Cancelled):
        download(remote, tmp_path, cancelled, SUM)
    assert len(left(tmp_path)) == 1
    assert left(tmp_path)[0].endswith(".part")


def test_several_that_want_the_same_fetch_it_once(web, remote, tmp_path) -> None:
    with ThreadPoolExecutor(4) as workers:
        paths = list(workers.map(lambda _: download(remote, tmp_path, threading.Event(), SUM), range(4)))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == DATA
    assert len(web.asked) <= 5  # four heads of answers, one whole


def test_what_is_too_large_or_does_not_fit_is_refused_before_it_is_fetched(remote, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(InvalidInput, match=r"has 3,000,000 bytes; at most 1,000 are fetched"):
        download(remote, tmp_path, threading.Event())
    monkeypatch.undo()


def test_a_full_disk_is_a_sentence(remote, small_disk) -> None:
    (small_disk / "ballast").write_bytes(bytes(2_000_000))
    with pytest.raises(VolvoxError, match="bytes, but the disk of"):
        download(remote, small_disk, threading.Event(), SUM)
