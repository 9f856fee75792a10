"""`volvox functions check` of a function on a cluster, beside a dispatcher that has deployed it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.volvox.runtimes.pods.made_up import MadeUp
from tests.volvox.runtimes.pods.test_models import OnMadeUp
from volvox.cli.main import run
from volvox.functions import registry
from volvox.functions.checks import findings
from volvox.runtimes.kubernetes import KubernetesRuntime
from volvox.settings import Home

T = TypeVar("T")
NAME = "suite-function"


class Beside:
    """A cluster and a dispatcher in a thread of their own."""

    def __init__(self, home: Home, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.cluster = MadeUp(folder)
        self.do(self.cluster.__aenter__())

        async def deployed() -> OnMadeUp:
            bench = OnMadeUp(folder, self.cluster)
            await bench.runtime.close()
            bench.runtime = KubernetesRuntime(home.root / "dispatch" / "kubernetes", bench.models)
            await bench.deploy(bench.function())
            return bench

        self.bench = self.do(deployed())
        registry.apply_all(home, [self.bench.function()], source=["f.yaml"])

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self.do(self.bench.close())
        self.do(self.cluster.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def beside(home: Home, tmp_path: Path) -> Iterator[Beside]:
    made = Beside(home, tmp_path)
    yield made
    made.close()


@pytest.fixture
def check(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, tuple[bool | None, str]], str]]:
    def check(*words: str):
        capfd.readouterr()
        code = run(["functions", "check", NAME, "--json", *words])
        told = capfd.readouterr()
        found = json.loads(told.out)["functions"][NAME] if told.out else []
        return code, {each["name"]: (each["ok"], each["said"]) for each in found}, told.err

    return check


def test_what_was_changed_is_missing_until_it_is_repaired(beside: Beside, check) -> None:
    _, found, _ = check()
    assert found["cluster"][0] is True and found["deployed"] == (True, "everything is as it was made")
    for deployment in beside.cluster.all("deployments"):
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "somebody/else"
    code, found, _ = check()
    assert (code, found["deployed"][0]) == (4, False) and "image of the deployment" in found["deployed"][1]
    _, found, said = check("--repair")
    assert "repaired: spec.template.spec.containers.0.image of the deployment" in said
    assert found["deployed"] == (True, "everything is as it was made")
    before = len(beside.cluster.writes)
    _, found, said = check("--repair")
    assert "repaired" not in said and len(beside.cluster.writes) == before


def test_a_cluster_that_does_not_answer_and_one_that_nobody_may_ask(beside: Beside, check, home: Home) -> None:
    beside.cluster.down = True
    _, found, _ = check()
    assert found["cluster"][0] is None and "did not list jobs" in found["cluster"][1]
    code, _, said = check("--repair")
    assert code == 4 and "the Kubernetes cluster did not" in said
    told = {each.name: each.ok for each in findings(beside.bench.function(), home, offline=True)}
    assert told["cluster"] is None
    beside.cluster.down = False
    beside.cluster.namespaces.clear()
    code, found, _ = check()
    assert code == 4 and "kubectl create namespace default" in found["cluster"][1]
    beside.cluster.namespaces.add("default")


def test_on_other_runtimes_there_is_nothing_to_repair(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    from volvox.functions.definition import Function

    registry.apply_all(home, [Function(name=NAME, model="m", runtime="local")], source=["f.yaml"])
    assert run(["functions", "check", NAME, "--repair"]) == 2
    assert "runs on local, where there is nothing to repair" in capfd.readouterr().err
