"""`volvox jobs`, and the page that explains jobs: what it shows is run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.volvox.serving.job_server import JobServer
from volvox.serving import job_commands

PAGE = Path(__file__).parents[3] / "docs" / "jobs.md"


def _run(jobs: JobServer, *arguments: str) -> Result:
    return CliRunner().invoke(job_commands.jobs, arguments, env={"VOLVOX_SERVER": jobs.url})


def _said(jobs: JobServer, *arguments: str) -> str:
    done = _run(jobs, *arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_jobs_are_listed_shown_followed_and_their_result_is_taken(jobs: JobServer, tmp_path: Path) -> None:
    uuid = jobs.train(epochs="2", seconds="0.1")["uuid"]
    done = _run(jobs, "log", "--follow", uuid)
    assert done.stdout == "nice 10\nepoch 1\nepoch 2\n"
    told = done.stderr.splitlines()
    assert (told[0], told[-1]) == ("PENDING", "SUCCEEDED")
    assert sorted(told[1:-1]) == ["1/2 epochs  loss None", "2/2 epochs  loss None", "RUNNING"]
    assert _said(jobs, "log", uuid) == done.stdout
    events = [json.loads(line) for line in _said(jobs, "log", "--json", uuid).splitlines()]
    assert events[-1]["data"]["state"] == "SUCCEEDED"
    assert {"event": "log", "data": "epoch 1"} in events
    assert [job["uuid"] for job in json.loads(_said(jobs, "list", "--json", "--limit", "1"))] == [uuid]
    assert f"{uuid}  train    trainer  SUCCEEDED" in _said(jobs, "list", "--state", "succeeded")
    assert uuid not in _said(jobs, "list", "--state", "failed")
    assert json.loads(_said(jobs, "show", "--json", uuid))["state"] == "SUCCEEDED"
    assert "train of trainer  SUCCEEDED" in _said(jobs, "show", uuid)
    assert json.loads(_said(jobs, "result", uuid))["resumed_from_epoch"] == 0
    _said(jobs, "result", uuid, "--output", str(tmp_path / "result.json"))
    assert json.loads((tmp_path / "result.json").read_text())["resumed_from_epoch"] == 0


def test_a_job_is_cancelled_and_a_finished_one_is_not_removed_instead(jobs: JobServer) -> None:
    uuid = jobs.train(epochs="1000", seconds="0.1")["uuid"]
    jobs.until(uuid, "RUNNING")
    early = _run(jobs, "result", uuid)
    assert "has no result yet" in str(early.exception)
    assert json.loads(_said(jobs, "cancel", "--json", uuid))["state"] == "CANCELLED"
    again = _run(jobs, "cancel", uuid)
    assert again.exit_code != 0
    assert "it is CANCELLED already" in str(again.exception)
    assert jobs.job(uuid)["state"] == "CANCELLED"
    assert "there is no job 'nothing'" in str(_run(jobs, "show", "nothing").exception)


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "volvox", "jobs", "list", "--url", "http://127.0.0.1:9"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.startswith("error: the server at http://127.0.0.1:9 does not answer")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the page's examples need curl and jq")
def test_the_examples_of_the_page_can_be_pasted(jobs: JobServer, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_text("pixels")
    predict, train, commands = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    told = _bash(jobs, tmp_path, predict)
    assert '"text": "hello",\n  "content": "pixels"' in told
    assert "event: state" in (tmp_path / "events").read_text()
    told = _bash(jobs, tmp_path, train)
    assert "event: progress" in told
    assert "model.json\nprogress.jsonl\n" in told
    assert told.endswith('{"epochs": 2}')
    jobs.until(jobs.later()["uuid"])
    assert '"status": "OK"' in _bash(jobs, tmp_path, commands)


def _bash(jobs: JobServer, folder: Path, script: str) -> str:
    path = f"{Path(sys.executable).parent}:{jobs.environment['PATH']}"
    environment = {**jobs.environment, "PATH": path, "URL": jobs.url, "VOLVOX_SERVER": jobs.url}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
