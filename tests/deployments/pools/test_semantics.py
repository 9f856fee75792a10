"""One suite for every kind of pool: a stage there does what it does here."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.pools.conftest import Pool
from volvox import progress
from volvox.errors import InvalidInput, StageCancelled, StageCrashed, StageFailed


def states(run_id: Any) -> list[str]:
    from prefect.client.orchestration import get_client

    async def ask() -> list[str]:
        async with get_client() as client:
            return [state.name or "" for state in await client.read_flow_run_states(run_id)]

    return asyncio.run(ask())


@contextmanager
def refusing_registry(status: int) -> Iterator[str]:
    """The address of a registry that lets nobody in."""
    code, message = {
        401: ("UNAUTHORIZED", "authentication required"),
        403: ("DENIED", "requested access to the resource is denied"),
    }[status]

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            body = json.dumps({"errors": [{"code": code, "message": message, "detail": ""}]}).encode()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def heard(pool: Pool, what: str, number: int = 0, **more: Any) -> tuple[Any, list[progress.Event]]:
    events: list[progress.Event] = []
    with progress.listening(events.append), progress.stage("standin"):
        return pool.run(what, number, **more), events


def test_a_record_comes_back_and_its_objects_are_those_of_everywhere(pool: Pool, tmp_path: Path) -> None:
    from blocks.store import ObjectStore

    record, events = heard(pool, "work", 1)
    here = asyncio.run(pool.submission("work").stage.fn("work", number=1, store=ObjectStore(address=str(tmp_path))))
    assert record.answer_object == here.answer_object == hashlib.sha256(b"answer 1").hexdigest()
    assert record.version != here.version, "two processes"
    assert pool.submission("work").store.has(record.answer_object)
    told = [event for event in events if event.kind == "advanced"]
    assert {(event.done, event.total, event.unit) for event in told} == {(1, 1, "numbers")}
    assert sum(event.detail["seconds"] for event in events if event.kind == "worked") > 0


def test_what_was_done_is_found_done(pool: Pool) -> None:
    first, _ = heard(pool, "work", 2)
    second, events = heard(pool, "work", 2)
    assert second == first, "the same process made both"
    assert [event.kind for event in events if event.kind == "reused"] == ["reused"]


def test_an_exception_comes_back_with_class_and_message(pool: Pool) -> None:
    with pytest.raises(StageFailed, match=r"ZeroDivisionError: number by zero"):
        pool.run("raise")
    with pytest.raises(InvalidInput, match="the number is odd"):
        pool.run("refuse")


def test_a_step_that_fails_for_a_while_is_tried_again(pool: Pool) -> None:
    assert pool.run("flaky", int(time.time())).version == "2"


def test_a_cancelled_caller_leaves_nothing_behind(pool: Pool) -> None:
    from flows.elsewhere import run_elsewhere

    begun = asyncio.Event()
    runs: list[str] = []

    def hear(event: progress.Event) -> None:
        if event.kind == "noted" and "flow_run" in event.detail:
            runs.append(event.detail["flow_run"])
        if event.kind == "advanced":
            begun.set()

    async def cancel() -> float:
        with progress.listening(hear):
            running = asyncio.ensure_future(run_elsewhere(pool.submission("sleep", 300)))
            await asyncio.wait_for(begun.wait(), 60)
            running.cancel()
            began = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await running
            return time.monotonic() - began

    assert asyncio.run(cancel()) < 15
    assert states(runs[0])[-1] == "Cancelled"
    assert pool.jobs_of(runs[0]) == [], "no process, container, pod or task of it"


def test_a_run_that_is_cancelled_in_prefect_says_so(pool: Pool) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    from flows.elsewhere import run_elsewhere

    async def cancel() -> None:
        begun: asyncio.Queue[str] = asyncio.Queue()
        runs: list[str] = []

        def hear(event: progress.Event) -> None:
            if event.kind == "noted" and "flow_run" in event.detail:
                runs.append(event.detail["flow_run"])
            if event.kind == "advanced":
                begun.put_nowait(runs[0])

        with progress.listening(hear):
            running = asyncio.ensure_future(run_elsewhere(pool.submission("sleep", 301)))
            run_id = await asyncio.wait_for(begun.get(), 60)
            async with get_client() as client:
                await client.set_flow_run_state(run_id, Cancelling())  # pyright: ignore[reportArgumentType]
            with pytest.raises(StageCancelled, match="was cancelled"):
                await asyncio.wait_for(running, 20)

    asyncio.run(cancel())


def test_a_stage_that_is_under_way_is_joined_not_begun_again(pool: Pool) -> None:
    from flows.elsewhere import run_elsewhere

    async def both() -> tuple[Any, Any]:
        begun = asyncio.Event()
        with progress.listening(lambda event: begun.set() if event.kind == "advanced" else None):
            first = asyncio.ensure_future(run_elsewhere(pool.submission("sleep", 3)))
            await asyncio.wait_for(begun.wait(), 60)
            return await run_elsewhere(pool.submission("sleep", 3)), await first

    one, other = asyncio.run(asyncio.wait_for(both(), 90))
    assert one.version == other.version, "one process"


def test_out_of_memory_is_told_as_such(pool: Pool) -> None:
    if pool.kind == "process":
        pytest.skip("a process has the memory of its machine")
    had = 2048 if pool.kind == "ecs" else 300  # Fargate's least beside one CPU
    with pytest.raises(StageCrashed, match=rf"[Oo]ut of memory: the .* had {had} MB"):
        pool.run("memory", 3000, job_variables=pool.memory(300))


def test_an_image_that_does_not_exist_is_told_within_seconds(pool: Pool) -> None:
    if pool.kind == "process":
        pytest.skip("a process has no image")
    began = time.monotonic()
    with pytest.raises(StageCrashed, match=r"[Ii]mage .*never-made.* was not found"):
        pool.run("work", 3, job_variables={"image": "127.0.0.1:5000/never-made:1"})
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_refuses_is_told_with_what_to_do(pool: Pool, status: int) -> None:
    if pool.kind == "process":
        pytest.skip("a process has no image")
    if pool.kind == "ecs" and status == 403:
        pytest.skip("what stands for ECS here calls that an image that is not there")
    with refusing_registry(status) as registry:
        remedy = {
            "docker": f"`docker login {registry}`",
            "kubernetes": "image_pull_secrets",
            "ecs": "execution_role_arn",
        }
        began = time.monotonic()
        # Docker cannot tell 403 from an image that does not exist, and says so, below Kubernetes too; then the sentence
        # names both remedies.
        hidden = r"|not found: .*pull access denied .*if it is there" if pool.kind != "ecs" and status == 403 else ""
        said = rf"[Ii]mage .*private:1 was (refused by its registry{hidden})"
        with pytest.raises(StageCrashed, match=said) as caught:
            pool.run("work", 3, job_variables={"image": f"{registry}/private:1"})
        assert time.monotonic() - began < 30
        assert remedy[pool.kind] in str(caught.value)


def test_what_is_killed_goes_on_from_its_newest_checkpoint(pool: Pool) -> None:
    from flows.elsewhere import run_elsewhere

    runs: list[str] = []
    steps: list[tuple[str, int]] = []

    async def kill() -> Any:
        far = asyncio.Event()

        def hear(event: progress.Event) -> None:
            if "flow_run" in event.detail:
                runs.append(event.detail["flow_run"])
            if event.kind == "advanced":
                steps.append((runs[-1], int(event.done)))
                if event.done >= 10:
                    far.set()

        with progress.listening(hear):
            running = asyncio.ensure_future(run_elsewhere(pool.submission("learn", 7, tries=2)))
            await asyncio.wait_for(far.wait(), 60)
            await asyncio.to_thread(pool.kill, runs[0])
            return await asyncio.wait_for(running, 150)

    record = asyncio.run(kill())
    assert len(set(runs)) == 2, "killed, and run again"
    assert record.answer_object == hashlib.sha256(b"7 after 24").hexdigest()
    # A bucket has what had not changed for half a second.
    assert int(record.version) >= (10 if pool.submission("learn").store.address.startswith("/") else 5)
    assert not any(run == runs[-1] and step <= int(record.version) for run, step in steps), "no step was made twice"


def test_what_vanishes_is_run_again_and_then_told(pool: Pool) -> None:
    from flows.elsewhere import run_elsewhere

    async def vanish() -> None:
        runs: asyncio.Queue[str] = asyncio.Queue()
        current: list[str] = []

        def hear(event: progress.Event) -> None:
            if event.kind == "noted" and "flow_run" in event.detail:
                current.append(event.detail["flow_run"])
            if event.kind == "advanced" and (not killed or killed[-1] != current[-1]):
                killed.append(current[-1])
                runs.put_nowait(current[-1])

        killed: list[str] = []
        with progress.listening(hear):
            running = asyncio.ensure_future(run_elsewhere(pool.submission("sleep", 302, tries=2)))
            for _ in range(2):
                await asyncio.to_thread(pool.vanish, await asyncio.wait_for(runs.get(), 150))
            with pytest.raises(
                StageCrashed, match=r"was removed|No sign of life|status code:? -9|ended (by|from outside)"
            ):
                await asyncio.wait_for(running, 100)
        assert len(set(killed)) == 2

    asyncio.run(vanish())
