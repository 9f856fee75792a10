"""A function that buckets and requests reach without us."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.volvox.runner.runtime_api import RuntimeApi
from tests.volvox.runner.test_container import entry, image
from tests.volvox.runner.test_objects import Server, server
from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.inbox import NewJob
from volvox.runner.direct import FUNCTION, job_of
from volvox.runtimes.aws import direct
from volvox.runtimes.aws.scratch import Scratch

__all__ = ["image", "server"]

SCRIPT = """#!/bin/sh
case "$(cat "$INPUT_FILE_PATH")" in
    fails*) echo "no layers" >&2; exit 3;;
esac
echo "$OWN $ARGUMENT_TOP $(cat "$INPUT_FILE_PATH")" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH").txt"
"""
SCRATCH = Scratch(None, "lake", ".volvox/f")  # type: ignore[arg-type]
MODIFIED = 1_795_694_400  # as the server of the tests says


def function(**more) -> Function:
    told = {
        "name": "f", "image": "i", "script": SCRIPT, "runtime": "lambda", "trigger": "direct",
        "environment": {"OWN": "own"}, "arguments": {"top": 3},
        "inputs": [{"url": "s3://lake/in", "suffix": [".png"], "per_user": True}],
        "outputs": [{"url": "s3://lake/out"}],
    }  # fmt: skip
    return Function(**{**told, **more})


def record(key: str, event: str = "ObjectCreated:Put", **more) -> dict:
    thing = {"key": quote(key, safe=""), "size": 1, "eTag": "abc", **more}
    return {"eventSource": "aws:s3", "eventName": event, "eventTime": "2026-11-26T12:00:00.000Z",
            "s3": {"bucket": {"name": "lake"}, "object": thing}}  # fmt: skip


@pytest.fixture
def started(image: Path, server: Server):
    (image / "function.json").write_text(json.dumps({"script": SCRIPT, "command": []}))
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    keys = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    with RuntimeApi(entry(image), **keys, **direct.variables(function(), SCRATCH)) as api:
        yield api


def done(server: Server) -> dict[str, dict]:
    begin = "/lake/.volvox/f/done/"
    found = {key: value for key, value in server.objects.items() if key.startswith(begin)}
    return {key.removeprefix(begin).removesuffix(".json"): json.loads(value) for key, value in found.items()}


def test_an_object_is_answered_as_the_job_that_the_inbox_would_have_it(started: RuntimeApi, server: Server) -> None:
    key = "in/ann/ü b+1.png"
    server.objects[f"/lake/{key}"] = b"content"
    assert started.ask({"Records": [record(key)]}) == {"answered": 1, "kinds": [""]}
    assert server.objects["/lake/out/ann/ü b+1.png.txt"] == b"own 3 content\n"
    job = NewJob("f", "s3://lake", key, f"abc@{MODIFIED}").id
    assert job == job_of("f", "s3://lake", key, f"abc@{MODIFIED}")
    told = done(server)[job]
    assert told["kind"] == "" and told["outputs"] == [{"url": "s3://lake", "key": "out/ann/ü b+1.png.txt", "size": 14}]


def test_a_version_of_the_bucket_s_own_names_the_job(started: RuntimeApi, server: Server) -> None:
    server.objects["/lake/in/a.png"] = b"content"
    started.ask({"Records": [record("in/a.png", versionId="v.1")]})
    assert [*done(server)] == [NewJob("f", "s3://lake", "in/a.png", "v.1").id]
    assert any(path.endswith("?versionId=v.1") for _, path in server.asked)


def test_what_is_not_the_function_s_is_passed_over(started: RuntimeApi, server: Server) -> None:
    for key in ("in/a.txt", "other/a.png", "in/.incoming-a.png", "in/gone.png"):
        if "gone" not in key:
            server.objects[f"/lake/{key}"] = b"content"
    records = [record(key) for key in ("in/a.txt", "other/a.png", "in/.incoming-a.png", "in/gone.png", "in/")]
    records.append(record("in/a.png", "ObjectRemoved:Delete"))
    assert started.ask({"Records": records}) == {"answered": 0, "kinds": []}
    assert done(server) == {} and not any(key.startswith("/lake/out") for key in server.objects)


def test_a_failure_that_is_the_file_s_is_noted_and_not_tried_again(started: RuntimeApi, server: Server) -> None:
    server.objects["/lake/in/a.png"] = b"fails"
    assert started.ask({"Records": [record("in/a.png")]})["kinds"] == ["failed"]
    (told,) = done(server).values()
    assert (told["kind"], told["exit_code"]) == ("failed", 3) and "no layers" in told["reason"]


def test_what_may_heal_is_an_error_so_that_lambda_tries_again(started: RuntimeApi, server: Server) -> None:
    server.objects["/lake/in/a.png"] = b"content"
    server.trouble = [503] * 4
    started._events.put(("request", json.dumps({"Records": [record("in/a.png")]}).encode(), 60.0))
    path, told = started.answer()
    assert path.endswith("/error") and told["errorType"] == "Refused" and "503" in told["errorMessage"]
    assert done(server) == {}
    assert started.ask({"Records": [record("in/a.png")]})["kinds"] == [""]


def test_a_request_to_the_function_s_address_is_answered(started: RuntimeApi) -> None:
    event = {
        "requestContext": {"http": {"method": "POST", "path": "/"}}, "isBase64Encoded": True,
        "body": base64.b64encode(b"asked").decode(), "queryStringParameters": {"top": "9"},
        "headers": {"X-File-Name": "../x.png"},
    }  # fmt: skip
    answer = started.ask(event)
    assert answer["statusCode"] == 200 and answer["isBase64Encoded"]
    assert base64.b64decode(answer["body"]) == b"own 9 asked\n"
    refused = started.ask({**event, "body": "fails", "isBase64Encoded": False})
    assert refused["statusCode"] == 500 and "no layers" in json.loads(refused["body"])["reason"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"inputs": [{"url": "/data/in"}]}, "input /data/in"),
        ({"outputs": []}, "output"),
        ({"outputs": [{"url": "s3+https://ceph.example.org/out"}]}, "output"),
        ({"environment": {"TOKEN": "{{ prefect.blocks.secret.TOKEN }}"}}, "TOKEN"),
    ],
)
def test_what_cannot_be_done_without_us_is_refused(more: dict, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        direct.variables(function(**more), SCRATCH)


def test_what_it_must_know_is_small(tmp_path: Path) -> None:
    assert len(direct.variables(function(), SCRATCH)[FUNCTION]) < 1000
