"""Node groups kept by the dispatcher as `volvox up` runs it: jobs that wait bring nodes, and no kill brings two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import engine_environment
from tests.volvox.dispatch.conftest import Site
from tests.volvox.nodes.made_up import MadeUp
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import Arrival

ROOT = Path(__file__).parents[3]
SCRIPT = """#!/bin/sh
while [ -e "{hold}" ]; do sleep 0.1; done
cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR"
"""


class Service:
    """The dispatcher of a home in a process of its own."""

    def __init__(self, site: Site, tmp_path: Path) -> None:
        self.site, self.hold = site, tmp_path / "hold"
        self.environment = {**os.environ, "VOLVOX_HOME": str(site.home.root), "PYTHONPATH": str(ROOT)}
        self._log = (tmp_path / "log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "volvox.dispatch"]
        self.process = subprocess.Popen(words, env=self.environment, stderr=self._log, cwd=ROOT)

    def end(self) -> None:
        self.hold.unlink(missing_ok=True)
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self._log.close()

    def apply(self, **more: Any) -> None:
        """A function whose script waits as long as the file `hold` is there."""
        places = {"inputs": [{"url": str(self.site.source)}], "outputs": [{"url": str(self.site.target)}]}
        told = {"name": "s", "image": "none", "script": SCRIPT.format(hold=self.hold), "runtime": "local",
                "settings": {"as_process": True}, "scaling": {"max_scale": 1}}  # fmt: skip
        registry.apply(self.site.home, Function.model_validate({**told, **places, **more}))

    def drop(self, *names: str) -> None:
        for name in names:
            (self.site.source / name).write_text("x")
            self.site.inbox.record([Arrival(f"file://{self.site.source}", name)])

    def volvox(self, *words: str) -> Any:
        """What a command says, as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "volvox", *words, "--json"], capture_output=True, check=False, env=self.environment
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def nodes(self) -> dict[str, str]:
        (group,) = self.volvox("nodes")
        return {node["name"]: node["state"] for node in group["nodes"]}

    def states(self) -> list[str]:
        return sorted(job.state for job in self.site.inbox.jobs())

    def log(self) -> str:
        return Path(self._log.name).read_text()


@pytest.fixture
def service(site: Site, tmp_path: Path) -> Iterator[Service]:
    made = Service(site, tmp_path)
    yield made
    made.end()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[MadeUp]:
    made = MadeUp.at(tmp_path / "cloud")
    yield made
    made.end()


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (told := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return told


def grouped(site: Site, cloud: MadeUp, **more: Any) -> Path:
    path = site.home.folder("nodes") / "workers.yaml"
    path.write_text(cloud.file(**more))
    return path


def test_jobs_bring_a_node_that_is_told_of_and_goes_when_nothing_is_left(
    service: Service, site: Site, cloud: MadeUp
) -> None:
    path = grouped(site, cloud, most=2, idle_seconds=1, cost_per_hour=3600)
    service.hold.touch()
    service.apply()
    service.start()
    service.drop("one.txt", "two.txt")
    until(lambda: cloud.asked() == ["start workers-1"])
    until(lambda: service.states() == ["RUNNABLE", "RUNNING"])
    until(lambda: service.nodes() == {"workers-1": "booting"})
    (waits,) = site.inbox.jobs(states=["RUNNABLE"])

    def reason() -> str:
        return str(service.volvox("jobs", "show", waits.id)["reason"])

    until(lambda: reason().startswith("a node boots since "))
    assert reason().endswith(" s (workers-1 of group workers)")
    cloud.works("workers-1", 1)
    cloud.comes("workers-1")
    until(lambda: service.nodes() == {"workers-1": "on"})
    until(lambda: "before it" in (told := reason()) or told.startswith("it is the next one"))
    before = path.read_text()
    path.write_text("least: 7\n")  # what is wrong changes nothing
    until(lambda: "node groups are kept as they were" in service.log())
    path.write_text(before)
    service.hold.unlink()
    until(lambda: service.states() == ["SUCCEEDED", "SUCCEEDED"])
    assert cloud.asked() == ["start workers-1"]
    cloud.works("workers-1", 0)
    until(lambda: cloud.asked() == ["start workers-1", "stop workers-1"])
    until(lambda: service.nodes() == {})
    assert cloud.running() == []


def test_a_dispatcher_that_is_killed_as_it_asks_asks_for_no_second_node(
    service: Service, site: Site, cloud: MadeUp
) -> None:
    grouped(site, cloud, most=4)
    cloud.becomes("kills")
    service.hold.touch()
    service.apply()
    service.start()
    service.drop("one.txt")
    assert service.process is not None
    assert service.process.wait(60) == -signal.SIGKILL
    assert service.nodes() == {"workers-1": "asking"}
    service.start()
    until(lambda: service.nodes() == {"workers-1": "booting"})
    cloud.comes("workers-1")
    until(lambda: service.nodes() == {"workers-1": "on"})
    service.hold.unlink()
    until(lambda: service.states() == ["SUCCEEDED"])
    assert cloud.asked() == ["start workers-1"]
    assert len(cloud.running()) == 1


@pytest.mark.k8s
def test_a_pod_that_fits_no_node_of_the_cluster_waits_for_the_one_that_boots(
    service: Service, site: Site, cloud: MadeUp
) -> None:
    """The cluster's node is given a label: that is its boot. Others' work on it is not disturbed: it stays on."""
    service.environment |= engine_environment(["docker", "k8s"])
    label, kubectl = f"volvox-{uuid.uuid4().hex[:8]}", ["kubectl"]

    def told(*words: str) -> str:
        return subprocess.run(
            [*kubectl, *words], capture_output=True, text=True, check=True, env=service.environment
        ).stdout

    node = json.loads(told("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    text = cloud.file(runtime="kubernetes", names=[node], idle_seconds=86400, boot_seconds=20)
    (site.home.folder("nodes") / "workers.yaml").write_text(text)
    script = "#!/bin/sh\ncp $INPUT_FILE_PATH $TMP_OUTPUT_DIR\n"
    settings = {"pull_policy": "Never", "node_selector": {label: "yes"}}
    image = service.environment["ENGINE_BASE_IMAGE"]
    try:
        service.apply(runtime="kubernetes", image=image, script=script, settings=settings)
        service.start()
        service.drop("one.txt")
        until(lambda: cloud.asked() == [f"start {node}"])
        (job,) = site.inbox.jobs()
        time.sleep(12)  # without a group, a pod that fits no node is given up after 8 s
        assert service.states() in (["STARTING"], ["RUNNING"])
        shown = service.volvox("jobs", "show", job.id)
        assert shown["attempts"] == 1
        assert shown["state"] == "RUNNING" or shown["reason"].startswith("a node boots since ")
        told("label", "node", node, f"{label}=yes")
        cloud.comes(node)
        until(lambda: service.states() == ["SUCCEEDED"])
        assert service.nodes() == {node: "on"}
        assert cloud.asked() == [f"start {node}"]
    finally:
        told("label", "node", node, f"{label}-")
        registry.remove(site.home, "s")
        until(lambda: not json.loads(told("get", "jobs", "-l", "volvox/name=s", "-o", "json"))["items"])
