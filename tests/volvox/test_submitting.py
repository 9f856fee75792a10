"""Runs from Python, as `docs/scheduling.md` shows them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import volvox
from tests.flows.conftest import Installation, digits, installation
from volvox.errors import GateRefused, InvalidInput, NotFound, StageFailed, Unavailable
from volvox.functions.definition import Function
from volvox.records import Cycle, Dataset
from volvox.runtimes.flows import FlowRuntime
from volvox.runtimes.interface import Call, Outcome

__all__ = ["digits", "installation"]  # fixtures

PAGE = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


def test_without_a_stack_it_says_how_to_start_one(home) -> None:
    with pytest.raises(Unavailable, match="volvox up"):
        volvox.run("cycle", source="/data")


def test_a_priority_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'urgent'; there are high, default, low"):
        volvox.run("cycle", source="/data", priority="urgent")


def test_the_package_stays_light() -> None:
    code = "import sys, volvox; print(sorted({'prefect', 'pydantic', 'typing', 'httpx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert done.stdout.strip() == "[]"


@pytest.fixture
def running(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """This very process on a running stack, whose address nobody told it."""
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "VOLVOX_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VOLVOX_HOME", str(installation.home))
    yield installation


def api(installation: Installation) -> str:
    return json.loads((installation.home / "stack" / "prefect.json").read_text())["url"] + "/api"


def ask(installation: Installation, path: str, body: Any) -> Any:
    return httpx.post(f"{api(installation)}{path}", json=body, timeout=60).raise_for_status().json()


@pytest.mark.cycle
def test_the_python_of_the_page_runs_and_a_second_run_has_nothing_new(running: Installation, digits: Path) -> None:
    given: dict[str, Any] = {"SOURCE": str(digits), "MODULE": "nearest"}
    exec(PYTHON[0], given)
    first = given["made"]
    assert isinstance(first, Cycle)
    assert first.version is not None
    exec(PYTHON[0], given)
    assert given["made"].reused
    assert given["made"].version == first.version
    key = {"artifacts": {"key": {"any_": ["cycle-lake"]}, "flow_run_id": {"any_": [given["made"].flow_run]}}}
    (page,) = ask(running, "/artifacts/filter", key)
    assert "Nothing was new" in page["data"]
    logged = ask(running, "/logs/filter", {"logs": {"flow_run_id": {"any_": [given["made"].flow_run]}}})
    assert any("nothing was new" in line["message"] for line in logged)


@pytest.mark.cycle
def test_the_shell_of_the_page_starts_a_run_and_raises_the_event(running: Installation, digits: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": api(running), "SOURCE": str(digits), "MODULE": "nearest"}
    for script in SHELL:
        done = subprocess.run(
            ["bash", "-euc", script], capture_output=True, text=True, env=environment, check=True, timeout=60
        )
        assert '"detail"' not in done.stdout
    told: dict = {}
    for _ in range(5):  # a Prefect that is busy says so instead, and its page says nothing of that
        told = json.loads(
            subprocess.run(
                ["bash", "-euc", SHELL[0]], capture_output=True, text=True, env=environment, check=True, timeout=60
            ).stdout
        )
        if "state" in told:
            break
    assert told["state"]["type"] == "SCHEDULED"
    exec(PYTHON[1], {})


@pytest.mark.cycle
def test_what_the_server_refuses_is_told_in_its_words_and_makes_no_run(running: Installation) -> None:
    before = ask(running, "/flow_runs/count", {})
    with pytest.raises(InvalidInput, match=r"cycle on 'local' was not started: .*'name'.*'Big Lake'"):
        volvox.run("cycle", source="/data", name="Big Lake")
    with pytest.raises(InvalidInput, match="'epochs' was unexpected"):
        volvox.run("cycle", source="/data", epochs=3)
    with pytest.raises(NotFound, match="no flow 'cylce'"):
        volvox.run("cylce", source="/data")
    with pytest.raises(NotFound, match="no deployment on 'mars'; it has 'local'"):
        volvox.run("cycle", on="mars", source="/data")
    assert ask(running, "/flow_runs/count", {}) == before


@pytest.mark.cycle
def test_errors_of_the_flow_are_raised_here(running: Installation, digits: Path) -> None:
    with pytest.raises(NotFound, match="/nowhere/at/all"):
        volvox.run("data", source="/nowhere/at/all")
    with pytest.raises(GateRefused) as refused:
        volvox.run(
            "cycle", source=str(digits), name="refused", module="nearest", image=False, arguments={"wrong": True}
        )
    assert refused.value.verdict is not None
    assert [attempt.verdict.accepted for attempt in refused.value.cycle.attempts] == [False]


@pytest.mark.cycle
def test_a_handle_is_waited_for_later_also_inside_of_a_loop(running: Installation, digits: Path) -> None:
    import asyncio

    handle = volvox.run("data", source=str(digits), wait=False, priority="high")
    assert httpx.get(f"{api(running)}/flow_runs/{handle.id}").json()["work_queue_name"] == "high"
    assert handle.id in handle.url
    with pytest.raises(TimeoutError, match="it goes on"):
        handle.result(timeout_seconds=0)

    async def as_in_a_notebook() -> Dataset:
        return volvox.run("data", source=str(digits))

    assert handle.result() == asyncio.run(as_in_a_notebook())


def test_a_file_that_lands_is_one_run_however_often_its_job_is_begun(
    running: Installation, digits: Path, tmp_path: Path
) -> None:
    runtime = FlowRuntime()
    call = Call("ab" * 16, log=tmp_path / "log", place=f"file://{digits.parent}", key=digits.name, version="1@2")
    wrong = Call("cd" * 16, place=f"file://{digits.parent}", key="never there")

    async def ask() -> list[list[Outcome]]:
        await runtime.deploy(Function(name="prepare", flow="data", arguments={"name": "landed"}), version="1")
        return await asyncio.gather(*(runtime.invoke("prepare", [one]) for one in (call, call, wrong)))

    (first,), (again,), (refused,) = asyncio.run(ask())
    assert (first.kind, again.kind) == ("", ""), first.reason
    assert first.outputs == again.outputs
    assert str(first.outputs[0]["url"]) in (tmp_path / "log").read_text()
    assert refused.kind == "failed"
    assert "there is nothing at" in refused.reason


def test_a_flow_that_is_none_of_ours_has_no_record() -> None:
    from volvox import results

    with pytest.raises(StageFailed, match="its record is not in the store"):
        results.ended("COMPLETED", "", None, Cycle, where="cycle on 'local'")
