from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.volvox.infrastructure.engines import IMAGE, eventually
from volvox.errors import Unavailable
from volvox.infrastructure.docker import DockerEngine, read_container
from volvox.infrastructure.jobs import Job


def inspected(**state: Any) -> dict[str, Any]:
    return {
        "Id": "abc", "Name": "/happy-pig", "Created": "2030-01-01T00:00:00.123456789Z",
        "State": {"StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z", **state},
        "Config": {"Labels": {"io.prefect.flow-run-id": "r", "io.prefect.work-pool-id": "p"}},
        "HostConfig": {"Memory": 512 * 2**20},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("state", "told", "reason", "said"),
    [
        ({"Status": "running"}, "running", "", ""),
        ({"Status": "created"}, "starting", "", ""),
        ({"Status": "exited", "ExitCode": 0}, "ended", "", ""),
        ({"Status": "exited", "ExitCode": 1}, "ended", "error", "exit code 1"),
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, "ended", "out_of_memory", "had 512 MB"),
        ({"Status": "exited", "ExitCode": 137}, "ended", "error", "SIGKILL"),
        ({"Status": "created", "ExitCode": 127, "Error": "exec: nope: not found"}, "ended", "error", "nope"),
    ],
)
def test_what_a_container_says(state: dict[str, Any], told: str, reason: str, said: str) -> None:
    job = read_container(inspected(**state), "http+docker://localhost")
    assert (job.state, job.reason, job.run_id, job.pool_id) == (told, reason, "r", "p")
    assert said in job.message
    assert job.identifier == "http+docker://localhost:abc", "as Prefect's worker writes it"
    assert job.name == "container happy-pig"
    assert job.created is not None and job.started is None


def test_an_engine_that_does_not_answer_is_unavailable() -> None:
    engine = DockerEngine("tcp://127.0.0.1:1")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        asyncio.run(engine.jobs())
    assert "does not answer" in asyncio.run(engine.why_not())


# -- the engine ------------------------------------------------------------------------------------------------------

Start = Callable[..., str]


@pytest.fixture
def start(docker: None) -> Iterator[Start]:
    """Start a container as Prefect's worker would: `start(code, **options)` -> id of its run."""
    import docker as sdk

    client, made = sdk.from_env(), []

    def start(code: str, *, begin: bool = True, **options: Any) -> str:
        run = str(uuid.uuid4())
        labels = {"io.prefect.flow-run-id": run, "io.prefect.work-pool-id": "pool"}
        command = options.pop("command", ["python", "-uc", code])
        container = client.containers.create(IMAGE, command, labels=labels, name=f"volvox-test-{run[:8]}", **options)
        made.append(container)
        if begin:
            container.start()
        return run

    yield start
    for container in made:
        with contextlib.suppress(sdk.errors.NotFound):
            container.remove(force=True)
    client.close()


def with_engine(use: Callable[[DockerEngine], Any]) -> Any:
    async def using() -> Any:
        engine = DockerEngine()
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(using())


def here(run: str) -> bool:
    import docker as sdk

    return bool(sdk.from_env().containers.list(all=True, filters={"label": f"io.prefect.flow-run-id={run}"}))


def container_of(run: str) -> Any:
    import docker as sdk

    (found,) = sdk.from_env().containers.list(all=True, filters={"label": f"io.prefect.flow-run-id={run}"})
    return found


@pytest.mark.docker
def test_a_container_is_seen_asked_to_end_and_removed(start: Start) -> None:
    run = start(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nprint('up')\ntime.sleep(600)"
    )

    assert next(iter(container_of(run).logs(stream=True))) == b"up\n"

    async def use(engine: DockerEngine) -> None:
        job = await eventually(engine, run, lambda job: job.state == "running")
        began = time.monotonic()
        await engine.end(job, 20)
        assert time.monotonic() - began < 10, "it listens to SIGTERM"
        assert all(job.run_id != run for job in await engine.jobs())
        await engine.end(job, 20)  # a second time there is nothing to do

    with_engine(use)
    assert not here(run)


@pytest.mark.docker
def test_a_container_that_does_not_listen_is_ended_by_force(start: Start) -> None:
    run = start("import time; time.sleep(600)")  # as the first process of a container Python ignores SIGTERM

    async def use(engine: DockerEngine) -> float:
        job = await eventually(engine, run, lambda job: job.state == "running")
        began = time.monotonic()
        await engine.end(job, 1)
        return time.monotonic() - began

    assert with_engine(use) < 5
    assert not here(run)


@pytest.mark.docker
def test_the_engine_tells_that_memory_ran_out(start: Start) -> None:
    run = start("print('filling'); x = bytearray(10**9)", mem_limit="32m", memswap_limit="32m")
    job = with_engine(lambda engine: eventually(engine, run, lambda job: not job.live))
    assert (job.reason, job.exit_code) == ("out_of_memory", 137)
    assert "the container had 32 MB" in job.message


@pytest.mark.docker
def test_the_last_lines_are_kept(start: Start) -> None:
    run = start("import nothing_of_that_name")
    job: Job = with_engine(lambda engine: eventually(engine, run, lambda job: not job.live))
    assert (job.reason, job.exit_code) == ("error", 1)
    assert "No module named 'nothing_of_that_name'" in job.message
    assert "Traceback" in job.output


@pytest.mark.docker
def test_a_container_that_cannot_be_started_says_why(start: Start) -> None:
    import docker as sdk

    run = start("", begin=False, command=["no-such-command"])
    with pytest.raises(sdk.errors.APIError):
        container_of(run).start()
    job = with_engine(lambda engine: eventually(engine, run, lambda job: not job.live))
    assert job.reason == "error"
    assert "no-such-command" in job.message


@pytest.mark.docker
def test_a_removed_container_is_not_shown(start: Start) -> None:
    run = start("import time; time.sleep(600)")

    async def use(engine: DockerEngine) -> None:
        await eventually(engine, run, lambda job: job.live)
        container_of(run).remove(force=True)
        assert all(job.run_id != run for job in await engine.jobs())

    with_engine(use)
