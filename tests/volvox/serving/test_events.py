"""A serving image that answers events: its entry point as Lambda starts it."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import pytest

from tests.volvox.runner.runtime_api import RuntimeApi
from tests.volvox.runtimes.tiny import write_tiny
from volvox.serving import events


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """The entry point of an image of the tiny module, its imports told at the end."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "version").write_text("7")
    return [
        sys.executable, "-X", "importtime", "-m", "volvox", "serve", "--module", "tiny-function", "--name", "tiny",
        "--weights", str(tmp_path / "weights"), "--listen-ip", "0.0.0.0", "--listen-port", "5000",
    ]  # fmt: skip


def event(text: str, job: str = "1" * 32) -> dict:
    file = {"name": "a.txt", "content": base64.b64encode(text.encode()).decode()}
    call = {"job": job, "key": "a.txt", "relative": "a.txt", "timeout_seconds": 20, "model": True, "file": file}
    return {"volvox": {"function": "f", "calls": [call]}}


def test_an_image_s_entry_point_answers_without_the_command_line(line: list[str], tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(write_tiny(tmp_path / "site")), "TMPDIR": str(tmp_path)}
    with RuntimeApi(line, **environment) as api:
        described = api.ask({"volvox": {"describe": True}})["volvox"]
        assert [one["name"] for one in described["arguments"]] == ["image", "top"]
        told = api.ask(event("fine"))["volvox"]
        assert told["instance"] == described["instance"] and told["answered"] == 2
        (outcome,) = told["outcomes"]
        assert outcome["kind"] == "" and b'"version":"7"' in base64.b64decode(outcome["files"][0]["content"])
        crashed = api.ask(event("crash"))["volvox"]["outcomes"][0]
        assert (crashed["kind"], "exit code 3" in crashed["reason"]) == ("gone", True)
        assert api.ask(event("fine"))["volvox"]["outcomes"][0]["kind"] == "", "the model is begun again"
        api.process.terminate()
        assert api.process.stdout is not None
        said = api.process.stdout.read().decode()
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", said, re.MULTILINE))
    assert "volvox.serving.event_calls" in imported
    assert not {"click", "importlib.metadata", "argparse", "asyncio", "tomllib", "httpx"} & imported


def test_a_model_that_does_not_start_is_told_to_lambda(line: list[str], tmp_path: Path) -> None:
    (tmp_path / "weights" / "refuse-to-warm").touch()
    environment = {"PYTHONPATH": str(write_tiny(tmp_path / "site")), "TMPDIR": str(tmp_path)}
    with RuntimeApi(line, **environment) as api:
        path, told = api.answer()
        assert path.endswith("/init/error") and "these weights cannot be read" in told["errorMessage"]
        assert api.process.wait(20) == 1
        assert api.process.stdout is not None
        assert b"these weights cannot be read" in api.process.stdout.read(), "the log says it, too"


def test_what_takes_the_command_line_to_be_understood_is_left_to_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(events, "serve", lambda *_: pytest.fail("it was understood"))
    monkeypatch.setenv("DEEPAAS_V2_MODEL", "")
    folder = tmp_path / "module"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    for words in (
        [], ["--module", "a", "--module", "b"], ["--module", "a.b:c"], ["--module", "module"],
        ["--module", "a", "--no-warm"], ["--module", "a", "--python", "p"],
        ["--module", "a", "--weights", str(tmp_path / "none")],
        ["--module", "a", "--batch", "many"],
    ):  # fmt: skip
        events.main(words)  # it returns


def test_other_ways_of_naming_a_module_are_answered_too(line: list[str], tmp_path: Path) -> None:
    site = write_tiny(tmp_path / "site")
    at = line.index("tiny-function")
    with RuntimeApi([*line[:at], "tiny_function.api", *line[at + 1 :]], PYTHONPATH=str(site)) as api:
        assert api.ask(event("fine"))["volvox"]["outcomes"][0]["kind"] == ""
