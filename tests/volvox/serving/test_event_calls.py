"""A model that answers events: `volvox serve` is started as Lambda starts it, and asked."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.volvox.runner.runtime_api import RuntimeApi
from tests.volvox.runtimes.tiny import write_tiny


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("site"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "version").write_text("1")
    return folder


@pytest.fixture
def api(site: Path, weights: Path, tmp_path: Path) -> Iterator[RuntimeApi]:
    with served(site, weights, tmp_path) as made:
        yield made


def served(site: Path, weights: Path, tmp_path: Path) -> RuntimeApi:
    command = [sys.executable, "-m", "volvox", "serve", "--module", "tiny-function", "--name", "tiny", "--weights",
               str(weights), "--listen-ip", "0.0.0.0", "--listen-port", "5000"]  # fmt: skip
    (tmp_path / "tmp").mkdir()
    return RuntimeApi(command, PYTHONPATH=str(site), TMPDIR=str(tmp_path / "tmp"))


def call(text: str = "fine", job: str = "a" * 32, **more) -> dict:
    file = {"name": "x.png", "content": base64.b64encode(text.encode()).decode()}
    told = {"job": job, "key": "in/a.png", "relative": "a.png", "timeout_seconds": 30.0, "model": True, "file": file}
    return {**told, **more}


def ask(api: RuntimeApi, *calls: dict, seconds: float = 60.0, **more) -> list[dict]:
    return api.ask({"volvox": {"function": "f", "calls": list(calls), **more}}, seconds)["volvox"]["outcomes"]


def answer(outcome: dict) -> dict:
    (file,) = outcome["files"]
    assert file["path"] == "a.png.json", outcome
    return json.loads(base64.b64decode(file["content"]))["predictions"]


def test_calls_are_answered_together_and_one_bad_one_harms_no_other(api: RuntimeApi) -> None:
    found = ask(api, call(), call("refuse"), call("raise"), call(arguments={"top": 7}), call(arguments={"no": 1}))
    assert [one["kind"] for one in found] == ["", "refused", "failed", "", "refused"]
    assert "Not an image." in found[1]["reason"] and "no such layer" in found[2]["reason"]
    assert answer(found[3])["top"] == 7
    together = ask(api, call(), call(), call())
    assert max(answer(one)["batch"] for one in together) > 1
    assert answer(found[0])["pid"] == answer(together[0])["pid"] != api.process.pid


def test_it_describes_itself_and_stays_warm(api: RuntimeApi) -> None:
    told = api.ask({"volvox": {"describe": True}})["volvox"]
    assert [one["name"] for one in told["arguments"]] == ["image", "top"] and told["answered"] == 1
    asked = api.ask({"volvox": {"describe": True, "function": "f", "calls": [call(), call("raise")]}})["volvox"]
    assert asked["arguments"] == told["arguments"] and [one["kind"] for one in asked["outcomes"]] == ["", "failed"]
    began = time.monotonic()
    held = api.ask({"volvox": {"warm": 0.3}})["volvox"]
    assert held["instance"] == told["instance"] and held["answered"] == 3 and time.monotonic() - began >= 0.3


@pytest.mark.parametrize(("text", "kind"), [("crash", "gone"), ("hang", "timeout"), ("sleep 100", "timeout")])
def test_a_process_that_ends_or_hangs_is_told_and_the_next_call_answered(
    api: RuntimeApi, text: str, kind: str
) -> None:  # fmt: skip
    (found,) = ask(api, call(text, timeout_seconds=1.0))
    assert found["kind"] == kind, found
    assert ask(api, call())[0]["kind"] == ""


def test_one_that_is_killed_for_lack_of_memory_is_told(api: RuntimeApi) -> None:
    import os
    import signal
    import threading

    pid = answer(ask(api, call())[0])["pid"]
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()  # as the kernel does
    (found,) = ask(api, call("sleep 20"))
    assert found["kind"] == "memory" and "memory" in found["reason"]
    assert answer(ask(api, call())[0])["pid"] != pid


def test_one_that_uses_more_than_it_may_of_what_the_container_has_is_ended(api: RuntimeApi) -> None:
    found = ask(api, call("eat"), memory_mb=200)
    assert found[0]["kind"] == "memory" and "more than the 200 MB it may" in found[0]["reason"]
    assert ask(api, call("sleep 0.3"), memory_mb=200)[0]["kind"] == ""


def test_lambda_s_own_end_is_told_apart(api: RuntimeApi) -> None:
    (found,) = ask(api, call("sleep 100"), seconds=3.0)
    assert found["kind"] == "timeout" and found["limited"]
    (found,) = ask(api, call("sleep 100", timeout_seconds=0.5))
    assert found["kind"] == "timeout" and "limited" not in found and "0.5 s" in found["reason"]


def test_what_it_prints_comes_with_the_call(api: RuntimeApi) -> None:
    (found,) = ask(api, call("print a line"))
    assert found["log"] == "seen: a line\n"
    assert ask(api, call())[0]["log"] == ""


def test_one_that_does_not_start_says_so_to_lambda(site: Path, weights: Path, tmp_path: Path) -> None:
    (weights / "refuse-to-warm").touch()
    with served(site, weights, tmp_path) as api:
        path, told = api.answer()
        assert path.endswith("/runtime/init/error") and "cannot be read" in told["errorMessage"]
        assert api.process.wait(timeout=20) == 1


def test_files_of_calls_are_gone_afterwards(api: RuntimeApi, tmp_path: Path) -> None:
    ask(api, call(), call("raise"))
    left = sorted(path.name for path in (tmp_path / "tmp").iterdir())
    assert [name for name in left if name.startswith("volvox-calls")] == []
