"""A large drop on a real stack: one flow run of Prefect, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests import training_image
from tests.engines import engine_environment
from tests.flows import nearest
from tests.flows.conftest import Installation
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import ENDED, Inbox, Job, open_inbox
from volvox.places import open_place
from volvox.records import ModelVersion, Verdict
from volvox.settings import Home
from volvox.store import Store

pytestmark = pytest.mark.cycle
DOCKER = "unix:///var/run/docker.sock"

WEIGHER = """
import os, time
from pathlib import Path
from webargs import fields

def get_metadata():
    return {"name": "weigher"}

def get_predict_args():
    return {"file": fields.Raw(required=True, metadata={"type": "file", "location": "form"})}

def predict(file):
    said = Path(file.filename).read_text()
    if said == "broken":
        raise ValueError("it cannot be weighed")
    time.sleep(float(Path(os.environ["VOLVOX_WEIGHTS"], "seconds").read_text()))
    return {"bytes": len(said)}
"""


@dataclass
class Scale:
    """A function of the stack that weighs files, and what became of them."""

    installation: Installation
    name: str
    source: Path
    target: Path
    inbox: Inbox

    def jobs(self) -> list[Job]:
        return self.inbox.jobs(function=self.name, limit=20_000)

    def ended(self) -> list[Job]:
        return [job for job in self.jobs() if job.state in ENDED]

    def done(self) -> int:
        """How many jobs have ended; costs less than to read them."""
        counts = self.inbox.counts().get(self.name, {})
        return sum(counts.get(state, 0) for state in ENDED)

    def until(self, what: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        while not (told := what()):
            assert time.monotonic() < deadline, self.inbox.counts().get(self.name)
            time.sleep(0.1)
        return told

    def ask(self, path: str, body: Any) -> Any:
        told = json.loads((self.installation.home / "stack" / "prefect.json").read_text())
        return httpx.post(f"{told['url']}/api{path}", json=body, timeout=60).raise_for_status().json()

    def runs(self) -> list[dict[str, Any]]:
        """The flow runs that answered files of this function, in the order in which they were made."""
        found = self.ask("/flow_runs/filter", {"flows": {"name": {"any_": ["batch-inference"]}}})
        mine = [run for run in found if run["parameters"]["function"] == self.name]
        return sorted(mine, key=lambda run: run["created"])

    def kill_dispatcher(self) -> None:
        """Kill it and start the next one."""
        told = json.loads((self.installation.home / "stack" / "functions.json").read_text())
        os.kill(told["pid"], signal.SIGKILL)
        self.installation.run("up")

    def processes(self, run: str) -> list[int]:
        """Every process of a flow run."""
        wanted, found = f"PREFECT__FLOW_RUN_ID={run}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if wanted in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def check(self, count: int, broken: int) -> None:
        """Every file has one answer under its name, and those that are broken a reason."""
        jobs = self.ended()
        assert len(jobs) == count + broken
        good = [job for job in jobs if job.state == "SUCCEEDED"]
        assert len(good) == count
        assert {path.name for path in self.target.iterdir()} == {f"{job.key}.{job.id[:8]}.json" for job in good}
        answers = [json.loads((self.target / job.outputs[0]["key"]).read_bytes()) for job in good]
        assert answers == [{"status": "OK", "predictions": {"bytes": job.size}} for job in good]
        for job in jobs:
            if job.state == "FAILED":
                assert job.key.startswith("broken")
                assert "it cannot be weighed" in job.reason


Weigh = Callable[..., Scale]


@pytest.fixture
def weigh(installation: Installation, tmp_path: Path) -> Iterator[Weigh]:
    """`weigh("name", 60)`: so many files lie there when the function is applied."""
    with weighing(installation, tmp_path) as make:
        yield make


@contextlib.contextmanager
def weighing(installation: Installation, folder: Path) -> Iterator[Weigh]:
    home = Home(installation.home)
    inbox = open_inbox(home)

    def make(name: str, count: int, *, broken: int = 1, seconds: float = 0.05, on: str = "local") -> Scale:
        source, target = folder / "in", folder / "out"
        source.mkdir()
        target.mkdir()
        for number in range(count):
            (source / f"{number:05}.txt").write_text("x" * (number % 97))
        for number in range(broken):
            (source / f"broken-{number}.txt").write_text("broken")
        for path in source.iterdir():  # a sweep leaves what is so new to the watch, which is not there yet
            os.utime(path, (time.time() - 60, time.time() - 60))
        publish(installation, name, folder / "weights", seconds)
        told = {"name": name, "model": name, "bulk": {"least": 50, "on": on}, "scaling": {"batch": 4}}
        places = {"inputs": [{"url": open_place(str(source)).url}], "outputs": [{"url": open_place(str(target)).url}]}
        registry.apply(home, Function.model_validate({**told, **places}))
        installation.run("up")
        return Scale(installation, name, source, target, inbox)

    try:
        yield make
    finally:
        for name in registry.functions(home):
            registry.remove(home, name)
        inbox.close()


def publish(installation: Installation, name: str, weights: Path, seconds: float) -> None:
    """Publish a version of a model that takes so long for a file."""
    site = Path(installation.environment["PYTHONPATH"].split(os.pathsep)[0])
    if not (site / "weigher_package").exists():
        nearest.install(site, "weigher", WEIGHER)
    weights.mkdir()
    (weights / "seconds").write_text(str(seconds))
    store = Store.open(str(installation.home / "store"), installation.home / "cache")
    version = ModelVersion(
        name=name, version="1", model="m" * 64, module="weigher", code="c", weights_tree=store.put_tree(weights),
        verdict=Verdict(accepted=True, reason="good", metric="accuracy", value=0.9, threshold=0.5), champion=True,
    )  # fmt: skip
    store.put_record("champion", name, version.model_dump(mode="json"))
    store.put_record("version", f"{name}-1", version.model_dump(mode="json"))


def test_a_large_drop_is_one_flow_run_though_its_dispatcher_is_killed(weigh: Weigh) -> None:
    scale = weigh("weighed", 59, seconds=0.1)
    (run,) = scale.until(scale.runs, 40)
    assert scale.until(scale.done, 40) < 60, "jobs end while the run goes on"
    scale.kill_dispatcher()
    scale.until(lambda: scale.done() == 60, 60)
    scale.check(59, 1)
    (run,) = scale.runs()
    assert run["state"]["type"] == "COMPLETED"
    assert {*run["parameters"]} == {"function", "jobs"}
    wanted = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}, "type": {"any_": ["progress"]}}}
    (artifact,) = scale.ask("/artifacts/filter", wanted)
    assert artifact["data"] == 100
    assert artifact["description"].startswith("60 of 60 files, 1 failed, ")
    job = scale.ended()[0]
    shown = scale.installation.run("jobs", "show", job.id).stdout
    assert f"one of 60 files for batch-inference on 'local': {_page(job)}" in shown
    assert run["id"] in _page(job)
    assert {one.attempts for one in scale.ended()} == {1}


def _page(job: Job) -> str:
    (reason,) = [step.reason for step in job.steps if step.state == "RUNNING"]
    return reason.rpartition(" ")[2]


def test_a_flow_run_that_is_killed_goes_on_in_another_one(weigh: Weigh) -> None:
    scale = weigh("weighed-again", 60, broken=0)
    scale.until(lambda: len([*scale.target.iterdir()]) >= 10, 40)
    before = {path.name: path.stat().st_ino for path in scale.target.iterdir()}
    for pid in scale.processes(scale.runs()[0]["id"]):
        os.kill(pid, signal.SIGKILL)
    scale.until(lambda: scale.done() == 60, 90)
    scale.check(60, 0)
    assert [run["state"]["type"] for run in scale.runs()] == ["CRASHED", "COMPLETED"]
    assert {name: (scale.target / name).stat().st_ino for name in before} == before, "no answer was written twice"


def test_a_flow_run_that_is_cancelled_ends_and_so_do_its_jobs(weigh: Weigh) -> None:
    scale = weigh("weighed-no-more", 60, broken=0, seconds=0.2)
    scale.until(scale.done, 40)
    (run,) = scale.runs()
    assert scale.processes(run["id"])
    scale.ask(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    scale.until(lambda: scale.done() == 60, 40)
    failed = [job for job in scale.ended() if job.state == "FAILED"]
    assert failed
    assert {job.error["kind"] for job in failed} == {"cancelled"}
    assert run["id"] in failed[0].reason
    assert [one["state"]["type"] for one in scale.runs()] == ["CANCELLED"]
    scale.until(lambda: not scale.processes(run["id"]), 15)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_thousands_of_files_are_one_flow_run(weigh: Weigh) -> None:
    scale = weigh("weighed-thousands", 5000, broken=25, seconds=0.0)
    began = time.monotonic()
    scale.until(scale.done, 120)
    scale.kill_dispatcher()
    scale.until(lambda: scale.done() == 5025, 900)
    print(f"5,025 files in {time.monotonic() - began:.1f} s", file=sys.stderr)
    scale.check(5000, 25)
    assert [run["state"]["type"] for run in scale.runs()] == ["COMPLETED"]


@pytest.mark.soak
@pytest.mark.docker
@pytest.mark.timeout(3600)
def test_thousands_of_files_are_answered_by_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    nearest.install(site, "weigher", WEIGHER)
    monkeypatch.syspath_prepend(str(site))
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", paths)
    environment = {"DOCKER_HOST": DOCKER, **engine_environment(["docker"]), "PYTHONPATH": paths}
    made = Installation(tmp_path / "home", {**environment, "VOLVOX_PREFECT_PORT": "0"})
    with training_image.built(made.home, "weigher"):
        volume = f"{tmp_path}:{tmp_path}"  # the folders of files
        told = {"name": "docker", "type": "docker", "volumes": [volume], "job_variables": {"network_mode": "host"}}
        Home(made.home).folder("pools").joinpath("docker.yaml").write_text(yaml.safe_dump(told))
        try:
            with weighing(made, tmp_path) as weigh:
                began = time.monotonic()
                scale = weigh("weighed-there", 5000, broken=25, seconds=0.0, on="docker")
                scale.until(scale.done, 180)
                scale.kill_dispatcher()
                scale.until(lambda: scale.done() == 5025, 1800)
                print(f"5,025 files on docker in {time.monotonic() - began:.1f} s", file=sys.stderr)
                scale.check(5000, 25)
                (run,) = scale.runs()
                assert (run["state"]["type"], run["work_pool_name"]) == ("COMPLETED", "docker")
        finally:
            made.run("down", check=False)
