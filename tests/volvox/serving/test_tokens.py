"""A server's own tokens."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from volvox.errors import InvalidInput, NotFound
from volvox.serving import tokens
from volvox.serving.token_commands import tokens as command


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "there" / "tokens"


def test_a_token_is_told_once_and_only_its_hash_is_kept(path: Path) -> None:
    token = tokens.add(path, "alice")
    assert re.fullmatch(r"volvox_[A-Za-z0-9_-]{43}", token)
    assert path.read_text() == f"alice: sha256:{hashlib.sha256(token.encode()).hexdigest()}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert tokens.add(path, "bob") != token
    assert list(tokens.read(path)) == ["alice", "bob"]


def test_a_holder_is_found_by_the_token_alone(path: Path) -> None:
    alice, bob = tokens.add(path, "alice"), tokens.add(path, "bob")
    held = tokens.TokenFile(path)
    assert (held.holder(alice), held.holder(bob)) == ("alice", "bob")
    for wrong in ("", "alice", alice[:-1], alice + "x", alice.upper(), "\udcff", tokens.read(path)["alice"]):
        assert held.holder(wrong) is None


def test_a_change_counts_while_the_server_runs(path: Path) -> None:
    alice = tokens.add(path, "alice")
    held = tokens.TokenFile(path)
    bob = tokens.add(path, "bob")
    held._looked -= 2
    assert held.holder(bob) == "bob"
    tokens.remove(path, "alice")
    held._looked -= 2
    assert held.holder(alice) is None
    assert held.holder(bob) == "bob"


@pytest.mark.parametrize("harm", ["chmod", "remove", "damage"])
def test_a_file_that_cannot_be_trusted_any_more_accepts_nobody(path: Path, harm: str, caplog) -> None:
    token = tokens.add(path, "alice")
    held = tokens.TokenFile(path)
    if harm == "chmod":
        path.chmod(0o640)
    elif harm == "remove":
        path.unlink()
    else:
        path.write_text("alice\n")
    held._looked -= 2
    assert held.holder(token) is None
    assert "no token is accepted any more" in caplog.text


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("", 0o640, "others may read"),
        ("", 0o604, "chmod 600"),
        ("alice: sha256:abc\n", 0o600, "line 1 .* is not"),
        (f"# one\n\na: sha256:{'0' * 64}\na: sha256:{'1' * 64}\n", 0o600, "line 4 .* names a token again"),
        (f"a: md5:{'0' * 64}\n", 0o600, "line 1"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, content: str, mode: int, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(InvalidInput, match=message):
        tokens.TokenFile(path)


def test_a_missing_file_says_what_makes_one(path: Path) -> None:
    with pytest.raises(InvalidInput, match="volvox tokens add"):
        tokens.TokenFile(path)
    with pytest.raises(NotFound, match="there are: none"):
        tokens.remove(path, "alice")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "a\nb", "x" * 101])
def test_a_name_that_would_break_the_file_is_refused(path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="cannot name a token"):
        tokens.add(path, name)


def test_a_name_has_one_token(path: Path) -> None:
    tokens.add(path, "alice")
    with pytest.raises(InvalidInput, match="tokens remove alice"):
        tokens.add(path, "alice")


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InvalidInput, match="cannot be kept"):
        tokens.add(tmp_path / "tokens", "alice")


def test_the_command_makes_lists_and_removes(home) -> None:
    run = CliRunner().invoke
    assert run(command, ["list"]).output == ""
    made = run(command, ["add", "alice"])
    assert tokens.TokenFile(home.root / "tokens").holder(made.stdout.strip()) == "alice"
    assert run(command, ["list"]).output == "alice\n"
    assert run(command, ["remove", "alice"]).exit_code == 0
    assert run(command, ["list"]).output == ""
