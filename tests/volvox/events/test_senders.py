from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from volvox.errors import InvalidInput, NotFound
from volvox.events import Sender, SenderFile, senders


def test_a_sender_is_kept_with_the_hash_of_its_token(tmp_path: Path) -> None:
    path = tmp_path / "events" / "senders.yaml"
    made = Sender("minio", "plants", ("s3://bucket/in",), trusted=True, topics=("arn:t",))
    token = senders.add(path, made)
    other = senders.add(path, Sender("ceph"))
    assert token.startswith("volvox_")
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    found = {one.name: one for one in senders.read(path)}
    assert (found["minio"].function, found["minio"].places) == ("plants", ("s3://bucket/in",))
    assert (found["minio"].trusted, found["minio"].topics) == (True, ("arn:t",))
    assert senders.holder(found.values(), token) == found["minio"]
    assert senders.holder(found.values(), other) == found["ceph"]
    assert senders.holder(found.values(), token, "ceph") is None
    assert senders.holder(found.values(), "volvox_wrong") is None
    with pytest.raises(InvalidInput, match="has a sender 'ceph'; remove it first"):
        senders.add(path, Sender("ceph"))
    senders.remove(path, "ceph")
    assert senders.holder(senders.read(path), other) is None
    with pytest.raises(NotFound, match="has no sender 'ceph'; there are: minio"):
        senders.remove(path, "ceph")


def test_a_changed_file_counts_and_a_broken_one_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "_LOOK_SECONDS", 0)
    path = tmp_path / "senders.yaml"
    senders.add(path, Sender("one"))
    told = SenderFile(path)
    assert [one.name for one in told()] == ["one"]
    senders.add(path, Sender("two"))
    assert [one.name for one in told()] == ["one", "two"]
    path.write_text("{")
    assert told() == ()


def test_a_signature_is_that_of_github_and_others() -> None:
    one = Sender("one", secret="key")
    signature = "sha256=" + hmac.new(b"key", b"body", hashlib.sha256).hexdigest()
    assert senders.signer([Sender("other", secret="other"), one], b"body", signature) == one
    for wrong in ("", "sha256=", "x", "sha256=ü", signature[:-1]):
        assert senders.signer([one, Sender("none", token="0" * 64)], b"body", wrong) is None
    assert senders.signer([one], b"other body", signature) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("one: {token: sha256:12}", "not `sha256:HEX`"),
        ("one: {}", "neither a token nor a secret"),
        ("one: 1", "says nothing"),
        ("one: {tokens: x}", "has 'tokens', which is not known; there may be: function, places"),
        ("one: {secret: x, places: [1]}", "no text"),
        ("one: {secret: x, places: 1}", "lists of texts"),
        ("one: {secret: x, places: ['ftp://x']}", "no address of a place"),
        ("one: {secret: x, trusted: maybe}", "true or false"),
        ("'a b': {secret: x}", "cannot be named so"),
        ("[1", "is no YAML"),
        ("- 1", "holds no senders"),
    ],
)
def test_a_file_that_says_something_wrong_is_refused_with_a_sentence(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "senders.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match="others may read"):
        senders.read(path)
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match=what):
        senders.read(path)


def test_nothing_that_is_shown_holds_a_secret() -> None:
    assert "abc" not in repr(Sender("one", secret="abc", token="abc"))
