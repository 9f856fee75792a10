"""Calls as events, replies as outcomes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from volvox.functions.definition import Function
from volvox.runtimes.aws import payloads
from volvox.runtimes.interface import Call

JOB = "1a2b3c4d" * 4


def function(**more) -> Function:
    told = {"name": "f", "model": "m", "inputs": [{"url": "s3://lake/in", "per_user": True}],
            "outputs": [{"url": "s3://lake/out", "suffix": [".json"]}]}  # fmt: skip
    return Function(**{**told, **more})


def test_a_file_in_a_bucket_is_named_and_its_answer_goes_to_the_outputs() -> None:
    call = Call(JOB, key="in/ann/a.png", relative="ann/a.png", place="s3://lake", version="v1", user="ann")
    told = payloads.call_of(function(), call, None, "", 100)
    assert told["file"] == {"name": "a.png", "bucket": "lake", "key": "in/ann/a.png", "version": "v1"}
    assert told["outputs"] == [
        {"url": "s3://lake", "bucket": "lake", "folder": "out", "prefix": [], "suffix": [".json"]}
    ]
    assert told["model"] and told["per_user"]
    etag = Call(JOB, key="in/a", relative="a", place="s3://lake", version="abc@17")
    assert payloads.call_of(function(), etag, None, "", 100)["file"]["version"] == ""


def test_answers_for_a_place_that_the_role_does_not_reach_come_back() -> None:
    for output in (
        {"url": "/data/out"},
        {"url": "s3+https://ceph.example.org/out"},
        {"url": "s3://x", "provider": "s3.a"},
    ):
        made = function(outputs=[{"url": "s3://lake/out"}, output], providers={"s3.a": "block:a"})
        assert payloads.outputs_of(made) == []


def test_which_places_the_role_reads() -> None:
    assert payloads.fetched_there(function(), "s3://lake")
    for place in ("s3://another", "file:///data/in", "s3+https://ceph.example.org/lake", "webdavs://x/in"):
        assert not payloads.fetched_there(function(), place)
    owned = function(inputs=[{"url": "s3://lake/in", "provider": "s3.a"}], providers={"s3.a": "block:a"})
    assert not payloads.fetched_there(owned, "s3://lake")


def test_a_file_of_here_goes_with_the_call_or_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    call = Call(JOB, tmp_path / "a.png", tmp_path, key="a.png", relative="a.png", place="file:///x")
    assert base64.b64decode(payloads.call_of(function(), call, None, "", 5)["file"]["content"]) == b"12345"
    with pytest.raises(payloads.Beyond, match=r"settings\.bucket"):
        payloads.call_of(function(), call, None, "", 4)


def test_a_reply_s_files_are_written_where_the_call_says_and_nowhere_else(tmp_path: Path) -> None:
    call = Call(JOB, output=tmp_path / "out", log=tmp_path / "log")
    (tmp_path / "out").mkdir()
    file = {"path": "sub/a.json", "content": base64.b64encode(b"{}").decode()}
    outcome = payloads.outcome_of(call, {"kind": "", "files": [file], "log": "said\n", "notes": ["n"]}, None)
    assert (outcome.kind, outcome.notes) == ("", ("n",))
    assert (tmp_path / "out/sub/a.json").read_bytes() == b"{}" and (tmp_path / "log").read_text() == "said\n"
    evil = payloads.outcome_of(call, {"kind": "", "files": [{**file, "path": "../evil"}]}, None)
    assert evil.kind == "transient" and not (tmp_path / "evil").exists()
    assert payloads.outcome_of(call, {"kind": "payload", "reason": "large"}, None).kind == "failed"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"errorMessage": "2026-11-26T12:00:00Z x Task timed out after 3.00 seconds"}, "timeout"),
        ({"errorType": "Runtime.ExitError", "errorMessage": "Error: Runtime exited with error: signal: killed"},
         "memory"),
        ({"errorType": "Runtime.OutOfMemory", "errorMessage": "x"}, "memory"),
        ({"errorType": "Runtime.ExitError", "errorMessage": "Runtime exited without providing a reason"}, "gone"),
        ({"errorType": "KeyError", "errorMessage": "no"}, "failed"),
    ],
)  # fmt: skip
def test_what_lambda_says_of_a_failure_is_understood(error: dict, kind: str) -> None:
    assert payloads.failure_of(error)[0] == kind
