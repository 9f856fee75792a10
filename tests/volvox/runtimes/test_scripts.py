"""What every runtime that has images does with a function that is a script."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.volvox.runtimes.benches import NAME, Bench, outputs
from tests.volvox.runtimes.conftest import Run
from volvox.errors import InvalidInput
from volvox.runtimes import Call, Outcome


async def answered(bench: Bench, script: str, call: Call | None = None, **more) -> tuple[Call, Outcome]:
    """What becomes of one call of a script."""
    await bench.deploy(bench.script(script, **more))
    call = call or bench.call()
    return call, (await bench.invoke(call))[0]


@pytest.mark.inside
def test_a_script_finds_what_that_of_scar_and_oscar_found(run: Run) -> None:
    script = """#!/bin/sh
cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/content"
mkdir -p "$TMP_OUTPUT_DIR/sub/folder"
cat > "$TMP_OUTPUT_DIR/sub/folder/stdin"
cat "$EVENT_FILE_PATH" > "$TMP_OUTPUT_DIR/event-file"
for name in STORAGE_OBJECT_KEY STORAGE_OBJECT_FOLDER EVENT EVENT_TIME REQUEST_ID JOB_UUID OSCAR_SERVICE_NAME OWN \
ARGUMENT_TOP; do
    eval "printf '%s=%s\\n' $name \\"\\$$name\\""
done > "$TMP_OUTPUT_DIR/variables"
basename "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/name"
test "$INPUT_FILE_PATH" = "$SCAR_INPUT_FILE" && test "$TMP_OUTPUT_DIR" = "$SCAR_OUTPUT_DIR"
test "$(dirname "$INPUT_FILE_PATH")" = "$TMP_INPUT_DIR"
"""

    async def test(bench: Bench) -> None:
        event = json.dumps({"Records": [{"s3": {"object": {"key": "in/user/ü b'\".png"}}}]})
        call = bench.call(
            "the content", name="user/sub/ü b'\"$(id).png", event=event, event_time="2026-11-26T12:00:00Z",
            arguments={"top": 5},
        )  # fmt: skip
        call, outcome = await answered(bench, script, call, environment={"OWN": "a b"})
        assert (outcome.kind, outcome.exit_code, outcome.reason) == ("", 0, "")
        found = outputs(call)
        assert found["content"] == "the content" and found["sub/folder/stdin"] == found["event-file"] == event
        assert found["name"] == "ü b'\"$(id).png\n"
        variables = dict(line.split("=", 1) for line in found["variables"].splitlines())
        assert variables == {
            "STORAGE_OBJECT_KEY": call.key, "STORAGE_OBJECT_FOLDER": "user/sub", "EVENT": event,
            "EVENT_TIME": "2026-11-26T12:00:00Z", "REQUEST_ID": call.job, "JOB_UUID": call.job,
            "OSCAR_SERVICE_NAME": NAME, "OWN": "a b", "ARGUMENT_TOP": "5",
        }  # fmt: skip

    run(test)


@pytest.mark.inside
def test_its_own_interpreter_line_counts_and_one_without_goes_to_sh(run: Run) -> None:
    scripts = {
        "#!/usr/bin/env python3\nprint(6 * 7)\n": "42\n",
        "#!/bin/sh -u\r\necho $((40 + 2))\r\n": "42\n",
        "echo plain\n": "plain\n",
    }

    async def test(bench: Bench) -> None:
        for script, printed in scripts.items():
            call, outcome = await answered(bench, script)
            assert (outcome.kind, outcome.printed, outputs(call)) == ("", printed, {})

    run(test)


def test_a_command_without_a_script(run: Run) -> None:
    async def test(bench: Bench) -> None:
        _, outcome = await answered(bench, "", command=("/bin/echo", "a  b"))
        assert (outcome.kind, outcome.printed) == ("", "a  b\n")

    run(test)


@pytest.mark.inside
def test_what_it_says_by_its_exit_code_is_obeyed(run: Run) -> None:
    async def test(bench: Bench) -> None:
        _, outcome = await answered(bench, "echo halfway > $TMP_OUTPUT_DIR/a; echo no layers >&2; exit 3")
        assert (outcome.kind, outcome.exit_code) == ("failed", 3)
        assert "exit code 3" in outcome.reason and "no layers" in outcome.reason
        _, outcome = await answered(bench, "kill -SEGV $$")
        assert (outcome.kind, outcome.exit_code) == ("failed", 139)
        _, outcome = await answered(bench, "#!/no/such/interpreter\n")
        assert (outcome.kind, outcome.exit_code) == ("failed", 127) and "/no/such/interpreter" in outcome.reason

    run(test)


def test_its_log_is_there_while_it_runs(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.script("echo begun; echo said >&2; sleep 3; echo over"))
        call = bench.call()
        asked = asyncio.create_task(bench.invoke(call))
        deadline, seen = time.monotonic() + 10, ""
        while bench.live_log and "begun" not in seen and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            seen = call.log.read_text() if call.log and call.log.exists() else ""
        if bench.live_log:
            assert "begun" in seen
        assert "over" not in seen and not asked.done()
        await bench.until(lambda status: len(status.instances) == 1)
        assert (await asked)[0].kind == "" and call.log is not None
        assert {"begun", "over", "said"} <= set(call.log.read_text().split())  # also why it had to wait
        assert sorted([line async for line in bench.runtime.logs(NAME)]) == ["begun", "over", "said"]

    run(test)


def test_one_that_hangs_is_ended_with_all_that_it_started(run: Run) -> None:
    async def test(bench: Bench) -> None:
        script = "trap '' TERM\n(trap '' TERM; setsid sleep 1000 &)\nsleep 1000 &\nwait\n"
        began = time.monotonic()
        _, outcome = await answered(bench, script, bench.call(timeout_seconds=1.0))
        assert outcome.kind == "timeout" and bench.limit(1.0) in outcome.reason
        assert time.monotonic() - began < 2 * bench.soon
        assert await bench.at_work() == []
        _, outcome = await answered(bench, "sleep 1000 & echo left behind")
        assert outcome.kind == "" and await bench.at_work() == []

    run(test)


@pytest.mark.inside
def test_one_that_eats_memory_is_ended_and_that_is_said(run: Run) -> None:
    async def test(bench: Bench) -> None:
        script = (
            "#!/usr/bin/env python3\nimport os, time\nheld = []\n"
            "while True:\n    held.append(os.urandom(1 << 20) * 8)\n    time.sleep(0.01)\n"
        )
        _, outcome = await answered(bench, script, resources={"memory_mb": 100})
        assert outcome.kind == "memory" and "memory" in outcome.reason

    run(test)


@pytest.mark.inside
def test_a_thousand_files_are_kept_with_their_folders_and_links_that_leave_are_not(run: Run) -> None:
    script = """cd "$TMP_OUTPUT_DIR"
mkdir d0 d1
i=0
while [ $i -lt 1000 ]; do : > d$((i % 2))/$i; i=$((i + 1)); done
ln -s /etc/passwd stolen
ln -s d1 folder
mkfifo pipe
"""

    async def test(bench: Bench) -> None:
        call, outcome = await answered(bench, script)
        assert outcome.kind == "" and sum(name.startswith("d") for name in outputs(call)) == 1000
        said = " / ".join(outcome.notes)
        assert "stolen is a link that leaves" in said and "pipe is no file" in said and "folder is a link" in said

    run(test)


@pytest.mark.inside
def test_a_large_event_comes_by_standard_input_and_as_a_file(run: Run) -> None:
    async def test(bench: Bench) -> None:
        event = json.dumps({"Records": ["x" * 300_000]})
        script = 'wc -c < "$EVENT_FILE_PATH"; wc -c; echo "${EVENT:-none}"'
        _, outcome = await answered(bench, script, bench.call(event=event))
        assert outcome.printed.split() == [str(len(event)), str(len(event)), "none"]

    run(test)


def test_a_call_that_is_cancelled_ends_and_so_do_those_of_a_function_that_is_removed(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.script("sleep 1000 & wait", scaling={"max_scale": 2}))
        first, second = (asyncio.create_task(bench.ask()) for _ in range(2))
        await bench.until(lambda status: [one.state for one in status.instances] == ["busy", "busy"])
        await asyncio.sleep(0.5)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled() and len((await bench.status()).instances) == 1
        await bench.runtime.remove(NAME)
        assert (await second).kind == "cancelled"
        assert await bench.left() == []

    run(test)


def test_only_so_many_run_at_a_time_and_a_new_version_waits_for_those_before(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.script("echo one; sleep 1"))
        asked = [asyncio.create_task(bench.ask()) for _ in range(2)]
        await bench.until(lambda status: len(status.instances) == 1)
        await asyncio.sleep(0.2)
        assert len((await bench.status()).instances) == 1
        await bench.deploy(bench.script("echo two"))
        assert all(task.done() and task.result().printed == "one\n" for task in asked)
        assert (await bench.ask()).printed == "two\n"
        again = bench.made()
        assert (await again.status(NAME)).version == bench.script("echo two").version
        await again.close()

    run(test)


@pytest.mark.inside
def test_a_secret_that_nobody_can_read_is_refused(run: Run) -> None:
    async def test(bench: Bench) -> None:
        named = {"TOKEN": "{{ prefect.blocks.secret.TOKEN }}"}
        _, outcome = await answered(bench, "echo $TOKEN", environment=named)
        assert outcome.kind == "refused" and "TOKEN" in outcome.reason

    run(test)


@pytest.mark.inside
def test_a_script_runs_as_a_plain_process_only_where_that_is_asked_for(run: Run) -> None:
    async def test(bench: Bench) -> None:
        if bench.name == "local":
            with pytest.raises(InvalidInput, match="as_process"):
                await bench.deploy(bench.script("echo", settings={}))
        else:
            await bench.deploy(bench.script("echo"))

    run(test)
