"""Versions take over from each other, and survive the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time

import httpx
import pytest

from tests.volvox.serving.running_server import RunningServer, digest, gone


def test_a_new_version_takes_over_and_the_old_one_leaves_nothing(server: RunningServer) -> None:
    assert server.deploy("1").status_code == 201
    old = server.ask().json()["predictions"]
    assert server.deploy("2").status_code == 201
    assert server.ask().json()["predictions"]["version"] == "2"
    assert gone(old["pid"])
    end = time.monotonic() + 5
    while server.versions() != [digest("tiny", "2")]:
        assert time.monotonic() < end, server.versions()
        time.sleep(0.02)


def test_no_request_fails_while_versions_take_over(server: RunningServer) -> None:
    server.deploy("0")
    stop, failures, versions = threading.Event(), [], set()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while not stop.is_set():
                files = {"image": ("a.png", b"1" * 100_000, "image/png")}
                answer = client.post("/v2/models/tiny/predict/", files=files)
                if answer.status_code != 200:
                    failures.append(answer.text)
                else:
                    versions.add(answer.json()["predictions"]["version"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 30
    while "0" not in versions:
        assert time.monotonic() < end, failures
        time.sleep(0.02)
    for version in ("1", "2", "3"):
        assert server.deploy(version).status_code == 201
    time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {"0", "3"} <= versions


def test_a_request_that_came_in_is_answered_by_the_version_it_came_to(server: RunningServer) -> None:
    server.deploy("1")
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(server.ask(mode="sleep")))
    asking.start()
    time.sleep(0.5)
    assert server.deploy("2").status_code == 201
    assert server.ask().json()["predictions"]["version"] == "2"
    assert answers == []
    asking.join()
    assert answers[0].json()["predictions"]["version"] == "1"


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"probability": "1.5"}, "probability 1.5 is not between 0 and 1"),
        ({"probability": "nan"}, "not JSON"),
        ({"probability": "-0.1"}, "probability -0.1 is not between 0 and 1"),
        ({"refuse_to_warm": ""}, "RuntimeError: these weights cannot be read"),
    ],
)
def test_a_version_that_does_not_prove_itself_changes_nothing(
    server: RunningServer, weights: dict, reason: str
) -> None:
    server.deploy("1")
    children = server.children()
    answer = server.deploy("2", **weights)
    assert answer.status_code == 422
    assert reason in answer.json()["error"]
    assert server.ask().json()["predictions"]["version"] == "1"
    assert server.versions() == [digest("tiny", "1")]
    assert server.uploads() == []
    assert server.children() == children


def test_a_module_that_cannot_be_imported_is_refused_with_its_trace(server: RunningServer) -> None:
    answer = server.deploy("1", name="broken", module="tiny-broken")
    assert answer.status_code == 422
    assert "a_library_that_nobody_has" in answer.json()["error"]
    assert "Traceback" in answer.json()["trace"]
    assert server.versions("broken") == []
    assert server.admin.get("/admin/models").json() == {"models": []}


def test_the_same_version_is_not_deployed_twice(server: RunningServer) -> None:
    assert server.deploy("1").json()["changed"] is True
    pid = server.ask().json()["predictions"]["pid"]
    again = server.deploy("1")
    assert (again.status_code, again.json()["changed"]) == (200, False)
    assert server.ask().json()["predictions"]["pid"] == pid


def test_what_is_removed_is_gone_for_good(server: RunningServer) -> None:
    server.deploy("1")
    pid = server.ask().json()["predictions"]["pid"]
    assert server.admin.delete("/admin/models/tiny").json() == {"changed": True}
    assert server.ask().status_code == 404
    assert gone(pid)
    assert server.admin.delete("/admin/models/tiny").status_code == 404
    server.end()
    server.start()
    assert server.until_ready()["models"] == []


def test_a_killed_server_serves_the_same_again_and_leaves_no_worker(server: RunningServer) -> None:
    server.deploy("1")
    server.deploy("1", name="other")
    workers = server.children()
    assert len(workers) == 2
    (server.home / "serving" / ".uploads" / "half-an-upload").write_bytes(b"1")
    (server.home / "serving" / "tiny" / ("0" * 64)).mkdir()
    server.end(signal.SIGKILL)
    assert all(map(gone, workers))
    server.start()
    assert server.until_ready()["models"] == ["other", "tiny"]
    assert server.ask().json()["predictions"]["version"] == "1"
    assert server.uploads() == []
    assert server.versions() == [digest("tiny", "1")]


def test_a_version_is_served_again_when_the_places_it_came_from_are_gone(server: RunningServer) -> None:
    server.deploy("1")
    server.end()
    (server.folder / "weights").rename(server.folder / "elsewhere")
    server.image.unlink()
    server.start()
    server.until_ready()
    assert server.ask().json()["predictions"]["version"] == "1"


def test_a_server_whose_model_cannot_start_runs_and_says_so(server: RunningServer) -> None:
    server.deploy("1")
    server.deploy("1", name="other")
    server.end()
    (server.home / "serving" / "other" / digest("other", "1") / "weights" / "refuse-to-warm").touch()
    server.start()
    told = server.until_ready()
    assert told["models"] == ["tiny"]
    assert "these weights cannot be read" in told["failed"]["other"]
    assert server.ask().status_code == 200
    refused = server.ask("other")
    assert refused.status_code == 503
    assert "these weights cannot be read" in refused.text
    assert "these weights cannot be read" in server.client.get("/models/other/").text


def test_a_version_that_cannot_start_may_be_deployed_again(server: RunningServer) -> None:
    server.deploy("1")
    server.end()
    broken = server.home / "serving" / "tiny" / digest("tiny", "1") / "weights" / "refuse-to-warm"
    broken.touch()
    server.start()
    assert "tiny" in server.until_ready()["failed"]
    assert server.deploy("1").json()["changed"] is True
    assert server.ask().json()["predictions"]["version"] == "1"


def test_a_memory_that_cannot_be_read_is_kept_aside_and_told(server: RunningServer) -> None:
    server.deploy("1")
    server.end()
    memory = server.home / "serving" / "services.json"
    memory.write_text(memory.read_text()[:-20])
    server.start()
    told = server.until_ready()
    assert "services.json cannot be read" in told["trouble"]
    assert memory.with_suffix(".unreadable").is_file()
    assert server.versions() == [digest("tiny", "1")]
    assert server.deploy("2").status_code == 201
    assert [told["version"] for told in json.loads(memory.read_text())] == ["2"]


def test_a_server_that_is_told_to_end_answers_what_came_in_and_leaves_no_worker(server: RunningServer) -> None:
    server.deploy("1")
    workers = server.children()
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(server.ask(mode="sleep")))
    asking.start()
    time.sleep(0.5)
    assert server.end() == 0
    asking.join()
    assert answers[0].status_code == 200
    assert all(map(gone, workers))


def test_two_servers_do_not_share_a_home(server: RunningServer, capfd: pytest.CaptureFixture[str]) -> None:
    from volvox.serving.__main__ import main

    assert main(["--home", str(server.home), "--port", "0"]) == 4
    assert "another server already serves" in capfd.readouterr().err


def test_a_stopped_worker_does_not_keep_the_server_from_ending(server: RunningServer) -> None:
    server.deploy("1")
    (worker,) = server.children()
    os.kill(worker, signal.SIGSTOP)
    assert server.end() == 0
    assert gone(worker)


def test_a_disk_that_is_full_refuses_a_version_and_keeps_the_one_before(small_disk, tmp_path) -> None:
    server = RunningServer(tmp_path)
    shutil.rmtree(server.home / "serving", ignore_errors=True)
    (server.home / "serving").symlink_to(small_disk)
    server.start()
    try:
        server.deploy("1")
        answer = server.deploy("2", filler="1" * (5 << 20))
        assert answer.status_code == 507
        assert "No space left" in answer.json()["error"]
        assert server.ask().json()["predictions"]["version"] == "1"
        assert server.versions() == [digest("tiny", "1")]
    finally:
        server.end()


@pytest.mark.parametrize("name", ["uploads", "lock", "services"])
def test_no_model_s_name_collides_with_the_server_s_own_files(server: RunningServer, name: str) -> None:
    assert server.deploy("1", name=name).status_code == 201
    server.end()
    server.start()
    assert server.until_ready()["models"] == [name]


def test_the_name_of_the_memory_is_refused(server: RunningServer) -> None:
    assert server.deploy("1", name="services.json").status_code == 422
