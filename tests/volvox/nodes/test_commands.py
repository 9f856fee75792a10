"""`volvox nodes` as it is typed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from tests.volvox.nodes.conftest import Time
from tests.volvox.nodes.made_up import MadeUp
from volvox.errors import InvalidInput
from volvox.nodes import telling
from volvox.nodes.commands import nodes
from volvox.nodes.ledger import Ledger, Node, keep
from volvox.settings import Home


@pytest.fixture
def group(home: Home, cloud: MadeUp, clock: Time, monkeypatch: pytest.MonkeyPatch) -> Home:
    text = cloud.file(most=4, slots=2, idle_seconds=300, boot_seconds=60, cost_per_hour=0.36)
    home.folder("nodes").joinpath("a.yaml").write_text(text)
    monkeypatch.setattr(telling.time, "time", clock)
    return home


def run(*words: str) -> Result:
    return CliRunner().invoke(nodes, words)


def test_without_a_group_it_says_where_to_read(home: Home) -> None:
    assert "there is no node group" in run().output
    assert json.loads(run("--json").output) == []


def test_a_group_without_nodes(group: Home) -> None:
    told = run().output
    assert "a: all functions of local; 0 wanted of 0 to 4, 2 instances on one; a boot takes 60 s (as its file" in told
    assert "no node is on" in told


def test_nodes_with_what_is_at_work_and_why(group: Home, clock: Time) -> None:
    now = clock.now
    told = [
        Node("a-1", "a-1", "on", now - 900, now - 1000, now - 900, 0.0, 2),
        Node("a-2", "a-2", "on", now - 500, now - 600, now - 500, now - 120, 0),
        Node("a-3", "a-3", "booting", now - 40, now - 40, why="4 wait, and there is no node"),
        Node("a-4", "a-4", "failed", now - 10, now - 910, why="it was asked for 900 s ago and is not on"),
        Node("a-5", "a-5", "on", now - 9, now - 9, now - 9, 0.0, None),
    ]
    keep(group, Ledger("a", told, 95.0, wanted=3, trouble="the last node never came; the next one follows"))
    lines = run().output.splitlines()
    assert lines[0] == "a: all functions of local; 3 wanted of 0 to 4, 2 instances on one; a boot takes 95 s"
    assert lines[1] == "  the last node never came; the next one follows"
    rows = [line.rstrip().split(maxsplit=6) for line in lines[3:]]
    assert rows[0] == ["a-1", "on", "900", "s", "2", "0.1000"]
    assert rows[1][4:] == ["0", "0.0600", "nothing is on it since 120 s; it is stopped after 300 s"]
    assert rows[2] == ["a-3", "booting", "40", "s", "0", "0.0040", "4 wait, and there is no node"]
    assert rows[3][5:] == ["0.0900", "it was asked for 900 s ago and is not on"]
    assert rows[4][4:] == ["?", "0.0009", "nobody tells what is at work on it, so it is never stopped"]
    (json_group,) = json.loads(run("--json").output)
    assert json_group["nodes"][1]["idle_seconds"] == 120
    assert json_group["nodes"][2]["since"].endswith("+00:00")


def test_a_wrong_file_is_told(group: Home) -> None:
    (group.root / "nodes" / "b.yaml").write_text("runtime: local\n")
    assert isinstance(run().exception, InvalidInput)
