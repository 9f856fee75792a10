"""Calls of scripts that are waited for on one connection, and when a call is one of these."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.volvox.runtimes.benches import NAME, Oscar, outputs
from tests.volvox.runtimes.oscar.cluster import Fault

RUN = {"settings": {"calls": "run"}}


def test_a_call_is_answered_with_its_files_its_print_and_its_log(run) -> None:
    async def test(bench: Oscar) -> None:
        script = (
            'echo said; echo noted >&2; mkdir "$TMP_OUTPUT_DIR/sub"; cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/sub/a"'
        )
        await bench.deploy(bench.script(script, **RUN))
        call = bench.call("the content")
        (outcome,) = await bench.invoke(call)
        assert (outcome.kind, outcome.exit_code, outcome.printed) == ("", 0, "said\n")
        assert outputs(call) == {"sub/a": "the content"} and call.log is not None
        assert sorted(call.log.read_text().split()) == ["noted", "said"]
        assert bench.server.jobs() == {} and bench.server.objects() == {}

    run(test)


@pytest.mark.parametrize(
    ("script", "kind", "said"),
    [
        ("echo no layers >&2; exit 3", "failed", "exit code 3; it said: no layers"),
        ("sleep 1000 & sleep 1000", "timeout", "it took longer than 1 s"),
        ("kill -9 $$", "memory", "it was killed, as a cluster does with what uses more memory"),
    ],
)
def test_how_it_ended_is_told(run, script: str, kind: str, said: str) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script(script, **RUN))
        outcome = await bench.ask(timeout_seconds=1.0)
        assert outcome.kind == kind and said in outcome.reason
        assert await bench.at_work() == []

    run(test)


@pytest.mark.parametrize("how", [500, 502, "lose"])
def test_one_of_which_nobody_knows_whether_it_ran_may_be_tried_again(run, how: Any) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script("echo fine", **RUN))
        bench.server.faults = [Fault("POST /run", how)]
        assert (await bench.ask()).kind == "gone" and bench.server.asked.count(f"POST /run/{NAME}") == 1
        assert (await bench.ask()).printed == "fine\n"

    run(test)


def test_what_answers_and_is_no_script_of_ours_is_told(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script("echo fine", **RUN))
        bench.server.body(NAME)["script"] = "echo something else"
        outcome = await bench.ask()
        assert outcome.kind == "failed" and "it said: something else" in outcome.reason
        await bench.server_removed(NAME)
        outcome = await bench.ask()
        assert outcome.kind == "transient" and f"/system/services/{NAME}" in outcome.reason

    run(test)


@pytest.mark.parametrize(
    ("seconds", "size", "backend", "route"),
    [(30, 10, "knative", "run"), (61, 10, "knative", "job"), (30, 5 << 20, "knative", "job"), (30, 10, "", "job")],
)
def test_a_call_that_fits_is_waited_for_and_any_other_one_is_a_job(
    run, seconds: float, size: int, backend: str, route: str
) -> None:
    async def test(bench: Oscar) -> None:
        bench.server.config["serverless_backend"] = backend
        await bench.deploy(bench.script("echo fine", settings={}))
        assert (await bench.ask("x" * size, timeout_seconds=float(seconds))).printed == "fine\n"
        assert [line for line in bench.server.asked if line.startswith(("POST /run", "POST /job"))] == [
            f"POST /{route}/{NAME}"
        ]

    run(test)


def test_many_at_once(run) -> None:
    async def test(bench: Oscar) -> None:
        await bench.deploy(bench.script('cat "$INPUT_FILE_PATH"', scaling={"max_scale": 5}, **RUN))
        outcomes = await asyncio.gather(*(bench.ask(f"content {n}") for n in range(10)))
        assert [one.printed for one in outcomes] == [f"content {n}" for n in range(10)]

    run(test)
