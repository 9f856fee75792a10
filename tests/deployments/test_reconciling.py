"""The reconciler between a real Prefect server and an engine that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from deployments.reconciling import Reconciler
from tests.deployments.test_apply import asked
from volvox.errors import Unavailable
from volvox.infrastructure.jobs import Job
from volvox.settings import Home

POOL = "test-engine"
OOM = "out of memory: the container had 512 MB; give the pool or the stage more (memory_mb)"


class StandinEngine:
    """An engine whose jobs are those that a test puts there."""

    kind = "docker"

    def __init__(self) -> None:
        self.there: dict[str, Job] = {}
        self.ended: list[tuple[str, float]] = []
        self.problem: Exception | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.on_end: Callable[[Job], Awaitable[None]] | None = None
        self.keeps_ended = False

    async def jobs(self) -> list[Job]:
        if self.problem:
            raise self.problem
        return list(self.there.values())

    async def end(self, job: Job, grace_seconds: float) -> None:
        self.ended.append((job.identifier, grace_seconds))
        await self.may_end.wait()
        if self.on_end:
            await self.on_end(job)
        if self.keeps_ended:
            self.there[job.identifier] = replace(job, state="ended", exit_code=143)
        else:
            self.there.pop(job.identifier, None)

    def covers(self, identifier: str) -> bool:
        return identifier.startswith("http")

    async def why_not(self) -> str:
        return ""

    async def close(self) -> None:
        pass


class Scene:
    """A pool of the server, an engine, and the reconciler between them."""

    def __init__(self, client: Any, pool_id: str) -> None:
        self.client, self.pool_id = client, pool_id
        self.engine, self.told, self.submitting = StandinEngine(), list[str](), set[UUID]()
        self.reconciler = Reconciler(
            client, self.engine, [POOL], submitting=lambda: self.submitting, workers=["here"], tell=self.told.append
        )

    async def run(self, state: str, identifier: str = "", worker: str = "", **policy: Any) -> UUID:
        flow = await self.client.create_flow_from_name("a-stage")
        body: dict[str, Any] = {"flow_id": str(flow), "state": {"type": state}, "work_pool_name": POOL}
        response = await self.client.request("POST", "/flow_runs/", json=body | policy)
        run_id = UUID(response.json()["id"])
        if identifier:
            await self.client.update_flow_run(run_id, infrastructure_pid=identifier)
        if worker:
            await self.client.update_flow_run_labels(run_id, {"prefect.worker.name": worker})
        return run_id

    def job(self, run: UUID, state: str = "running", pool: str = "", **rest: Any) -> Job:
        identifier = f"http+docker://localhost:{uuid4().hex}"
        job = Job(str(run), identifier, "container c", state, pool_id=pool or self.pool_id, **rest)  # type: ignore[arg-type]
        self.engine.there[identifier] = job
        return job

    async def identify(self, run: UUID, job: Job) -> None:
        await self.client.update_flow_run(run, infrastructure_pid=job.identifier)

    async def look(self) -> None:
        await self.reconciler.look()
        await self.reconciler.settle()

    async def state(self, run: UUID) -> Any:
        return (await self.client.read_flow_run(run)).state


def in_scene(home: Home, act: Callable[[Scene], Awaitable[None]]) -> None:
    async def play(client: Any) -> None:
        from prefect.client.schemas.actions import WorkPoolCreate

        found = [pool for pool in await client.read_work_pools() if pool.name == POOL]
        pool = found[0] if found else await client.create_work_pool(WorkPoolCreate(name=POOL, type="docker"))
        await act(Scene(client, str(pool.id)))

    asked(home, play)


def test_a_cancelled_run_ends_and_is_called_cancelled_only_then(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        from prefect.states import Cancelling, Crashed

        run = await scene.run("RUNNING")
        job = scene.job(run)
        await scene.identify(run, job)
        await scene.client.set_flow_run_state(run, Cancelling())
        scene.engine.may_end.clear()
        await scene.reconciler.look()
        await scene.reconciler.look()
        await asyncio.sleep(0)
        assert scene.engine.ended == [(job.identifier, 6.0)], "once, though it takes its time"
        assert (await scene.state(run)).is_cancelling()

        async def says_that_it_crashed(_: Job) -> None:  # as Prefect's engine does when it is asked to end
            await scene.client.set_flow_run_state(run, Crashed(message="terminated"), force=True)

        scene.engine.on_end = says_that_it_crashed
        scene.engine.may_end.set()
        await scene.reconciler.settle()
        assert (await scene.state(run)).is_cancelled()
        assert scene.engine.there == {}

    in_scene(prefect_home, act)


def test_a_run_that_was_started_anew_meanwhile_is_not_called_cancelled(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        from prefect.states import Cancelled, Pending, Running, Scheduled

        run = await scene.run("RUNNING")
        job = scene.job(run)
        await scene.identify(run, job)
        await scene.client.set_flow_run_state(run, Cancelled(), force=True)

        async def anew(_: Job) -> None:
            for state in (Scheduled(), Pending(), Running()):
                await scene.client.set_flow_run_state(run, state, force=True)
            await scene.client.update_flow_run(run, infrastructure_pid="http+docker://localhost:new")

        scene.engine.on_end = anew
        await scene.look()
        assert (await scene.state(run)).is_running()

    in_scene(prefect_home, act)


def test_a_dead_job_tells_its_run_the_true_reason(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        run = await scene.run("RUNNING")
        job = scene.job(run, "ended", exit_code=137, reason="out_of_memory", message=OOM)
        await scene.identify(run, job)
        await scene.look()
        state = await scene.state(run)
        assert (state.type.value, state.message) == ("CRASHED", OOM[0].upper() + OOM[1:])
        await scene.look()
        assert scene.engine.there, "it is kept for a moment"

    in_scene(prefect_home, act)


def test_a_generic_message_is_amended_and_a_failure_keeps_its_result(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        from prefect.states import Crashed, Failed

        crashed, failed = await scene.run("RUNNING"), await scene.run("RUNNING")
        generic = "Flow run infrastructure exited with non-zero status code 137. Killed."
        await scene.client.set_flow_run_state(crashed, Crashed(message=generic))
        await scene.client.set_flow_run_state(failed, Failed(message="ModuleFailed: killed"))
        for run in (crashed, failed):
            await scene.identify(run, scene.job(run, "ended", reason="out_of_memory", message=OOM))
        await scene.look()
        assert (await scene.state(crashed)).message == OOM[0].upper() + OOM[1:]
        state = await scene.state(failed)
        assert state.is_failed()
        assert state.message.endswith("512 MB; give the pool or the stage more (memory_mb); ModuleFailed: killed")
        told = len(scene.told)
        await scene.look()
        assert len(scene.told) == told, "once"

    in_scene(prefect_home, act)


def test_a_vanished_job_is_told_and_its_run_is_run_again_if_its_flow_allows(
    prefect_home: Home, monkeypatch: Any
) -> None:
    async def act(scene: Scene) -> None:
        once = await scene.run("RUNNING", "http+docker://localhost:one")
        again = await scene.run("RUNNING", "http+docker://localhost:two", empirical_policy={"retries": 1})
        elsewhere = await scene.run("RUNNING", "another-namespace:job")
        await scene.look()
        assert (await scene.state(once)).is_running(), "it may only just have been made"
        _later(monkeypatch, 5)
        await scene.look()
        assert "container was removed while it ran" in (await scene.state(once)).message
        state = await scene.state(again)
        assert (state.name, state.type.value) == ("AwaitingRetry", "SCHEDULED")
        assert "run again" in state.message
        assert (await scene.state(elsewhere)).is_running()

    in_scene(prefect_home, act)


def test_a_submission_that_nobody_works_on_is_told(prefect_home: Home, monkeypatch: Any) -> None:
    async def act(scene: Scene) -> None:
        lost, pulling = await scene.run("PENDING", worker="here"), await scene.run("PENDING", worker="here")
        other = await scene.run("PENDING", worker="another machine's")
        scene.submitting.add(pulling)
        await scene.look()
        assert (await scene.state(lost)).is_pending()
        _later(monkeypatch, 120)
        await scene.look()
        assert (await scene.state(lost)).is_crashed()
        assert (await scene.state(pulling)).is_pending()
        assert (await scene.state(other)).is_pending()

    in_scene(prefect_home, act)


def test_jobs_of_deleted_runs_end_and_those_of_others_never(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        deleted = scene.job(uuid4())
        others = scene.job(uuid4(), pool=str(uuid4()))
        await scene.look()
        assert [identifier for identifier, _ in scene.engine.ended] == [deleted.identifier]
        assert list(scene.engine.there) == [others.identifier]

    in_scene(prefect_home, act)


def test_an_engine_that_does_not_answer_changes_nothing_and_is_told_once(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        run = await scene.run("RUNNING", "http+docker://localhost:one")
        scene.engine.problem = Unavailable("the container engine did not list containers")
        watching = asyncio.create_task(scene.reconciler.forever())
        for _ in range(20):
            scene.reconciler.look_now()
            await asyncio.sleep(0.05)
        assert scene.told == [
            "docker: the container engine did not list containers; nothing is changed until it answers"
        ]
        scene.engine.problem = None
        while len(scene.told) < 2:
            scene.reconciler.look_now()
            await asyncio.sleep(0.05)
        assert scene.told[1] == "docker: answers again"
        assert (await scene.state(run)).is_running()
        watching.cancel()

    in_scene(prefect_home, act)


def test_an_ended_job_that_the_engine_keeps_showing_is_ended_once(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        from prefect.states import Cancelling

        scene.engine.keeps_ended = True  # as ECS shows a stopped task for an hour
        run = await scene.run("RUNNING")
        await scene.identify(run, scene.job(run))
        await scene.client.set_flow_run_state(run, Cancelling())
        for _ in range(3):
            await scene.look()
        assert len(scene.engine.ended) == 1
        assert (await scene.state(run)).is_cancelled()

    in_scene(prefect_home, act)


def _later(monkeypatch: Any, seconds: float) -> None:
    """The reconciler's clock, put forward."""

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz or UTC) + timedelta(seconds=seconds)

    monkeypatch.setattr("deployments.reconciling.datetime", Later)
