"""One file that lands starts one run, though an automation waits for the event that a flow function raises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.apply import apply, content
from deployments.doubling import started
from tests.deployments.conftest import folder, prefect_home
from tests.deployments.test_apply import url
from tests.volvox.dispatch.conftest import Site, opened
from volvox.dispatch.dispatcher import Dispatcher
from volvox.dispatch.doing import Applied
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import Arrival, open_inbox
from volvox.places import split
from volvox.runtimes.flows import FlowRuntime
from volvox.settings import Home

__all__ = ["folder", "prefect_home"]  # fixtures
FLOW = """
from prefect import flow

@flow(name="data")
async def data(source: str, name: str = "") -> None: ...
"""
DEPLOYMENT = """
  - name: local
    entrypoint: landing_flows.data
    work_pool: {name: local}
"""
NAME = "test: prepare what lands"
AUTOMATION = f"""
name: "{NAME}"
enabled: true
trigger:
  type: event
  posture: Reactive
  expect: [volvox.data.landed]
  match: {{prefect.resource.id: "s3.*"}}
  threshold: 1
  within: 0
actions:
  - type: run-deployment
    deployment: data/local
    parameters:
      source: "by the automation"
"""


@pytest.fixture
def site(prefect_home: Home, tmp_path: Path) -> Iterator[Site]:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    inbox = open_inbox(prefect_home)
    yield Site(prefect_home, inbox, tmp_path / "in", tmp_path / "out")
    inbox.close()


@pytest.fixture
def enabled(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Deployments with a flow `data`, and an operator's automation that starts it, switched on."""
    (tmp_path / "landing_flows.py").write_text(FLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    with (folder / "prefect.yaml").open("a") as stream:
        stream.write(DEPLOYMENT)
    (folder / "automations").mkdir()
    (folder / "automations" / "prepare.yaml").write_text(AUTOMATION)
    return folder


def prepares(site: Site, name: str = "prepare") -> Function:
    inputs = [{"url": str(site.source)}]
    return Function.model_validate({"name": name, "flow": "data", "inputs": inputs, "timeout_seconds": 3600})


def ask(home: Home, method: str, path: str, body: Any = None) -> Any:
    answer = httpx.request(method, f"{url(home)}{path}", json=body, timeout=60).raise_for_status()
    return answer.json() if answer.content else None


def sources(home: Home) -> list[str]:
    """What the runs of `data/local` are about."""
    deployment = ask(home, "GET", "/deployments/name/data/local")["id"]
    found = ask(home, "POST", "/flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [deployment]}}})
    return sorted(run["parameters"]["source"] for run in found)


def automation(home: Home) -> Any:
    (found,) = ask(home, "POST", "/automations/filter", {"automations": {"name": {"any_": [NAME]}}})
    return found


def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (told := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return told


async def dropped(site: Site, name: str) -> None:
    """A file lands; until its run is there, which nobody executes here."""
    own = open_inbox(site.home)
    dispatcher = Dispatcher(site.home, own, runtimes={"flow": FlowRuntime()}, open_place=opened, split=split)
    await dispatcher.deploy(Applied(prepares(site), "v1"))
    running = asyncio.create_task(dispatcher.run())
    (site.source / name).write_text("data")
    for _ in range(3):
        site.inbox.record([Arrival(f"file://{site.source}", name)])
    async with asyncio.timeout(30):
        while not [one for one in await asyncio.to_thread(sources, site.home) if one.endswith(name)]:
            await asyncio.sleep(0.1)
    for job in site.inbox.jobs(states=["RUNNING"]):
        site.inbox.cancel(job.id)  # nobody executes the run here, so it is not waited for
    async with asyncio.timeout(30):
        while site.inbox.jobs(states=["RUNNING"]):
            await asyncio.sleep(0.05)
    dispatcher.end()
    await running
    own.close()


def test_one_drop_starts_one_run(site: Site, enabled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = site.home
    monkeypatch.setenv("VOLVOX_STORE", str(home.root / "store"))
    before = content(enabled)
    registry.apply(home, prepares(site))
    assert content(enabled) != before, "what is applied has changed, so `volvox up` applies it again"
    why = "function 'prepare' starts data for each of these files itself"
    assert f"created automation {NAME!r}, switched off: {why}" in asyncio.run(apply(url(home), enabled))
    assert not automation(home)["enabled"]
    asyncio.run(dropped(site, "one.zip"))
    time.sleep(2)  # an automation that were on would have acted
    assert sources(home) == [f"{site.source}/one.zip"]

    # Switched on by hand it does start a second run, and applying again switches it off.
    ask(home, "PATCH", f"/automations/{automation(home)['id']}", {"enabled": True})
    asyncio.run(dropped(site, "two.zip"))
    until(lambda: "by the automation" in sources(home))
    assert f"switched off automation {NAME!r}: {why}" in asyncio.run(apply(url(home), enabled))
    assert not automation(home)["enabled"]


@pytest.mark.parametrize(
    ("inputs", "pattern", "rests"),
    [
        ("s3://lake/labelled", "s3.*", True),
        ("s3://lake/labelled", "s3.lake/*", True),
        ("s3://lake/labelled", "s3.lake/labelled/*", True),
        ("s3://lake/labelled", "s3.lake/labelled/one.zip", True),
        ("s3://lake/labelled", "s3.lake/other/*", False),
        ("s3://lake/labelled", "s3.lake/labelled-too/*", False),
        ("s3://lake", "s3.lake/other/*", True),
        ("s3+https://ceph.example.org/lake/in", "s3.lake/*", False),
        ("/data/in", "s3.*", True),
    ],
)
def test_an_automation_rests_only_for_the_same_files(home: Home, inputs: str, pattern: str, rests: bool) -> None:
    from deployments.automation_files import read_automations
    from deployments.doubling import reason

    file = home.root / "automations" / "a.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(AUTOMATION.replace('"s3.*"', f'"{pattern}"'))
    registry.apply(home, Function.model_validate({"name": "f", "flow": "data", "inputs": [{"url": inputs}]}))
    (found,) = read_automations(home.root / "nothing", home)
    assert bool(reason(found, started(home))) is rests
    file.write_text(file.read_text().replace("data/local", "cycle/local"))
    (found,) = read_automations(home.root / "nothing", home)
    assert reason(found, started(home)) == "", "it starts another flow"
