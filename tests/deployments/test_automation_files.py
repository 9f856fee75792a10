"""Automations are files: checked, applied once, and left switched on or off as the operator has them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

import volvox
from deployments.apply import apply
from deployments.automation_files import read_automations
from tests.deployments.test_apply import asked, url
from volvox.data.s3 import versioned
from volvox.errors import InvalidInput
from volvox.settings import Home

SHIPPED = Path(__file__).parents[2] / "deployments"
FILE = """
name: "test: run standin when something lands"
enabled: true
trigger:
  type: event
  posture: Reactive
  expect: [volvox.data.landed]
  match: {prefect.resource.id: "s3.inbox-of-tests/*"}
  threshold: 1
  within: 0
actions:
  - type: run-deployment
    deployment: standin/standin
    parameters:
      source:
        __prefect_kind: jinja
        template: "{{ event.payload.key }}-{{ event.payload.version | urlencode }}"
"""


def written(folder: Path, text: str = FILE, name: str = "test.yaml") -> Path:
    path = folder / "automations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_shipped_automation_is_off_and_hands_over_bucket_key_and_version(home: Home) -> None:
    from prefect.server.utilities.user_templates import render_user_template_sync

    (file,) = read_automations(SHIPPED, home)
    assert not file.automation.enabled
    assert file.deployments == {("actions", 0): "cycle/local"}
    action: Any = file.automation.actions[0]
    template = action.parameters["source"]["template"]
    payload = {"bucket": "lake", "key": "2026/a & b.zip", "version": "3/L4"}
    assert render_user_template_sync(template, {"event": {"payload": payload}}) == (
        "s3://lake/2026/a & b.zip?versionId=3%2FL4"
    )
    assert versioned("s3://lake/2026/a & b.zip?versionId=3%2FL4") == ("s3://lake/2026/a & b.zip", "3/L4")
    told = render_user_template_sync(template, {"event": {"payload": {**payload, "version": ""}}})
    assert told == "s3://lake/2026/a & b.zip"


def test_an_operators_file_goes_first(home: Home, tmp_path: Path) -> None:
    written(tmp_path)
    assert [file.automation.enabled for file in read_automations(tmp_path, home)] == [True]
    written(home.root, FILE.replace("enabled: true", "enabled: false"))
    assert [file.automation.enabled for file in read_automations(tmp_path, home)] == [False]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("enabled: true", "enable: true", "test.yaml: enable: no such key; did you mean 'enabled'?"),
        ("  within: 0", "  withing: 0", "test.yaml: trigger: withing: no such key; did you mean 'within'?"),
        ("threshold: 1", "threshold: many", "test.yaml: trigger: threshold: "),
        ("type: event", "type: evnt", "test.yaml: trigger.type: 'evnt' is none of event, "),
        ("type: run-deployment", "type: run", r"test.yaml: actions\[0\].type: 'run' is none of "),
        ("    parameters:", "    params:", r"test.yaml: actions\[0\]: params: no such key"),
        ("name: ", "title: ", "test.yaml: title: no such key"),
        ("actions:", "actions: [", "test.yaml cannot be read: "),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(home: Home, tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in FILE
    written(tmp_path, FILE.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=said):
        read_automations(tmp_path, home)


def test_two_files_of_one_name_are_refused(home: Home, tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path, name="other.yaml")
    with pytest.raises(InvalidInput, match=r"name: .* has the same name"):
        read_automations(tmp_path, home)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("standin/standin", "standin/standing", r"actions\[0\].deployment: the server has no .*'standin/standin'"),
        ("      source:", "      sauce:", r"actions\[0\].parameters.sauce: .* did you mean 'source'"),
        ("parameters:", "job_variables:", r"actions\[0\].parameters.source: it must be given"),
        ("{{ event.payload.key }}", "{{ event.payload.key", "the Prefect server refuses it"),
    ],
)  # fmt: skip
def test_what_the_server_does_not_know_is_refused(
    prefect_home: Home, folder: Path, old: str, new: str, said: str
) -> None:
    written(folder, FILE.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=said):
        asyncio.run(apply(url(prefect_home), folder))


def automation(home: Home) -> Any:
    (found,) = asked(home, lambda client: client.read_automations_by_name("test: run standin when something lands"))
    return found


def test_a_file_is_applied_once_and_the_switch_stays_the_operators(prefect_home: Home, folder: Path) -> None:
    path = written(folder, FILE.replace("enabled: true", "enabled: false"))
    name = "'test: run standin when something lands'"
    assert f"created automation {name}, switched off" in asyncio.run(apply(url(prefect_home), folder))
    assert asyncio.run(apply(url(prefect_home), folder)) == []
    made = automation(prefect_home).id
    asked(prefect_home, lambda client: client.resume_automation(made))
    assert automation(prefect_home).enabled
    assert asyncio.run(apply(url(prefect_home), folder)) == []
    path.write_text(path.read_text().replace("threshold: 1", "threshold: 2"))
    assert asyncio.run(apply(url(prefect_home), folder)) == [f"updated automation {name}"]
    assert automation(prefect_home).enabled, "switched on stays switched on"
    assert automation(prefect_home).trigger.threshold == 2
    asked(prefect_home, lambda client: client.delete_automation(made))


def test_what_lands_starts_one_run_with_its_key_and_version(prefect_home: Home, folder: Path) -> None:
    written(folder, FILE.replace("run standin when", "run it when"))
    asyncio.run(apply(url(prefect_home), folder))
    deployment = asked(prefect_home, lambda client: client.read_deployment_by_name("standin/standin"))

    async def started(client: Any) -> list[str]:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId

        of_it = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
        found = [run.parameters["source"] for run in await client.read_flow_runs(flow_run_filter=of_it)]
        return sorted(one for one in found if "drop" in one or "last" in one)

    volvox.landed("another-bucket", "drop.zip", "1")
    event = volvox.landed("inbox-of-tests", "drop.zip", "v 1")
    assert volvox.landed("inbox-of-tests", "drop.zip", "v 1") == event, "told twice of the same version"
    volvox.landed("inbox-of-tests", "drop.zip", "v2", name="lake")
    volvox.landed("inbox-of-tests", "last.zip", "v1")
    deadline = time.monotonic() + 60
    while len(runs := asked(prefect_home, started)) < 3 and time.monotonic() < deadline:  # in whatever order they come
        time.sleep(0.2)
    assert runs == ["drop.zip-v%201", "drop.zip-v2", "last.zip-v1"]


def test_an_object_without_a_name_does_not_land(home: Home) -> None:
    with pytest.raises(InvalidInput, match="give both"):
        volvox.landed("bucket", "")
