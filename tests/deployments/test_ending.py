"""`volvox down` with jobs on an engine that does as it is told."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner

from deployments import ending
from tests.deployments.test_reconciling import POOL, Scene, in_scene
from volvox.errors import Unavailable
from volvox.infrastructure.jobs import Job
from volvox.settings import Home


def test_jobs_of_our_pools_end_and_their_runs_are_cancelled(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        from prefect.states import Crashed

        run, done = await scene.run("RUNNING"), await scene.run("COMPLETED")
        scene.job(run)
        scene.job(done, state="ended")
        others = scene.job(uuid4(), pool=str(uuid4()))

        async def says_that_it_crashed(job: Job) -> None:  # as Prefect's engine does when it is asked to end
            if job.run_id == str(run):
                assert (await scene.state(run)).is_cancelling(), "who waits for it must not run it again"
                await scene.client.set_flow_run_state(run, Crashed(message="terminated"), force=True)

        scene.engine.on_end = says_that_it_crashed
        told = await ending.end_on(scene.engine, {scene.pool_id: POOL}, scene.client)
        assert told == [f"container c of flow run {(await scene.client.read_flow_run(run)).name} on pool {POOL!r}"]
        assert list(scene.engine.there) == [others.identifier]
        state = await scene.state(run)
        assert state.is_cancelled()
        assert "volvox down" in state.message
        assert (await scene.state(done)).is_completed()

    in_scene(prefect_home, act)


def test_without_the_server_they_end_too(prefect_home: Home) -> None:
    async def act(scene: Scene) -> None:
        run = scene.job(UUID(int=1)).run_id
        assert await ending.end_on(scene.engine, {scene.pool_id: POOL}, None) == [
            f"container c of flow run {run} on pool {POOL!r}"
        ]

    in_scene(prefect_home, act)


def test_pools_are_remembered_also_when_the_server_was_made_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    assert ending.remembered(home) == {}
    ending.remember(home, {"docker": "a", "local": "b"})
    ending.remember(home, {"docker": "c"})
    assert ending.remembered(home) == {"docker": {"a", "c"}, "local": {"b"}}


def test_an_engine_that_does_not_answer_is_told_and_the_stack_ends(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.commands import down

    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    ending.remember(home, {"away": "a"})
    (home.folder("pools") / "away.yaml").write_text("{name: away, type: docker, image: x}")

    async def refuses(*_: Any) -> Any:
        raise Unavailable("the container engine does not answer")

    monkeypatch.setattr("deployments.workers.engine_for", refuses)
    told = CliRunner().invoke(down)
    assert told.exit_code == 0
    assert "what runs on pool 'away' may go on: the container engine does not answer" in told.stderr
    assert "nothing was running" in told.stdout


def test_jobs_of_a_server_elsewhere_go_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.org/api")
    monkeypatch.delenv("VOLVOX_LOCAL_SERVICES", raising=False)
    ending.remember(home, {"docker": "a"})
    assert ending.remembered(home) == {}
    assert ending.end_jobs(home) == ending.Ended()
