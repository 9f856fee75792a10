from __future__ import annotations

import stat
import threading
from pathlib import Path

from volvox.identity import this_process
from volvox.settings import Home
from volvox.stack import state
from volvox.stack.state import State


def test_a_pid_that_belongs_to_another_process_now_is_not_ours() -> None:
    pid, started = this_process()
    assert State("x", pid, started).alive
    assert not State("x", pid, started - 1).alive


def test_a_record_that_is_not_legible_counts_as_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    state.write(home, State("x", 1, 2.0, port=3, url="http://127.0.0.1:3"))
    assert state.read(home, "x") == State("x", 1, 2.0, port=3, url="http://127.0.0.1:3")
    (home.stack / "x.json").write_text('{"name": "x"')
    assert state.read(home, "x") is None
    state.forget(home, "x")
    state.forget(home, "x")


def test_the_token_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    tokens: list[str] = []
    threads = [threading.Thread(target=lambda: tokens.append(state.token(home))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 1
    assert len(tokens[0]) >= 32
    assert stat.S_IMODE((home.stack / "token").stat().st_mode) == 0o600
    assert [path.name for path in home.stack.iterdir()] == ["token"]


def test_ports_are_remembered_side_by_side(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert state.last_ports(home) == {}
    state.remember_port(home, "a", 1)
    state.remember_port(home, "b", 2)
    assert state.last_ports(home) == {"a": 1, "b": 2}
