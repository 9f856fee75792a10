"""The bodies of services, and the script that runs in them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from volvox.functions.definition import Function
from volvox.functions.reading import read
from volvox.runtimes.oscar_cluster import program, services

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def script(text: str = "echo\n", **more: Any) -> Function:
    return Function(**{"name": "plants", "image": "an/image", "script": text, **more})


def test_a_file_of_oscar_is_the_service_that_it_was_but_for_what_the_dispatcher_does(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("""
functions:
  oscar:
  - site-a:
      name: plants
      image: an/image
      script: "#!/bin/sh\\necho"
      memory: 2Gi
      cpu: '1.0'
      enable_gpu: true
      total_memory: 8Gi
      log_level: CRITICAL
      vo: lab
      labels: {team: green}
      synchronous: {min_scale: 1, max_scale: 4}
      environment: {Variables: {OWN: a}}
      input: [{storage_provider: minio.default, path: plants/input}]
      output: [{storage_provider: minio.default, path: plants/output}]
""")
    (function,) = read(path).functions
    body = services.of_script(function, owner="me")
    assert {key: body[key] for key in ("name", "image", "memory", "cpu", "enable_gpu", "total_memory", "vo")} == {
        "name": "plants", "image": "an/image", "memory": "2Gi", "cpu": "1", "enable_gpu": True, "total_memory": "8Gi",
        "vo": "lab",
    }  # fmt: skip
    assert (body["log_level"], body["synchronous"]) == ("CRITICAL", {"min_scale": 1, "max_scale": 4})
    assert body["environment"] == {"variables": {"OWN": "a"}} and body["labels"]["team"] == "green"
    assert "input" not in body
    assert [one["path"] for one in body["output"]] == ["volvox-plants/out"]
    assert services.is_of(body, "me") and not services.is_of(body, "another")


def test_what_a_cluster_adds_and_hides_is_no_difference() -> None:
    should = services.of_script(script(), owner="me")
    there = {
        **should, "token": "x", "owner": "o", "script": should["script"].replace("\n", "\r\n"), "memory": "256Mi",
        "labels": {**should["labels"], "oscar_service": "plants"}, "storage_providers": {"minio": {}},
    }  # fmt: skip
    assert services.differs(should, there) == ""
    assert services.differs(should, {**there, "image": "another"}) == "image"
    assert services.differs(should, {**there, "script": "echo"}) == "script"
    assert services.differs(should, {**there, "output": []}) == "output"


def test_only_the_bucket_of_its_calls_goes_with_a_service() -> None:
    there = {"name": "plants", "output": [{"path": "/volvox-plants/out"}], "bucket_list": ["volvox-plants"]}
    assert services.other_buckets(there) == set()
    there |= {"input": [{"path": "films/new"}, {"path": "in"}], "bucket_list": ["volvox-plants", "more"], "token": "t"}
    assert services.other_buckets(there) == {"films", "plants", "more"}
    assert services.without_other_buckets(there) == {
        "name": "plants", "input": [], "output": [{"path": "/volvox-plants/out"}]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "command", "printed"),
    [
        ("echo plain $1\n", (), "plain\n"),
        ("#!/usr/bin/env python3\nprint('a' \"b\", '$HOME')\n", (), "ab $HOME\n"),
        ("#!/bin/sh -u\r\necho '$x'\r\n", (), "$x\n"),
        ("echo no end of line", (), "no end of line\n"),
        ("", ("/bin/echo", "a  b", "$x"), "a  b $x\n"),
    ],
)
def test_the_function_s_own_script_runs_by_its_own_line(
    tmp_path: Path, text: str, command: tuple[str, ...], printed: str
) -> None:
    path = tmp_path / "script.sh"
    path.write_text(program.script(program.own_part(text, command)))
    done = subprocess.run(["/bin/sh", str(path)], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


def test_a_script_that_is_given_a_file_of_others_gets_it(tmp_path: Path) -> None:
    given = tmp_path / "a file"
    given.write_bytes(b"\0volvox-call")
    path = tmp_path / "script.sh"
    path.write_text(program.script(program.own_part('wc -c < "$INPUT_FILE_PATH"; cat', ())))
    done = subprocess.run(
        ["/bin/sh", str(path)], capture_output=True, text=True, check=False, input="the event",
        env={**ENVIRONMENT, "INPUT_FILE_PATH": str(given)},
    )  # fmt: skip
    assert done.stdout.split("\n") == ["12", "the event"] and done.stderr == ""


def test_what_a_log_says() -> None:
    log = b"supervisor here\nvolvox-call abc\nline 1\nline 2\nvolvox-over abc\nsupervisor there\n"
    assert program.token_of(log) == "abc" and program.token_of(b"volvox-call ab") == program.token_of(b"else\n") == ""
    assert program.printed_so_far(log, "abc") == b"line 1\nline 2\n"
    assert program.printed_so_far(log[: log.index(b"line 2")], "abc") == b"line 1\n"
    assert program.printed_so_far(log, "another") is None
