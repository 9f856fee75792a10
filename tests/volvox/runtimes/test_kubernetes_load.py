"""Many files on a cluster where somebody kills pods and a new version takes over: each file has one answer."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engines import engine_environment
from tests.volvox.dispatch.conftest import Site, site
from tests.volvox.dispatch.whole import Whole, whole
from tests.volvox.runtimes.tiny import TinyModels, image_of
from tests.volvox.runtimes.tiny_image import name_of
from volvox.functions import registry
from volvox.functions.definition import Function
from volvox.inbox import ENDED
from volvox.runtimes.kubernetes import KubernetesRuntime
from volvox.runtimes.pods import manifests

__all__ = ["site"]

pytestmark = [pytest.mark.docker, pytest.mark.k8s, pytest.mark.apart]

KILL_SECONDS = 8.0  # on average; a new pod takes about so long on a busy machine, and is killed while it starts too
DEPLOY_SECONDS = 300.0  # of a version whose pods are killed while it is proven
RETRIES = {"attempts": 30, "first_pause_seconds": 0.2, "longest_pause_seconds": 1}


@pytest.fixture(autouse=True)
def _engines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in engine_environment(["docker", "k8s"]).items():
        monkeypatch.setenv(name, value)


class Killer:
    """Ends a pod of a function now and then: one politely, as a node that is drained, the next without a word.

    Attributes:
        killed: How many.
    """

    def __init__(self, owner: str, role: str) -> None:
        self._query = manifests.selector(owner, role=role)
        self._chance = random.Random(7)
        self.killed = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            running = await asyncio.to_thread(self._running)
            if running:
                how = ("--grace-period=0", "--force") if self.killed % 2 else ("--wait=false",)
                words = ("delete", "pod", self._chance.choice(running), *how)
                await asyncio.to_thread(subprocess.run, ["kubectl", *words], capture_output=True, check=False)
                self.killed += 1
            await asyncio.sleep(KILL_SECONDS * self._chance.uniform(0.5, 1.5) if running else 0.1)

    def _running(self) -> list[str]:
        line = ["kubectl", "get", "pods", "-l", self._query, "-o", "json"]
        told = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)["items"]
        return sorted(
            one["metadata"]["name"] for one in told
            if one["status"]["phase"] == "Running" and not one["metadata"].get("deletionTimestamp")
        )  # fmt: skip


def through(
    site: Site, runtime: KubernetesRuntime, models: TinyModels, versions: tuple[Function, Function], role: str,
    content: str, files: int,
) -> tuple[Whole, list[str]]:  # fmt: skip
    """Drop the files, the second version applied when a third has ended; the last third is dropped after that."""
    names = [f"{number:04}.txt" for number in range(files)]
    first, later = names[: files * 2 // 3], names[files * 2 // 3 :]
    killer = Killer(runtime.owner, role)
    kept: list[Whole] = []

    async def test() -> None:
        async with whole(site, models, runtime=runtime) as here:
            kept.append(here)
            await here.apply(versions[0])
            began = time.monotonic()
            for name in first:
                await asyncio.to_thread(here.drop, name, content)
            killing = asyncio.create_task(killer.run())
            try:
                await here.until(lambda: ended(here) >= files // 3, 60 + 2 * files)
                await asyncio.to_thread(registry.apply, site.home, versions[1])
                await here.answering(here.version(versions[1]), DEPLOY_SECONDS)
                for name in later:
                    await asyncio.to_thread(here.drop, name, content)
                await here.ended(files, 60 + 2 * files)
            finally:
                killing.cancel()
                await asyncio.gather(killing, return_exceptions=True)
            jobs = site.inbox.jobs(states=ENDED, limit=2 * files)
            again = sum(job.attempts > 1 for job in jobs)
            print(f"{files} files in {time.monotonic() - began:.1f} s; {killer.killed} pods killed, {again} jobs again")
            assert {job.state for job in jobs} == {"SUCCEEDED"}, {job.reason for job in jobs}
            assert sorted(job.key for job in jobs) == names
            assert [len(job.outputs) for job in jobs] == [1] * files
            said = {job.key: job.function_version for job in jobs}
            assert {said[name] for name in later} == {here.version(versions[1])}
            assert killer.killed >= 1
            await runtime.remove(versions[0].name)

    asyncio.run(test())
    return kept[0], later


def ended(here: Whole) -> int:
    return sum(one.get(state, 0) for one in here.site.inbox.counts().values() for state in ENDED)


@pytest.fixture
def made(site: Site, tmp_path: Path) -> Callable[[TinyModels], KubernetesRuntime]:
    return lambda models: KubernetesRuntime(site.home.folder("dispatch", "kubernetes"), models)


def function(site: Site, **more: Any) -> Function:
    """A function on the cluster whose name nobody else has there."""
    told = {
        "name": f"load-{os.getpid()}", "runtime": "kubernetes", "retries": RETRIES,
        "inputs": [{"url": str(site.source)}], "outputs": [{"url": str(site.target)}],
    }  # fmt: skip
    return Function.model_validate({**told, **more})


@pytest.mark.parametrize("files", [30, pytest.param(1000, marks=pytest.mark.soak)])
@pytest.mark.timeout(1800)
def test_a_model_s_pods_are_killed_and_its_version_is_superseded(
    site: Site, tmp_path: Path, made: Callable[[TinyModels], KubernetesRuntime], tiny_images: dict[str, str], files: int
) -> None:
    models = TinyModels(tmp_path / "models")
    models.images = {one: image_of(one, image, name_of(one)) for one, image in tiny_images.items()}
    more: dict[str, Any] = {"settings": {"pull_policy": "Never"}, "scaling": {"max_scale": 3, "batch": 4}}
    versions = function(site, model="tiny/1", **more), function(site, model="tiny/2", **more)
    here, later = through(site, made(models), models, versions, "instance", "sleep 0.2", files)
    answers = here.answers()
    assert len(answers) == files == len({name[:8] for name in answers}), "each file has one answer"
    assert {one["version"] for name, one in answers.items() if name[:8] in later} == {"2"}


@pytest.mark.parametrize("files", [pytest.param(50, marks=pytest.mark.soak)])
@pytest.mark.timeout(1800)
def test_pods_of_scripts_are_killed_and_the_script_is_superseded(
    site: Site, tmp_path: Path, made: Callable[[TinyModels], KubernetesRuntime], files: int
) -> None:
    models = TinyModels(tmp_path / "models")
    script = 'sleep 1; echo {} > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"'
    image = engine_environment(["docker"])["ENGINE_BASE_IMAGE"]
    first, second = (
        function(site, image=image, script=script.format(one), scaling={"max_scale": 3}) for one in ("one", "two")
    )
    _, later = through(site, made(models), models, (first, second), "call", "", files)
    answers = {path.name: path.read_text() for path in site.target.iterdir()}
    assert len(answers) == files and {answers[name] for name in later} == {"two\n"}
