"""Calls of scripts as jobs of a cluster: what is asked of it, what is found again, what is left."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.volvox.runtimes.benches import NAME, Oscar, outputs
from tests.volvox.runtimes.oscar.cluster import Fault
from volvox.errors import AccessRefused, InvalidInput, NotFound, Unavailable
from volvox.runtimes import Call
from volvox.runtimes.oscar import OscarRuntime

SCRIPT = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/answer"; echo done'


def its(bench: Oscar) -> OscarRuntime:
    assert isinstance(bench.runtime, OscarRuntime)
    return bench.runtime


def again(bench: Oscar, call: Call) -> Call:
    """The same call, as another attempt of its job makes it."""
    assert call.output is not None
    folder = bench.folder / f"again-{len([*bench.folder.iterdir()])}"
    (folder / "output").mkdir(parents=True)
    return replace(call, output=folder / "output", log=folder / "log")


def counting(bench: Oscar, text: str = SCRIPT) -> tuple[str, Path]:
    """A script that says each time that it runs, and where."""
    path = bench.folder / "runs"
    return f"echo run >> {path}\n{text}", path


async def until(true: Any, seconds: float = 20.0) -> None:
    for _ in range(int(seconds / 0.05)):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(true)


def test_deployed_again_nothing_is_written_and_what_is_changed_is_mended(run) -> None:
    async def test(bench: Oscar) -> None:
        function = bench.script(SCRIPT, environment={"OWN": "a b", "TOKEN": "{{ prefect.blocks.secret.X }}"},
                                resources={"memory_mb": 300, "cpu": 0.5})  # fmt: skip
        await bench.deploy(function)
        body = bench.server.body(NAME)
        assert (body["memory"], body["cpu"], body["image"]) == ("300Mi", "500m", bench.image) or body["cpu"] == "0.5"
        assert body["environment"] == {"variables": {"OWN": "a b"}}
        assert body["annotations"]["volvox/definition"] == function.version and SCRIPT in body["script"]
        await bench.deploy(function)
        other = bench.made()
        await other.deploy(function, version=function.version)
        await other.close()
        assert await its(bench).doubts(NAME) == [] and bench.server.writes == [f"POST {NAME}"]
        body["memory"], body["visibility"] = "9Gi", "public"
        (told,) = await its(bench).doubts(NAME)
        assert told == f"memory of the service {NAME} is not as it was made"
        assert await its(bench).repair(NAME) == [told] and await its(bench).repair(NAME) == []
        assert bench.server.writes == [f"POST {NAME}", f"PUT {NAME}"]
        await bench.server_removed(NAME)
        assert await its(bench).doubts(NAME) == [f"the service {NAME} is gone"]
        await bench.deploy(function)
        assert await its(bench).doubts(NAME) == [] and NAME in bench.server.services

    run(test)


def test_a_service_that_somebody_else_has_made_is_not_touched(run) -> None:
    async def test(bench: Oscar) -> None:
        theirs = {"name": NAME, "image": "i", "script": "echo"}
        await bench.asked("POST", "/system/services", json=theirs)
        with pytest.raises(InvalidInput, match=r"was not made here .* settings name"):
            await bench.deploy(bench.script(SCRIPT))
        await bench.deploy(bench.script(SCRIPT, settings={"name": "another", "calls": "job"}))
        assert (await bench.ask()).printed == "done\n" and sorted(bench.server.services) == ["another", NAME]
        await bench.runtime.remove(NAME)
        assert [*bench.server.services] == [NAME]
        await bench.server_removed(NAME)

    run(test)


def test_of_a_call_nothing_is_left_but_names_of_objects_and_they_go_with_the_service(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script(SCRIPT))
        call = bench.call("the content")
        assert (await bench.invoke(call))[0].kind == "" and outputs(call) == {"answer": "the content"}
        assert bench.server.jobs() == {} and len(bench.server.objects()) == 2 and await bench.at_work() == []
        assert not [*(bench.folder / "runtime" / NAME / "posted").iterdir()]
        await bench.runtime.remove(NAME)
        assert bench.server.objects() == {} and bench.server.buckets == set()

    run(test)


_DISPATCH = """
import asyncio, dataclasses, pathlib, sys
from tests.volvox.runtimes.tiny import TinyModels
from volvox.runtimes import Call
from volvox.runtimes.oscar import OscarRuntime

async def main():
    folder = pathlib.Path(sys.argv[1])
    runtime = OscarRuntime(folder / "runtime", TinyModels(folder / "models"))
    (folder / "killed" / "output").mkdir(parents=True)
    (folder / "killed" / "input").write_text("the content")
    call = Call("f" * 32, folder / "killed" / "input", folder / "killed" / "output", folder / "killed" / "log",
                key="in/a.txt", relative="a.txt")
    await runtime.invoke(sys.argv[2], [call])

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["while it runs", "when it has ended"])
def test_the_job_of_a_dispatcher_that_was_killed_is_gone_on_with(run, when: str) -> None:
    async def test(bench: Oscar) -> None:
        script, runs = counting(bench, f"until [ -e {bench.folder}/go ]; do sleep 0.1; done\n{SCRIPT}")
        await bench.deploy(bench.script(script))
        root = Path(__file__).parents[4]
        paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DISPATCH, str(bench.folder), NAME, env={**os.environ, "PYTHONPATH": paths}
        )
        await until(runs.exists)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        if when == "when it has ended":
            (bench.folder / "go").touch()
            await until(lambda: [job.status for job in bench.server.jobs().values()] == ["Succeeded"])
        asyncio.get_running_loop().call_later(2, (bench.folder / "go").touch)
        asked = [*bench.server.asked]
        call = Call("f" * 32, bench.folder / "killed" / "input", bench.folder, bench.folder / "log")
        (outcome,) = await bench.invoke(again(bench, call))
        assert (outcome.kind, outcome.printed) == ("", "done\n")
        assert runs.read_text() == "run\n" and f"POST /job/{NAME}" not in bench.server.asked[len(asked) :]
        assert bench.server.jobs() == {}

    run(test)


def test_a_job_whose_answer_was_lost_is_not_begun_twice(run) -> None:
    async def test(bench: Oscar) -> None:
        script, runs = counting(bench)
        await bench.deploy(bench.script(script))
        bench.server.faults = [Fault("POST /job", "lose")]
        call = bench.call()
        (outcome,) = await bench.invoke(call)
        assert outcome.kind == "transient" and "did not say whether" in outcome.reason
        (outcome,) = await bench.invoke(again(bench, call))
        assert outcome.kind == "" and runs.read_text() == "run\n"
        (outcome,) = await bench.invoke(again(bench, call))  # somebody wants it done again
        assert outcome.kind == "" and runs.read_text() == "run\nrun\n"

    run(test)


def test_a_cluster_that_fails_meanwhile_costs_an_attempt_and_no_second_run(run) -> None:
    async def test(bench: Oscar) -> None:
        script, runs = counting(bench, f"sleep 3\n{SCRIPT}")
        await bench.deploy(bench.script(script))
        call = bench.call()
        asked = asyncio.create_task(bench.invoke(call))
        await until(runs.exists)
        bench.server.faults = [Fault("GET /system/logs", 500, 1000)]
        assert (await asked)[0].kind == "transient"
        bench.server.faults = []
        (outcome,) = await bench.invoke(again(bench, call))
        assert outcome.kind == "" and runs.read_text() == "run\n"

    run(test)


def test_faults_on_the_way_are_of_no_consequence(run) -> None:
    async def test(bench: Oscar) -> None:
        script, runs = counting(bench)
        await bench.deploy(bench.script(script))
        lines = (
            "GET /system/services/",
            "POST .*presign",
            "PUT /minio",
            "GET /minio/.*/out/",
            "GET /system/logs",
        )
        bench.server.faults = [Fault(line, how) for line in lines for how in (500, "drop")]
        call = bench.call("the content")
        assert (await bench.invoke(call))[0].kind == "" and outputs(call) == {"answer": "the content"}
        assert runs.read_text() == "run\n" and not [one for one in bench.server.faults if one.times]

    run(test)


def test_a_job_whose_file_could_not_be_fetched_there_may_be_tried_again(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script(SCRIPT))
        bench.server.faults = [Fault("GET /minio/.*/in/", 500)]
        outcome = await bench.ask()
        assert (
            outcome.kind == "gone"
            and "ended before the script began; it said: urllib.error.HTTPError" in outcome.reason
        )
        assert (await bench.ask()).kind == ""

    run(test)


def test_a_job_that_is_deleted_from_outside_may_be_tried_again(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script("echo begun; sleep 1000"))
        call = bench.call()
        asked = asyncio.create_task(bench.invoke(call))
        await until(lambda: call.log is not None and call.log.exists() and call.log.read_text())
        (job,) = bench.server.jobs()
        await bench.asked("DELETE", f"/system/logs/{NAME}/{job}")
        (outcome,) = await asked
        assert (outcome.kind, outcome.reason) == ("gone", "its job was deleted from outside")

    run(test)


def test_jobs_that_wait_for_a_quota_are_given_up_and_do_nothing_when_they_begin(run) -> None:
    async def test(bench: Oscar) -> None:
        script, runs = counting(bench)
        bench.server.suspended = True
        await bench.deploy(bench.script(script, settings={"calls": "job", "start_seconds": 1}))
        (outcome,) = await bench.invoke(bench.call())
        assert outcome.kind == "transient" and "within 1 s" in outcome.reason
        await bench.deploy(bench.script(script))
        asked = asyncio.create_task(bench.ask())
        await until(lambda: len(bench.server.jobs()) == 2)
        asked.cancel()
        await asyncio.wait([asked])
        bench.server.suspended = False
        await until(lambda: not bench.server.jobs())
        assert not runs.exists() and (await bench.ask()).kind == "" and runs.read_text() == "run\n"

    run(test)


def test_many_jobs_are_told_apart_though_none_says_whose_it_is(run) -> None:
    async def test(bench: Oscar) -> None:
        bench.server.page = 2
        await bench.deploy(bench.script(SCRIPT, scaling={"max_scale": 6}))
        calls = [bench.call(f"content {n}") for n in range(6)]
        outcomes = await bench.invoke(*calls)
        assert [one.kind for one in outcomes] == [""] * 6
        assert [outputs(call) for call in calls] == [{"answer": f"content {n}"} for n in range(6)]

    run(test)


def test_a_large_file_and_a_name_that_no_service_can_have(run) -> None:
    async def test(bench: Oscar) -> None:
        name = "A_Function." + "x" * 40
        await bench.deploy(bench.script('wc -c < "$INPUT_FILE_PATH"', name=name, settings={}, timeout_seconds=20))
        (service,) = bench.server.services
        assert service.startswith("a-function-xxx") and len(service) == 39
        call = bench.call("x" * (6 << 20))
        (outcome,) = await bench.runtime.invoke(name, [call])
        assert outcome.printed.strip() == str(6 << 20) and f"POST /job/{service}" in bench.server.asked
        await bench.runtime.remove(name)

    run(test)


def test_an_image_that_has_not_what_a_call_needs_is_told(run) -> None:
    async def test(bench: Oscar) -> None:
        lacking = bench.folder / "lacking"
        lacking.mkdir()
        (lacking / "mkfifo").write_text("#!/bin/sh\nexit 1\n")
        (lacking / "mkfifo").chmod(0o755)
        bench.server.images.before["lacking"] = str(lacking)
        await bench.deploy(bench.script(SCRIPT, image="lacking"))
        outcome = await bench.ask()
        assert (outcome.kind, outcome.exit_code) == ("failed", 127) and "a call needs tar, mkfifo" in outcome.reason

    run(test)


def test_what_others_send_to_the_service_is_given_to_the_script_as_oscar_gives_it(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(
            bench.script('#!/usr/bin/env python3\nimport os\nprint(open(os.environ["INPUT_FILE_PATH"]).read())\n')
        )
        token = bench.server.body(NAME)["token"]
        async with httpx.AsyncClient(trust_env=False) as http:
            told = await http.post(
                f"{bench.server.endpoint}/run/{NAME}", content=base64.b64encode(b"from elsewhere"),
                headers={"Authorization": f"Bearer {token}"},
            )  # fmt: skip
        assert (told.status_code, told.text) == (200, "from elsewhere\n")

    run(test)


def test_a_bucket_that_somebody_has_given_the_service_keeps_its_data(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script(SCRIPT))
        body = bench.server.body(NAME)
        body["input"] = [{"storage_provider": "minio.default", "path": "films/new"}]
        bench.server.buckets.add("films")
        kept = bench.server.folder / "store" / "films" / "new" / "a.mp4"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(b"data")
        await bench.runtime.remove(NAME)
        assert bench.server.services == {} and kept.read_bytes() == b"data"
        kept.unlink()

    run(test)


def test_what_cannot_run_there_is_refused_before_anything_is_made(run) -> None:
    async def test(bench: Oscar) -> None:
        refused = {
            "an archive": bench.script(SCRIPT, image="docker-archive:/x.tar"),
            "names neither script nor command": bench.script(""),
            "trigger direct": bench.script(SCRIPT, trigger="direct"),
            "could read them in the bucket": bench.script(
                SCRIPT, settings={"visibility": "public"}, environment={"A": "{{ prefect.blocks.secret.A }}"}
            ),
            "has none": bench.script(SCRIPT, resources={"gpus": 1}),
            "calls is 'never'": bench.script(SCRIPT, settings={"calls": "never"}),
            "which is not described": bench.script(
                SCRIPT, settings={"cluster": "b", "storage_providers": {"clusters.a": {"endpoint": "http://x"}}}
            ),
        }
        for said, function in refused.items():
            with pytest.raises(InvalidInput, match=said):
                await bench.deploy(function)
        bench.server.config["allowed_image_repositories"] = ["registry.example.org/"]
        with pytest.raises(InvalidInput, match=r"it allows registry\.example\.org/"):
            await bench.deploy(bench.script(SCRIPT))
        await bench.runtime.close()
        bench.runtime = bench.made()
        bench.server.config["allowed_image_repositories"] = []
        bench.server.quota = {"resources": {"memory": {"max": "1Gi"}, "cpu": {"max": "1"}}}
        with pytest.raises(InvalidInput, match=r"needs 2048 MB \(memory\), and the quota .* is 1024"):
            await bench.deploy(bench.script(SCRIPT, resources={"memory_mb": 2048}))
        with pytest.raises(InvalidInput, match=r"needs 2 cores \(cpu\)"):
            await bench.deploy(bench.script(SCRIPT, resources={"cpu": 2}))
        os.environ["VOLVOX_OSCAR_PASSWORD"] = "a wrong one"
        other = bench.made()
        with pytest.raises(AccessRefused, match="does not know user 'admin'"):
            await other.deploy(bench.script(SCRIPT), version="1")
        await other.close()
        assert bench.server.writes == [] and (await bench.status()).state == "absent"

    run(test)


def test_a_cluster_that_does_not_answer_is_told_and_what_is_left_there_goes_when_it_does(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script(SCRIPT))
        bench.server.faults = [Fault("/", "drop", 100_000)]
        with pytest.raises(Unavailable):
            await bench.deploy(bench.script(SCRIPT, name="other"))
        outcome = await bench.ask()
        assert outcome.kind == "transient" and "the OSCAR cluster" in outcome.reason
        await bench.runtime.remove(NAME)
        assert (await bench.status()).state == "absent" and [*bench.server.services] == [NAME]
        bench.server.faults = []
        await bench.runtime.close()
        bench.runtime = bench.made()
        with pytest.raises(NotFound):
            await bench.ask()
        assert bench.server.services == {}

    run(test)


def test_a_user_of_openid_connect_runs_jobs_under_his_own_token(run, tmp_path: Path) -> None:
    async def test(bench: Oscar) -> None:
        (tmp_path / "token").write_text("a-token-of-a-user")
        bench.server.users = {}
        settings = {"calls": "job", "cluster": "lab", "storage_providers": {
            "clusters.lab": {"endpoint": bench.server.endpoint, "token_file": str(tmp_path / "token")}}}  # fmt: skip
        await bench.deploy(bench.script(SCRIPT, settings=settings))
        assert (await bench.ask()).kind == ""
        await bench.runtime.remove(NAME)
        assert bench.server.services == {}

    run(test)
