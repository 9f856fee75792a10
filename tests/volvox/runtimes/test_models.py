"""What every runtime does with a function that is a model."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.volvox.runtimes.benches import NAME, Bench, outputs
from tests.volvox.runtimes.conftest import Run
from volvox.errors import InvalidInput, ModuleFailed, NotFound
from volvox.runtimes import Call, Runtime

MODELS = True


def answered(call: Call) -> dict:
    """The model's answer to a call."""
    (text,) = outputs(call).values()
    return json.loads(text)["predictions"]


def test_it_is_a_runtime(run: Run) -> None:
    async def test(bench: Bench) -> None:
        assert isinstance(bench.runtime, Runtime) and bench.runtime.name == bench.name
        assert (await bench.status()).state == "absent"
        with pytest.raises(NotFound, match=NAME):
            await bench.ask()

    run(test)


def test_a_call_is_answered_and_its_answer_is_a_file_of_compact_json(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        call = bench.call(name="sub/ü b+%2F.png", arguments={"top": 2})
        (outcome,) = await bench.invoke(call)
        assert (outcome.job, outcome.kind, outcome.reason) == (call.job, "", "")
        ((name, text),) = outputs(call).items()
        assert name == "ü b+%2F.png.json" and ": " not in text
        assert answered(call)["version"] == "1" and answered(call)["top"] == 2
        assert answered(call)["name"] == "ü b+%2F.png"
        assert 0 < outcome.seconds < 5 and bool(outcome.started_seconds) != bench.keeps

    shared(test)


@pytest.mark.inside
def test_what_is_no_json_is_kept_as_it_came(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        call = bench.call("binary", name="a.png")
        assert (await bench.invoke(call))[0].kind == ""
        assert call.output is not None and (call.output / "a.png.bin").read_bytes() == b"\x89raw"

    shared(test)


def test_deployed_twice_nothing_changes_and_a_dispatcher_that_was_killed_goes_on(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.function())
        before = await bench.until(lambda status: bool(status.instances) == bench.keeps)
        await bench.deploy(bench.function())
        after = await bench.status()
        assert [one.id for one in after.instances] == [one.id for one in before.instances]
        assert after.version == bench.function().version and after.state == "ready"
        again = bench.made()
        try:
            assert (await again.status(NAME)).version == after.version
            call = bench.call()
            assert (await again.invoke(NAME, [call]))[0].kind == "" and answered(call)["version"] == "1"
        finally:
            await again.close()

    run(test)


def test_calls_that_come_together_are_answered_together(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        blocking = asyncio.create_task(bench.ask("sleep 0.5"))
        await asyncio.sleep(0.1)
        calls = [bench.call() for _ in range(6)]
        more = [bench.call() for _ in range(2)]
        found = await asyncio.gather(bench.invoke(*calls), *(bench.invoke(call) for call in more))
        assert all(outcome.kind == "" for outcomes in found for outcome in outcomes)
        assert (max(answered(call)["batch"] for call in calls) > 1) == bench.together
        assert [outcome.job for outcome in found[0]] == [call.job for call in calls]
        assert (await blocking).kind == ""

    shared(test)


@pytest.mark.inside
def test_one_bad_file_of_several_harms_no_other(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        found = await bench.invoke(*(bench.call(text) for text in ("fine", "refuse", "raise", "fine")))
        assert [outcome.kind for outcome in found] == ["", "refused", "failed", ""]
        assert "Not an image." in found[1].reason and "no such layer" in found[2].reason
        assert (await bench.ask(arguments={"top": "many"})).kind == "refused"
        assert (await bench.ask(arguments={"nothing": 1})).kind == "refused"

    shared(test)


@pytest.mark.inside
def test_it_scales_to_many_and_to_none_and_starts_again_when_it_is_called(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.function(scaling={"max_scale": 3}))
        await bench.runtime.scale(NAME, 2)
        status = await bench.until(lambda status: len(status.instances) == (2 if bench.keeps else 0))
        version = bench.function(scaling={"max_scale": 3}).version
        assert {one.version for one in status.instances} == ({version} if bench.keeps else set())
        calls = [bench.call("sleep 0.5") for _ in range(2)]
        found = await asyncio.gather(*(bench.invoke(call) for call in calls))
        assert len({answered(call)["pid"] for call in calls}) == 2 or bench.name != "local"
        assert [bool(outcome.started_seconds) for (outcome,) in found] == [not bench.keeps] * 2
        with pytest.raises(InvalidInput, match="max_scale"):
            await bench.runtime.scale(NAME, 4)
        await bench.runtime.scale(NAME, 0)
        status = await bench.until(lambda status: not status.instances)
        # One that Lambda keeps warm, from a test before, is not a cold start.
        assert status.state == "ready" and (status.cold_start_seconds or not bench.ends_when_told)
        outcome = await bench.ask()
        assert outcome.kind == "" and (outcome.started_seconds > 0.01 or not bench.ends_when_told)

    run(test)


@pytest.mark.inside
def test_one_that_has_nothing_to_do_ends_and_calls_that_wait_have_another_one_started(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.function(scaling={"max_scale": 2, "idle_seconds": 1, "batch": 1}))
        asked = [asyncio.create_task(bench.ask("sleep 20", timeout_seconds=200)) for _ in range(2)]
        busy = ["busy", "busy"] if bench.grows else ["busy"]
        await bench.until(lambda status: [one.state for one in status.instances] == busy)
        for one in asked:
            one.cancel()
        await asyncio.wait(asked)
        await bench.until(lambda status: not status.instances)

    run(test)


def test_a_new_version_takes_over_under_load_without_a_failed_call_and_without_a_late_old_answer(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.function("1"))
        over = asyncio.Event()
        calls: list[tuple[Call, float, str, str]] = []

        async def load() -> None:
            while not over.is_set():
                call = bench.call("sleep 0.02")
                (outcome,) = await bench.invoke(call)
                calls.append((call, time.monotonic(), outcome.kind, outcome.reason))

        async def steady() -> None:  # calls that do not wait for the ones before them
            while not over.is_set():
                call = bench.call("sleep 0.01")
                tasks.append(asyncio.create_task(bench.invoke(call)))
                tasks[-1].add_done_callback(
                    lambda done, call=call: calls.append(
                        (call, time.monotonic(), done.result()[0].kind, done.result()[0].reason)
                    )
                )
                await asyncio.sleep(bench.pace)

        tasks: list[asyncio.Task] = []
        loads = [asyncio.create_task(load()) for _ in range(3)] + [asyncio.create_task(steady())]
        await asyncio.sleep(0.5)
        await bench.deploy(bench.function("2"))
        switched = time.monotonic()
        await asyncio.sleep(0.5)
        over.set()
        await asyncio.gather(*loads)
        await asyncio.gather(*tasks)
        assert [one for one in calls if one[2]] == []
        late = [call for call, at, _, _ in calls if at > switched and answered(call)["version"] == "1"]
        assert not late and answered(calls[0][0])["version"] == "1" and answered(calls[-1][0])["version"] == "2"
        version = {bench.function("2").version} if bench.keeps else set()
        await bench.until(lambda status: {one.version for one in status.instances} == version)

    run(test)


def test_a_version_that_does_not_start_or_answer_leaves_the_one_before(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.function("1"))
        with pytest.raises(ModuleFailed, match="cannot be read"):
            await bench.deploy(bench.function("broken"))
        bench.models.sample = "raise"
        with pytest.raises(ModuleFailed, match="no such layer"):
            await bench.deploy(bench.function("2"))
        bench.models.sample = "fine"
        with pytest.raises(InvalidInput, match="no argument nothing"):
            await bench.deploy(bench.function("2", arguments={"nothing": 1}))
        with pytest.raises(NotFound):
            await bench.deploy(bench.function(model="another/1"))
        call = bench.call()
        assert (await bench.invoke(call))[0].kind == "" and answered(call)["version"] == "1"
        status = await bench.status()
        assert status.state == "ready" and status.version == bench.function("1").version

    run(test)


def test_a_crash_is_told_as_gone_and_the_next_call_is_answered(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        outcome = await bench.ask("crash")
        assert outcome.kind == "gone" and outcome.reason
        assert (await bench.ask()).kind == ""

    shared(test)


def test_a_call_that_hangs_is_ended_with_its_process(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        began = time.monotonic()
        outcome = await bench.ask("hang", timeout_seconds=0.5)
        assert outcome.kind == "timeout" and bench.limit(0.5) in outcome.reason
        assert time.monotonic() - began < bench.soon
        assert (await bench.ask()).kind == ""

    shared(test)


def test_a_call_that_is_cancelled_is_interrupted_and_others_go_on(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        asked = asyncio.create_task(bench.ask("sleep 20"))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled() and (await bench.ask()).kind == "" and time.monotonic() - began < bench.soon

    shared(test)


@pytest.mark.inside
def test_one_that_uses_more_memory_than_it_may_is_ended(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.function("2", resources={"memory_mb": 300}))
        outcome = await bench.ask("eat")
        assert outcome.kind == "memory" and "memory" in outcome.reason
        assert (await bench.ask()).kind == ""

    run(test)


@pytest.mark.inside
def test_what_it_prints_is_in_the_call_s_log_and_in_the_function_s(shared: Run) -> None:
    async def test(bench: Bench) -> None:
        call = bench.call("print a line")
        await bench.invoke(call)
        await bench.ask("print another")
        lines = [line async for line in bench.runtime.logs(NAME)]
        assert "seen: a line" in "\n".join(lines) and "seen: another" in "\n".join(lines)
        if bench.name == "local":
            assert call.log is not None and call.log.read_text() == "seen: a line\n"

    shared(test)


def test_removed_nothing_is_left_and_removing_again_does_nothing(run: Run) -> None:
    async def test(bench: Bench) -> None:
        await bench.deploy(bench.function())
        asked = asyncio.create_task(bench.ask("sleep 100", timeout_seconds=200))
        await asyncio.sleep(0.3)
        await bench.runtime.remove(NAME)
        await bench.runtime.remove(NAME)
        assert (await asked).kind == "cancelled"
        assert (await bench.status()).state == "absent"
        with pytest.raises(NotFound):
            await bench.ask()

    run(test)
