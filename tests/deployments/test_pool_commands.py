from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deployments import checks
from deployments.checks.check import Check
from deployments.pool_commands import pools
from volvox.errors import InvalidInput, NotFound
from volvox.pools.files import read_pools
from volvox.settings import Home


@pytest.fixture(autouse=True)
def nothing_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):  # a command sets its own process up for Prefect
        del os.environ[name]
    os.environ.update(before)


def run(*words: str) -> Result:
    return CliRunner().invoke(pools, words)


def told(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def test_the_table_shows_every_pool_though_no_server_runs() -> None:
    done = run()
    assert done.exit_code == 0
    for name, state in (("docker", "off"), ("kubernetes", "off"), ("ecs", "off"), ("local", "unknown")):
        assert any(line.split()[0] == name and state in line for line in done.stdout.splitlines())
    assert "`volvox up` starts one" in done.stderr


def test_the_values_for_machines_hold_no_variables_of_the_environment() -> None:
    assert run("enable", "docker", "--set", "environment.PLAIN=hunter2").exit_code == 0
    found = {pool["name"]: pool for pool in told()["pools"]}
    assert found["docker"]["environment"] == ["PLAIN"]
    assert found["docker"]["state"] == "unknown"
    assert found["local"]["free"] is None
    assert told("show", "ecs")["state"] == "off"


def test_a_page_names_the_file_and_what_stands_in_the_way(home: Home) -> None:
    page = run("show", "docker").stdout
    assert "deployments/pools/docker.yaml" in page
    assert "`volvox pools enable docker`" in page
    run("enable", "docker")
    page = run("show", "docker").stdout
    assert str(home.root / "pools" / "docker.yaml") in page
    assert "no Prefect server runs" in page


def test_switches_write_once_and_say_what_is_next(home: Home) -> None:
    first = run("enable", "docker", "--set", "offers.gpus=1", "--set", "image=x:1")
    assert f"wrote {home.root / 'pools' / 'docker.yaml'}" in first.stdout
    assert "`volvox pools check docker`" in first.stdout
    pool = read_pools(home)["docker"]
    assert (pool.enabled, pool.offers.gpus, pool.image) == (True, 1, "x:1")
    assert "on already" in run("enable", "docker").stdout
    assert "wrote" in run("disable", "docker").stdout
    assert "off already" in run("disable", "docker").stdout


def test_a_dry_run_prints_the_file_and_writes_none(home: Home) -> None:
    done = run("enable", "docker", "--set", "cost_per_hour=0.5", "--dry-run")
    assert "cost_per_hour: 0.5\n" in done.stdout
    assert told("enable", "docker", "--dry-run")["written"] is False
    assert not (home.root / "pools").exists()


@pytest.mark.parametrize("setting", ["offers.gpus", "=1", "cost_per_hour=[1"])
def test_a_setting_that_is_none_is_told(setting: str) -> None:
    error = run("enable", "docker", "--set", setting).exception
    assert isinstance(error, InvalidInput)
    assert "--set" in str(error)


def test_an_unknown_pool_is_told_with_the_nearest() -> None:
    for command in ("show", "enable", "disable", "check"):
        error = run(command, "dokcer").exception
        assert isinstance(error, NotFound), command
        assert "did you mean 'docker'?" in str(error)


@pytest.mark.parametrize(("last", "code"), [(True, 0), (None, 0), (False, 4)])
def test_a_check_that_finds_something_missing_exits_with_4(monkeypatch, last: bool | None, code: int) -> None:
    async def check_pool(name, home, tell, *, module, probe):
        tell(Check("file", True, "it is valid"))
        tell(Check("image", last, f"{module} {probe}", "push it"))

    monkeypatch.setattr(checks, "check_pool", check_pool)
    done = run("check", "docker", "--module", "m", "--no-probe")
    assert done.exit_code == code
    assert "m False" in done.stdout
    assert ("-> push it" in done.stdout) == (last is not True)
    values = run("check", "docker", "--json")
    assert values.exit_code == code
    assert json.loads(values.stdout)["ok"] == (code == 0)
