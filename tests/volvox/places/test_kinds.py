"""What every kind of place does alike."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from tests.volvox.places.conftest import Kind
from tests.volvox.places.proxy import FAULTS, Fault
from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.places import Place, s3

NAMES = ["a b.png", "a+b", "a%2Fb", "ü/é ß.txt", "deep/er/x", "#?&=*[x]~'(1)", "100%", "日本/語", "a\\b", "-"]
LONG = "/".join(["x" * 204] * 5)  # 1,024 bytes
WRONG = ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/./b", "a\0b", "a\nb", "\ud800", LONG + "y"]


def _file(folder: Path, data: bytes, name: str = "source") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _read(place: Place, key: str, folder: Path, version: str = "") -> bytes:
    target = folder / "target"
    place.fetch(key, target, version)
    return target.read_bytes()


def test_what_is_put_under_any_name_is_found_listed_and_fetched(place: Place, tmp_path: Path) -> None:
    for number, key in enumerate([*NAMES, LONG]):
        data = b"%d" % number * number
        assert place.put(key, _file(tmp_path, data), content_type="text/plain")
        found = place.find(key)
        assert found is not None
        assert (found.key, found.size) == (key, len(data))
        assert abs(found.modified - time.time()) < 60
        assert place.fetch(key, tmp_path / "target") == found
        assert (tmp_path / "target").read_bytes() == data
    listed = list(place.list())
    assert [one.key for one in listed] == sorted([*NAMES, LONG])
    assert listed == [place.find(one.key) for one in listed], "told alike, so that one upload is one job"


def test_a_name_that_cannot_be_one_is_refused_with_a_sentence(place: Place, tmp_path: Path) -> None:
    source = _file(tmp_path, b"1")
    told = r"key .* (empty|begins|part|lead elsewhere|control|Unicode|at most)"
    for key in WRONG:
        for ask in (place.find, place.remove, lambda key: place.put(key, source), lambda key: place.fetch(key, source)):
            with pytest.raises(InvalidInput, match=told):
                ask(key)


def test_keys_come_in_their_order_from_where_one_was(kind: Kind, tmp_path: Path) -> None:
    place = kind.open()
    between = ["a/", "a/b/", "a/zzz", "b/in/", "0"]  # moto lists versions wrongly after what is no key
    keys = ["a-b", "a/b/c", "a/b-c", "a/x", "a0", "ab/c", "b/in/1", "b/in/2", "b/in0", "b/on", "ü", "zz/.incoming-1"]
    source = _file(tmp_path, b"1")
    for key in random.Random(1).sample(keys, len(keys)):
        if "incoming" not in key:
            place.put(key, source)
    expected = sorted(keys[:-1])
    assert [one.key for one in place.list()] == expected
    prefixes = ("", "a/b", "b/in/", "nothing/")
    afters = [*expected[::3], *([] if kind.name == "aws, with versions" else between)]
    if kind.proxy is None:
        prefixes, afters = (*prefixes, "a", "a/", "a/b/", "b/in", "b/in/2", "c"), [*expected, *between]
    for prefix in prefixes:
        wanted = [key for key in expected if key.startswith(prefix)]
        assert [one.key for one in place.list(prefix)] == wanted, prefix
        for after in afters:
            rest = [key for key in wanted if key > after]
            assert [one.key for one in place.list(prefix, after)] == rest, (prefix, after)


def test_what_is_being_written_is_not_listed(kind: Kind, tmp_path: Path) -> None:
    place = kind.open()
    place.put("in/.incoming-0123", _file(tmp_path, b"1"))
    place.put("in/a", _file(tmp_path, b"1"))
    assert [one.key for one in place.list("in/")] == ["in/a"]


def test_once_writes_only_where_nothing_is(place: Place, tmp_path: Path) -> None:
    assert place.put("in/a", _file(tmp_path, b"first"))
    before = place.find("in/a")
    assert place.put("in/a", _file(tmp_path, b"second")) is False
    assert place.find("in/a") == before
    assert _read(place, "in/a", tmp_path) == b"first"
    assert place.put("in/a", _file(tmp_path, b"third"), once=False)
    assert _read(place, "in/a", tmp_path) == b"third"
    assert [one.key for one in place.list()] == ["in/a"], "nothing half-written stays"


def test_an_overwrite_is_another_version(kind: Kind, tmp_path: Path) -> None:
    place = kind.open()
    place.put("in/a", _file(tmp_path, b"first"))
    first = place.find("in/a")
    assert first is not None
    assert place.find("in/a", first.version) == first
    assert _read(place, "in/a", tmp_path, first.version) == b"first"
    place.put("in/a", _file(tmp_path, b"other bytes"), once=False)
    second = place.find("in/a")
    assert second is not None
    assert second.version != first.version
    assert list(place.list()) == [second]
    if "versions" in kind.name:
        assert place.find("in/a", first.version) == first
        assert _read(place, "in/a", tmp_path, first.version) == b"first"
        first = type(first)("in/a", "no-such-version", 1, 1.0)
    assert place.find("in/a", first.version) is None
    with pytest.raises(NotFound, match=r"written anew|no such version"):
        place.fetch("in/a", tmp_path / "other", first.version)
    assert not (tmp_path / "other").exists()


def test_what_is_not_there_is_told(place: Place, tmp_path: Path) -> None:
    place.put("in/a/b", _file(tmp_path, b"1"))
    for key in ("nothing", "in/nothing", "in/a/b/c", "in/a"):
        assert place.find(key) is None, key
        assert place.remove(key) is False, key
        with pytest.raises(NotFound, match="there is no"):
            place.fetch(key, tmp_path / "target")
        assert not (tmp_path / "target").exists()
    assert list(place.list("nowhere/at/all/")) == []
    assert [one.key for one in place.list()] == ["in/a/b"]


def test_what_is_removed_is_gone(place: Place, tmp_path: Path) -> None:
    place.put("in/a b", _file(tmp_path, b"1"))
    assert place.remove("in/a b") is True
    assert place.find("in/a b") is None
    assert list(place.list()) == []
    assert place.put("in/a b", _file(tmp_path, b"2"))


def test_a_large_file_comes_back_whole(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_IN_ONE_REQUEST", 1 << 20)
    data = random.Random(0).randbytes(9_000_001)
    assert place.put("large", _file(tmp_path, data))
    assert place.put("large", _file(tmp_path, data[1:])) is False
    assert _read(place, "large", tmp_path) == data


def test_of_many_who_write_at_once_one_has_written(kind: Kind, tmp_path: Path) -> None:
    if kind.name in ("onedata", "ceph, with versions"):
        pytest.skip("this server has no step that looks and writes")
    places = [kind.open() for _ in range(6)]
    for key in ("a", "b/c"):
        written: list[bytes] = []
        barrier = threading.Barrier(len(places))

        def write(place: Place, data: bytes, key: str = key, written: list = written, barrier=barrier) -> None:
            source = _file(tmp_path, data, data.decode())
            barrier.wait()
            if place.put(key, source):
                written.append(data)

        threads = [
            threading.Thread(target=write, args=(place, b"writer %d" % number)) for number, place in enumerate(places)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(written) == 1, key
        assert _read(places[0], key, tmp_path) == written[0]


def test_a_place_that_is_gone_is_told(kind: Kind, tmp_path: Path) -> None:
    if kind.name == "webdav":
        pytest.skip("a server's root is always there")
    place = kind.gone()
    for ask in (
        lambda: place.find("a"),
        lambda: list(place.list()),
        lambda: place.put("a", _file(tmp_path, b"1")),
        lambda: place.fetch("a", tmp_path / "target"),
        lambda: place.remove("a"),
    ):
        with pytest.raises(NotFound, match=r"does not exist|there is no (folder|space)"):
            ask()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("once", [True, False], ids=["once", "over"])
def test_a_file_is_put_whatever_befalls_the_request(asked: Kind, tmp_path: Path, fault: Fault, once: bool) -> None:
    place, proxy = asked.open(), asked.proxy
    assert proxy
    assert place.put("in/first", _file(tmp_path, b"first"))  # so that all that is asked once is known
    proxy.methods = ("PUT", "MOVE") if asked.name != "webdav" else ("MOVE",)
    if asked.name == "onedata":
        proxy.methods = ("PUT",)
    proxy.faults[:] = [fault]
    assert place.put("in/a b", _file(tmp_path, b"data"), once=once) is True
    assert proxy.faults == []
    assert _read(place, "in/a b", tmp_path) == b"data"
    assert [one.key for one in place.list()] == ["in/a b", "in/first"]


@pytest.mark.aws
@pytest.mark.parametrize("fault", ["500", "done, then cut", "done, then silent"])
def test_nothing_is_doubled_when_an_answer_is_lost(with_versions: Kind, tmp_path: Path, fault: Fault) -> None:
    place, proxy = with_versions.open(), with_versions.proxy
    assert proxy
    assert place.put("in/first", _file(tmp_path, b"first"))
    proxy.faults[:], proxy.methods = [fault], ("PUT",)
    assert place.put("in/a b", _file(tmp_path, b"data")) is True
    assert _versions(with_versions, "in/a b") == 1


def _versions(kind: Kind, key: str) -> int:
    assert kind.proxy
    from tests.volvox.places.conftest import s3_client

    place = kind.open()
    assert isinstance(place, s3.S3Place)
    client = s3_client(f"http://{kind.proxy.upstream}", place.bucket.access.access_key_id, "testing-secret")
    told = client.list_object_versions(Bucket=place.bucket.name, Prefix=key)
    return len(told["Versions"])


@pytest.mark.parametrize(
    "fault",
    [*(one for one in FAULTS if "silent" not in one), pytest.param("done, then silent", marks=pytest.mark.soak)],
)
def test_a_file_is_found_listed_and_fetched_whatever_befalls_the_request(
    asked: Kind, tmp_path: Path, fault: Fault
) -> None:
    place, proxy = asked.open(), asked.proxy
    assert proxy
    data = random.Random(0).randbytes(100_000)
    assert place.put("in/a", _file(tmp_path, data))
    for ask in (
        lambda: place.find("in/a"),
        lambda: list(place.list()),
        lambda: _read(place, "in/a", tmp_path) == data,
    ):
        proxy.faults[:] = [fault]
        assert ask()
        assert proxy.faults == []


def test_a_server_that_never_answers_is_told_in_time(asked: Kind, tmp_path: Path) -> None:
    place, proxy = asked.open(), asked.proxy
    assert proxy
    proxy.faults[:] = ["503"] * 60
    for ask in (lambda: place.find("a"), lambda: place.put("a", _file(tmp_path, b"1"))):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer") as told:
            ask()
        assert time.monotonic() - began < 15
        assert asked.secret not in str(told.value)


def test_credentials_that_are_refused_are_told_and_not_shown(asked: Kind, tmp_path: Path) -> None:
    if asked.refused is None:
        pytest.skip("this server takes any credentials")
    place = asked.refused()
    for ask in (
        lambda: place.find("a"),
        lambda: list(place.list()),
        lambda: place.put("a", _file(tmp_path, b"1")),
        lambda: place.remove("a"),
    ):
        with pytest.raises(InvalidInput, match=r"refused|is not the access key's") as told:
            ask()
        error: BaseException | None = told.value
        while error is not None:
            assert "wrong-secret" not in str(error)
            error = error.__cause__
    assert "secret" not in repr(place)


def test_every_kind_is_a_place(place: Place) -> None:
    assert isinstance(place, Place)
    assert issubclass(Unavailable, VolvoxError)
