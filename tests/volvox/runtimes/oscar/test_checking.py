"""`volvox functions check` of a function in a cluster, beside a dispatcher that has deployed it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.volvox.runtimes.benches import NAME
from tests.volvox.runtimes.oscar.cluster import Fault
from tests.volvox.runtimes.oscar.server import OscarServer
from tests.volvox.runtimes.tiny import TinyModels
from volvox.cli.main import run
from volvox.functions import registry
from volvox.functions.checks import findings
from volvox.functions.definition import Function
from volvox.runtimes.oscar import OscarRuntime
from volvox.settings import Home

FUNCTION = Function(name=NAME, image="an/image", script="echo", runtime="oscar")


@pytest.fixture
def check(server: OscarServer, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd):
    for name, value in {"ENDPOINT": server.endpoint, "USER": "admin", "PASSWORD": "a password"}.items():
        monkeypatch.setenv(f"VOLVOX_OSCAR_{name}", value)
    registry.apply_all(home, [FUNCTION], source=["f.yaml"])

    async def deployed() -> None:
        runtime = OscarRuntime(home.root / "dispatch" / "oscar", TinyModels(tmp_path / "models"))
        await runtime.deploy(FUNCTION, version=FUNCTION.version)
        await runtime.close()

    def check(*words: str):
        capfd.readouterr()
        code = run(["functions", "check", NAME, "--json", *words])
        told = capfd.readouterr()
        found = json.loads(told.out)["functions"][NAME] if told.out else []
        return code, {each["name"]: (each["ok"], each["said"]) for each in found}, told.err

    check.deploy = lambda: asyncio.run(deployed())  # type: ignore[attr-defined]
    return check


def test_the_cluster_is_asked_before_anything_is_made(server: OscarServer, check, home: Home) -> None:
    _, found, _ = check()
    assert found["cluster"] == (True, "the OSCAR cluster, version v3.6.1 on Kubernetes v1.31.2 answers")
    told = {each.name: (each.ok, each.said) for each in findings(FUNCTION, home, offline=True)}
    assert told["cluster"] == (None, "nobody asked the OSCAR cluster")
    server.users = {}
    _, found, _ = check()
    assert found["cluster"][0] is False and "does not know user 'admin'" in found["cluster"][1]
    server.users = {"admin": "a password"}
    server.faults = [Fault("/", "drop", 100)]
    _, found, _ = check()
    assert found["cluster"][0] is None and "did not answer" in found["cluster"][1]
    assert server.writes == []


def test_what_was_changed_is_missing_until_it_is_repaired(server: OscarServer, check) -> None:
    check.deploy()
    _, found, _ = check()
    assert found["deployed"] == (True, "everything is as it was made")
    server.body(NAME)["image"] = "somebody/else"
    code, found, _ = check()
    assert (code, found["deployed"][0]) == (4, False) and "image of the service" in found["deployed"][1]
    _, found, said = check("--repair")
    assert "repaired: image of the service" in said and found["deployed"] == (True, "everything is as it was made")
    before = [*server.writes]
    _, found, said = check("--repair")
    assert "repaired" not in said and server.writes == before
