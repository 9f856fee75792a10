"""What a script's image does in a cloud: the runner is started as Lambda starts it, with nothing of ours installed."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import volvox.runner
from tests.volvox.runner.runtime_api import RuntimeApi
from tests.volvox.runner.test_objects import Server, server

__all__ = ["server"]

SCRIPT = """#!/bin/sh
cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/copy.txt"
mkdir "$TMP_OUTPUT_DIR/sub"; echo "$ARGUMENT_TOP $OWN $JOB_UUID" > "$TMP_OUTPUT_DIR/sub/told.log"
ln -s /etc/passwd "$TMP_OUTPUT_DIR/stolen"
echo said; echo more >&2
exit ${CODE:-0}
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder as it is in an image of a function."""
    folder = tmp_path / "opt"
    folder.mkdir()
    for path in Path(str(volvox.runner.__file__)).parent.glob("*.py"):
        shutil.copy(path, folder)
    (folder / "function.json").write_text(json.dumps({"script": SCRIPT, "command": []}))
    return folder


def entry(image: Path) -> list[str]:
    return [sys.executable, "-S", "-E", str(image / "container.py")]  # without what is installed here


def call(job: str = "1a2b3c4d" * 4, **more) -> dict:
    told = {"job": job, "key": "in/a.txt", "relative": "a.txt", "arguments": {"top": 3}, "timeout_seconds": 30}
    return {**told, "file": {"name": "a.txt", "content": base64.b64encode(b"content").decode()}, **more}


def event(*calls: dict, **more) -> dict:
    return {"volvox": {"function": "f", "calls": list(calls), "environment": {"OWN": "a b"}, **more}}


def test_calls_of_a_script_are_answered_one_instance_after_the_other_event(image: Path) -> None:
    with RuntimeApi(entry(image)) as api:
        first = api.ask(event(call(), call("2" * 32)))["volvox"]
        assert [one["kind"] for one in first["outcomes"]] == ["", ""] and first["answered"] == 1
        told = first["outcomes"][0]
        files = {file["path"]: base64.b64decode(file["content"]).decode() for file in told["files"]}
        assert files == {"copy.txt": "content", "sub/told.log": f"3 a b {'1a2b3c4d' * 4}\n"}
        assert (
            told["printed"] == "said\n" and told["exit_code"] == 0 and sorted(told["log"].split()) == ["more", "said"]
        )
        assert any("stolen" in note for note in told["notes"])
        failed = api.ask(event(call(), environment={"CODE": "3", "OWN": ""}))["volvox"]
        assert failed["outcomes"][0]["kind"] == "failed" and failed["outcomes"][0]["exit_code"] == 3
        assert failed["outcomes"][0]["files"] == []
        assert (failed["instance"], failed["answered"], failed["version"]) == (first["instance"], 2, "7")


def test_a_script_has_what_its_image_gives_it_and_nothing_of_ours(image: Path) -> None:
    (image / "function.json").write_text(json.dumps({"script": "env", "command": []}))
    with RuntimeApi(entry(image), OF_IMAGE="a b", OWN="image", VOLVOX_FUNCTION="ours") as api:
        (told,) = api.ask(event(call()))["volvox"]["outcomes"]
    found = dict(line.split("=", 1) for line in told["printed"].splitlines() if "=" in line)
    assert (found["OF_IMAGE"], found["OWN"]) == ("a b", "a b")  # the function's own goes before the image's
    assert not {"VOLVOX_FUNCTION", "AWS_LAMBDA_RUNTIME_API"} & set(found)


def test_an_event_that_is_none_of_ours_is_an_error_and_the_next_one_is_answered(image: Path) -> None:
    with RuntimeApi(entry(image)) as api:
        api._events.put(("request", b'{"nothing": 1}', 30.0))
        path, told = api.answer()
        assert path.endswith("/invocation/request/error") and "volvox" in told["errorMessage"]
        assert api.ask(event(call()))["volvox"]["outcomes"][0]["kind"] == ""


def test_the_end_that_lambda_sets_counts_and_is_told_apart(image: Path) -> None:
    (image / "function.json").write_text(json.dumps({"script": "sleep 100", "command": []}))
    with RuntimeApi(entry(image)) as api:
        (told,) = api.ask(event(call()), seconds=2.0)["volvox"]["outcomes"]
        assert told["kind"] == "timeout" and told["limited"]
        (told,) = api.ask(event(call(timeout_seconds=0.5)), seconds=60.0)["volvox"]["outcomes"]
        assert told["kind"] == "timeout" and "0.5 s" in told["reason"] and "limited" not in told


def test_files_are_fetched_from_buckets_and_outputs_written_where_they_belong(image: Path, server: Server) -> None:
    server.objects["/lake/in/ann/a.txt"] = b"from the bucket"
    given = call(
        relative="ann/a.txt", key="in/ann/a.txt", user="ann", per_user=True,
        file={"name": "a.txt", "bucket": "lake", "key": "in/ann/a.txt", "version": ""},
        outputs=[{"url": "s3://lake", "bucket": "lake", "folder": "out", "prefix": [], "suffix": [".txt"]},
                 {"url": "s3://logs", "bucket": "logs", "folder": "", "prefix": ["sub/"], "suffix": []}],
    )  # fmt: skip
    missing = {**call("9" * 32), "file": {"name": "b", "bucket": "lake", "key": "nothing", "version": ""}}
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    with RuntimeApi(entry(image), **keys) as api:
        told, gone = api.ask(event(given, missing))["volvox"]["outcomes"]
    assert told["outputs"] == [
        {"url": "s3://lake", "key": "out/ann/copy.txt", "size": 15},
        {"url": "s3://logs", "key": "ann/sub/told.log", "size": len(f"3 a b {'1a2b3c4d' * 4}") + 1},
    ]
    assert server.objects["/lake/out/ann/copy.txt"] == b"from the bucket" and told["files"] == []
    assert gone["kind"] == "missing" and "nothing" in gone["reason"]


def test_a_job_answers_one_event_and_its_exit_code_says_how(image: Path, server: Server) -> None:
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    keys = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PATH": "/usr/bin:/bin",
    }
    environment = {**keys, "VOLVOX_EVENT": "s3://lake/.volvox/f/job/event.json"}
    for code, environ in ((0, {}), (1, {"CODE": "3"})):
        server.objects["/lake/.volvox/f/job/event.json"] = json.dumps(event(call(), environment=environ)).encode()
        done = subprocess.run(entry(image), env=environment, capture_output=True, timeout=60, check=False)
        assert done.returncode == code, done
        assert b"said" in done.stdout
        reply = json.loads(server.objects["/lake/.volvox/f/job/reply.json"])["volvox"]
        assert reply["outcomes"][0]["exit_code"] == (3 if code else 0)
    del server.objects["/lake/.volvox/f/job/event.json"]
    done = subprocess.run(entry(image), env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 4 and b"is not there" in done.stderr


def test_of_a_job_on_several_machines_the_leading_one_replies(image: Path, server: Server) -> None:
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    server.objects["/lake/f/event.json"] = json.dumps(event(call())).encode()
    keys = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PATH": "/usr/bin:/bin",
    }
    node = {"VOLVOX_EVENT": "s3://lake/f/event.json", "AWS_BATCH_JOB_MAIN_NODE_INDEX": "0"}
    for index, there in (("1", False), ("0", True)):
        done = subprocess.run(
            entry(image), env={**keys, **node, "AWS_BATCH_JOB_NODE_INDEX": index}, capture_output=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done
        assert ("/lake/f/reply.json" in server.objects) is there


def test_a_job_whose_machine_is_taken_away_says_that_it_may_be_tried_again(
    image: Path, server: Server, tmp_path: Path
) -> None:
    (image / "function.json").write_text(json.dumps({"script": 'touch "$STARTED"; sleep 100', "command": []}))
    endpoint, started = f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "started"
    environment = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "PATH": "/usr/bin:/bin",
        "VOLVOX_EVENT": "s3://lake/job/event.json", "STARTED": str(started),
    }  # fmt: skip
    server.objects["/lake/job/event.json"] = json.dumps(event(call())).encode()
    process = subprocess.Popen(entry(image), env=environment, stdout=subprocess.DEVNULL)
    while not started.exists():
        time.sleep(0.02)
    process.terminate()
    assert process.wait(20) == 1
    (told,) = json.loads(server.objects["/lake/job/reply.json"])["volvox"]["outcomes"]
    assert (told["kind"], told["reason"]) == ("gone", "its container was told to end")
