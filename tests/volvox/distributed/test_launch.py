"""The launcher with processes that do nothing but fail in every way; no torch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volvox.distributed.launch import TOKEN, main
from volvox.identity import process_started

RANK = """
import json, os, signal, subprocess, sys, time
from pathlib import Path
rank, how, folder = int(os.environ["RANK"]), sys.argv[1], Path(sys.argv[2])
names = "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE NODE_RANK GROUP_RANK MASTER_ADDR MASTER_PORT"
told = {name: os.environ[name] for name in names.split()}
child = subprocess.Popen(["sleep", "60"]) if how != "well" else None
signal.signal(signal.SIGUSR1, lambda *_: (folder / f"usr1-{rank}").touch())
if how == "deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN)
aside = folder / f"part-{rank}"
aside.write_text(json.dumps({**told, "pids": [os.getpid(), *([child.pid] if child else [])],
                             "token": "VOLVOX_RENDEZVOUS_TOKEN" in os.environ}))
aside.rename(folder / f"rank-{rank}")
print("hello from", rank)
if how == "well": sys.exit()
def wait(name):
    while not (folder / name).exists(): time.sleep(0.01)
last = int(os.environ["WORLD_SIZE"]) - 1
for other in range(last + 1): wait(f"rank-{other}")
if how in ("raise", "slow", "kill", "exit") and rank == last:
    if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit": os._exit(7)
    try:
        raise RuntimeError("the fuse blew")
    except RuntimeError:
        import traceback
        traceback.print_exc()
    (folder / "raised").touch()
    if how == "slow": time.sleep(0.4)  # the others, who hear of it, are gone before
    sys.exit(1)
if how == "slow":
    wait("raised")
    raise RuntimeError("Connection closed by peer")
time.sleep(60)
"""


class Node:
    """A launcher that runs, and what becomes of it."""

    def __init__(self, folder: Path, how: str, *options: str, token: str = "secret", **variables: str) -> None:
        script = folder / "rank.py"
        script.write_text(RANK)
        command = [sys.executable, "-m", "volvox.distributed.launch", *options, "--", sys.executable, str(script)]
        environment = {key: value for key, value in os.environ.items() if key not in ("NODE_RANK", TOKEN)}
        self.process = subprocess.Popen(
            [*command, how, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**environment, **({TOKEN: token} if token else {}), **variables}, start_new_session=True,
        )  # fmt: skip

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def pids(folder: Path) -> list[int]:
    return [pid for path in folder.glob("rank-*") for pid in json.loads(path.read_text())["pids"]]


def await_ranks(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(list(folder.glob("rank-*"))) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(folder.glob("rank-*"))) == count


def gone(folder: Path, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while any(process_started(pid) for pid in pids(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(process_started(pid) for pid in pids(folder))


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_each_process_is_told_its_place(tmp_path) -> None:
    code, out, _ = Node(tmp_path, "well", "--processes", "2").ended()
    told = [json.loads((tmp_path / f"rank-{rank}").read_text()) for rank in (0, 1)]
    assert code == 0
    assert sorted(out.splitlines()) == ["[rank 0] hello from 0", "[rank 1] hello from 1"]
    for rank in (0, 1):
        said = told[rank]
        assert (said["RANK"], said["LOCAL_RANK"], said["WORLD_SIZE"], said["LOCAL_WORLD_SIZE"]) == (
            str(rank),
            str(rank),
            "2",
            "2",
        )
        assert (said["NODE_RANK"], said["GROUP_RANK"], said["MASTER_ADDR"]) == ("0", "0", "127.0.0.1")
        assert not said["token"]
    assert told[0]["MASTER_PORT"] == told[1]["MASTER_PORT"]


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("raise", 1, "rank 1 on node 0 ended with exit code 1: RuntimeError: the fuse blew; all others were ended"),
        ("slow", 1, "rank 1 on node 0 ended with exit code 1: RuntimeError: the fuse blew; all others were ended"),
        ("exit", 7, "rank 1 on node 0 ended with exit code 7"),
        ("kill", 137, "rank 1 on node 0 was ended by SIGKILL, most likely for lack of memory"),
    ],
)
def test_one_that_fails_ends_all_and_is_the_one_that_is_told(tmp_path, how, code, said) -> None:
    report, began = tmp_path / "report.json", time.monotonic()
    ended, _, err = Node(tmp_path, how, "--processes", "2", "--report", str(report)).ended()
    assert (ended, said in err) == (code, True), err
    assert json.loads(report.read_text())["rank"] == 1
    assert gone(tmp_path, 0)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("how", ["hang", "deaf"])
def test_a_signal_ends_all_processes_and_their_children(tmp_path, how) -> None:
    node = Node(tmp_path, how, "--processes", "2")
    await_ranks(tmp_path, 2)
    node.process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while len(list(tmp_path.glob("usr1-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list(tmp_path.glob("usr1-*"))) == 2
    node.process.send_signal(signal.SIGTERM)
    code, _, err = node.ended()
    assert code == 143
    assert "node 0 was stopped by SIGTERM" in err
    assert gone(tmp_path, 0)


def test_processes_do_not_outlive_a_launcher_that_was_killed(tmp_path) -> None:
    node = Node(tmp_path, "hang", "--processes", "2")
    await_ranks(tmp_path, 2)
    node.process.kill()
    node.process.communicate(timeout=10)
    ranks = [json.loads(path.read_text())["pids"] for path in tmp_path.glob("rank-*")]
    deadline = time.monotonic() + 5
    while any(process_started(rank) for rank, _ in ranks) and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        assert not any(process_started(rank) for rank, _ in ranks)
    finally:
        for _, child in ranks:
            os.kill(child, signal.SIGKILL)


def two(folder: Path, how: str, port: int, *options: str) -> list[Node]:
    options = ("--nodes", "2", "--rendezvous", f"127.0.0.1:{port}", *options)
    return [
        Node(folder, how, *options, "--node-rank", "0"),
        Node(folder, how, *options, JOB_COMPLETION_INDEX="1"),
    ]


def test_two_nodes_meet_and_number_their_processes(tmp_path, port) -> None:
    nodes = two(tmp_path, "well", port, "--processes", "2")
    assert [node.ended()[0] for node in nodes] == [0, 0]
    told = [json.loads((tmp_path / f"rank-{rank}").read_text()) for rank in range(4)]
    assert [said["NODE_RANK"] for said in told] == ["0", "0", "1", "1"]
    assert [said["LOCAL_RANK"] for said in told] == ["0", "1", "0", "1"]
    assert {said["WORLD_SIZE"] for said in told} == {"4"}
    assert len({said["MASTER_PORT"] for said in told}) == 1


@pytest.mark.parametrize(("how", "code"), [("raise", 1), ("slow", 1), ("kill", 137)])
def test_a_failure_on_one_node_ends_both_which_tell_the_same(tmp_path, port, how, code) -> None:
    began = time.monotonic()
    ended = [node.ended() for node in two(tmp_path, how, port)]
    said = "was ended by SIGKILL" if how == "kill" else "ended with exit code 1: RuntimeError: the fuse blew"
    assert [(one[0], f"rank 1 on node 1 {said}" in one[2]) for one in ended] == [(code, True)] * 2, ended
    assert gone(tmp_path, 0)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("victim", [0, 1])
def test_a_node_that_is_killed_ends_the_other(tmp_path, port, victim) -> None:
    nodes = two(tmp_path, "hang", port)
    await_ranks(tmp_path, 2)
    killed = time.monotonic()
    os.killpg(nodes[victim].process.pid, signal.SIGKILL)
    code, _, err = nodes[1 - victim].ended()
    assert time.monotonic() - killed < 10
    assert code == 1
    assert f"node {victim} is gone" in err
    nodes[victim].process.communicate(timeout=10)
    child = json.loads((tmp_path / f"rank-{victim}").read_text())["pids"][1]
    os.kill(child, signal.SIGKILL)  # whom nobody was left to end
    assert gone(tmp_path)


def test_a_node_that_is_stopped_from_outside_ends_the_other(tmp_path, port) -> None:
    nodes = two(tmp_path, "hang", port)
    await_ranks(tmp_path, 2)
    nodes[1].process.send_signal(signal.SIGTERM)
    assert [(code, "node 1 was stopped by SIGTERM" in err) for code, _, err in (node.ended() for node in nodes)] == [
        (143, True)
    ] * 2
    assert gone(tmp_path, 0)


@pytest.mark.parametrize("node", [0, 1])
def test_who_is_waited_for_in_vain_is_named(tmp_path, port, node) -> None:
    rendezvous = ("--nodes", "2", "--rendezvous", f"127.0.0.1:{port}", "--wait-seconds", "0.5")
    code, _, err = Node(tmp_path, "well", *rendezvous, "--node-rank", str(node)).ended()
    assert code == 4
    said = ["waited 0.5 s for node 1 of 2, which did not come", "node 1 did not reach node 0 at 127.0.0.1"][node]
    assert said in err
    assert not list(tmp_path.glob("rank-*"))


@pytest.mark.parametrize(
    ("options", "token", "said"),
    [
        (("--processes", "1"), "another", "refuses node 1: the token"),
        (("--processes", "3"), "secret", "it was started for 2 nodes of 3 processes, node 0 for 2 of 1"),
    ],
)
def test_a_node_that_does_not_belong_is_refused_and_the_right_one_still_comes(
    tmp_path, port, options, token, said
) -> None:
    rendezvous = ("--nodes", "2", "--rendezvous", f"127.0.0.1:{port}")
    first = Node(tmp_path, "well", *rendezvous, "--node-rank", "0")
    wrong = Node(tmp_path, "well", *rendezvous, "--node-rank", "1", *options, token=token)
    code, _, err = wrong.ended()
    assert code
    assert said in err
    assert not list(tmp_path.glob("rank-*"))
    right = Node(tmp_path, "well", *rendezvous, "--node-rank", "1")
    assert [first.ended()[0], right.ended()[0]] == [0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--processes", "0", "--", "true"], "--processes is 0"),
        (["--nodes", "2", "--node-rank", "2", "--", "true"], "nodes count from 0 to 1"),
        (
            ["--nodes", "2", "--node-rank", "1", "--rendezvous", "here", "--", "true"],
            "the address and the port of node 0",
        ),
        (["--nodes", "2", "--node-rank", "1", "--rendezvous", "here:1", "--", "true"], f"{TOKEN} is not set"),
        (["--", "no-such-command"], "no command 'no-such-command'"),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_sentence(options, said, capsys, monkeypatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_without_a_command_the_usage_is_shown(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--processes", "2"])
    assert "after --" in capsys.readouterr().err
