from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.volvox.stack.conftest import BROKEN, FILES, TINY, WORKER, use
from volvox.errors import InvalidInput, NotFound, Unavailable
from volvox.settings import Home
from volvox.stack import health, processes, services, stack, state


def test_what_is_missing_is_started_and_what_runs_is_left_alone(home: Home) -> None:
    first = stack.ensure(home, ["tiny"])
    assert stack.wait_ready(home, "tiny").pid == first["tiny"].pid
    both = stack.ensure(home, ["tiny", "files"])
    assert both["tiny"] == first["tiny"]
    assert asyncio.run(stack.wait_ready_async(home, "files")).url == state.addresses(home)["files"]
    assert {one.name: one.state for one in stack.status(home)} == {
        "tiny": "ready", "files": "ready", "worker": "stopped"
    }  # fmt: skip
    assert next(one for one in stack.status(home) if one.name == "tiny").memory_bytes > 1_000_000


def test_ensure_does_not_wait_until_a_service_is_ready(home: Home) -> None:
    began = time.monotonic()
    stack.ensure(home, ["tiny"])
    assert time.monotonic() - began < 8
    # The socket is there already: a caller queues until the service answers and is never refused.
    assert health.answers(state.addresses(home)["tiny"], timeout_seconds=30)


def test_stop_ends_children_in_their_own_session_that_ignore_sigterm(home: Home) -> None:
    stack.ensure(home)
    for name in ("tiny", "files", "worker"):
        stack.wait_ready(home, name)
    pids = {pid for members in processes.marked(home).values() for pid in members}
    assert len(pids) == 4, "tiny, files, worker and the worker's child"
    began = time.monotonic()
    assert set(stack.stop(home)) == {"tiny", "files", "worker"}
    assert time.monotonic() - began < 25
    assert processes.marked(home) == {}
    assert not list(home.stack.glob("*.json")) or [path.name for path in home.stack.glob("*.json")] == ["ports.json"]
    assert stack.stop(home) == []


def test_stop_leaves_another_homes_stack_alone(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "home-2")
    stack.ensure(home, ["tiny"])
    stack.ensure(other, ["tiny"])
    try:
        assert stack.stop(home) == ["tiny"]
        assert stack.wait_ready(other, "tiny").alive
    finally:
        stack.stop(other)


def test_a_service_whose_starter_was_killed_before_it_wrote_that_down_is_found(home: Home) -> None:
    lost = stack.ensure(home, ["tiny"])["tiny"]
    state.forget(home, "tiny")
    again = stack.ensure(home, ["tiny"])["tiny"]
    assert again.pid != lost.pid
    assert not lost.alive, "the lost one was ended, so there are not two"
    state.forget(home, "tiny")
    assert stack.stop(home) == ["tiny"]
    assert not again.alive


def test_a_starter_killed_at_any_moment_leaves_nothing_that_down_does_not_end(home: Home, tmp_path: Path) -> None:
    script = tmp_path / "starter.py"
    script.write_text(
        "import sys; from pathlib import Path; from volvox.settings import Home\n"
        "from volvox.stack import services, stack\n"
        "from tests.volvox.stack import conftest as c\n"
        "services.discover = stack.discover = lambda: (c.TINY, c.FILES, c.WORKER)\n"
        "print('go', flush=True)\n"
        "stack.ensure(Home(Path(sys.argv[1])))\n"
    )
    root = Path(__file__).parents[3]
    paths = os.pathsep.join([str(root), os.environ["PYTHONPATH"]])
    for pause in (0.0, 0.005, 0.02, 0.05):
        starter = subprocess.Popen(
            [sys.executable, str(script), str(home.root)], env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"go\n"
        time.sleep(pause)
        starter.kill()
        starter.communicate()
        stack.stop(home)
        assert processes.marked(home) == {}
    stack.ensure(home, ["tiny"])
    assert stack.wait_ready(home, "tiny").alive


def test_two_starters_at_once_start_one_stack(home: Home) -> None:
    async def both() -> list[dict[str, state.State]]:
        return await asyncio.gather(*(asyncio.to_thread(stack.ensure, home, ["tiny"]) for _ in range(4)))

    assert len({one["tiny"].pid for one in asyncio.run(both())}) == 1
    assert len(processes.marked(home)["tiny"]) == 1


def test_a_taken_port_is_worked_around_and_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("VOLVOX_TINY_PORT", str(port))
        told: list[str] = []
        started = stack.ensure(home, ["tiny"], told.append)["tiny"]
        assert started.port != port
        assert told == [f"port {port} is taken by another program; Tiny uses {started.port}"]
        assert stack.wait_ready(home, "tiny").url == f"http://127.0.0.1:{started.port}"


def test_a_service_gets_its_last_port_again_so_that_links_keep_working(home: Home) -> None:
    before = stack.ensure(home, ["tiny"])["tiny"].port
    stack.wait_ready(home, "tiny")
    stack.stop(home)
    assert stack.ensure(home, ["tiny"])["tiny"].port == before


def test_a_port_that_is_none_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLVOX_TINY_PORT", "eighty")
    with pytest.raises(InvalidInput, match=r"VOLVOX_TINY_PORT is 'eighty'; give a port number"):
        stack.ensure(home, ["tiny"])
    assert processes.marked(home) == {}


def test_nothing_listens_beyond_this_machine(home: Home) -> None:
    port = stack.ensure(home, ["tiny"])["tiny"].port
    stack.wait_ready(home, "tiny")
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    hosts = {line[1].split(":")[0] for line in listening if line[1].endswith(f":{port:04X}") and line[3] == "0A"}
    assert hosts == {"0100007F"}


def test_a_service_that_dies_is_told_with_the_end_of_its_log(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, BROKEN)
    stack.ensure(home)
    with pytest.raises(Unavailable, match=r"(?s)Broken ended while it started.*the disk is on fire"):
        stack.wait_ready(home, "broken", 10)
    assert stack.status(home)[0].state == "died"
    first = state.read(home, "broken")
    assert stack.ensure(home)["broken"].pid != getattr(first, "pid", None), "a dead one is started again"


def test_a_service_that_was_never_started_is_not_waited_for(home: Home) -> None:
    with pytest.raises(Unavailable, match="Tiny is not running; start it with `volvox up`"):
        stack.wait_ready(home, "tiny", 5)
    with pytest.raises(NotFound, match="no service 'huge'; there are files, tiny, worker"):
        stack.ensure(home, ["huge"])


def test_an_address_in_the_environment_replaces_the_service(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_URL", "https://tiny.example/api")
    assert stack.ensure(home, ["tiny"])["tiny"] == state.State("tiny", 0, 0.0, url="https://tiny.example")
    assert processes.marked(home) == {}
    assert state.addresses(home) == {"tiny": "https://tiny.example"}
    assert stack.environment(home)["TINY_URL"] == "https://tiny.example/api"
    assert stack.environment(home)[services.LOCAL] == ""


def test_a_process_that_was_told_our_addresses_does_not_take_them_for_an_operators(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = stack.ensure(home, ["tiny"])["tiny"]
    for name, value in stack.environment(home).items():
        monkeypatch.setenv(name, value)
    assert os.environ["TINY_URL"] == running.url + "/api"
    assert stack.ensure(home, ["tiny"])["tiny"] == running
    os.kill(running.pid, signal.SIGKILL)
    processes.end({running.pid: running.started})
    assert stack.ensure(home, ["tiny"])["tiny"].pid not in (0, running.pid)


def test_the_environment_phones_nobody_and_asks_no_proxy_for_this_machine(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "1")
    told = stack.environment(home)
    assert told["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert told["DO_NOT_TRACK"] == "1"
    assert told["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert told["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert told["PREFECT_CLIENT_MAX_RETRIES"] == "1", "what an operator chose stays"


def test_a_log_is_kept_once_when_a_service_starts_again(home: Home) -> None:
    stack.ensure(home, ["files"])
    url = stack.wait_ready(home, "files").url
    assert health.answers(url + "/")
    stack.stop(home)
    stack.ensure(home, ["files"])
    assert "GET / HTTP" in (home.stack / "files.log.1").read_text()


def test_services_are_ordered_so_that_each_comes_after_what_it_needs() -> None:
    services.discover.cache_clear()
    order = [spec.name for spec in services.discover()]
    assert set(order) == {"prefect", "mlflow", "web", "worker", "functions"}
    assert order.index("prefect") < order.index("mlflow") < order.index("worker")
    assert {spec.name for spec in (TINY, FILES, WORKER)} == {"tiny", "files", "worker"}
