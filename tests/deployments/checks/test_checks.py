"""What is found out without any engine."""

from __future__ import annotations

import json

import pytest

from deployments.checks import variables
from deployments.checks.check import Check, probed
from deployments.job_templates import worker_template
from tests.deployments.checks.conftest import define, made
from volvox.errors import NotFound
from volvox.pools.definition import PoolDefinition
from volvox.pools.files import SHIPPED, read_pool
from volvox.settings import Home


def pool(kind: str, **variables_: object) -> PoolDefinition:
    return PoolDefinition(name="p", type=kind, image="x", job_variables=variables_)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes", "ecs"])
def test_the_shipped_job_variables_are_known_to_their_workers(kind: str) -> None:
    for path in SHIPPED.glob("*.yaml"):
        found = read_pool(path)
        if found.type == kind:
            assert variables.faults(found, worker_template(kind)) == []


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [("docker", "network_mod", "network_mode"), ("kubernetes", "namespce", "namespace"), ("ecs", "clster", "cluster"),
     ("process", "workng_dir", "working_dir")],
)  # fmt: skip
def test_a_misspelt_variable_is_told_with_the_nearest(kind: str, name: str, near: str) -> None:
    [said] = variables.faults(pool(kind, **{name: "x"}), worker_template(kind))
    assert f"a {kind} job has no variable {name!r}, did you mean {near!r}?" in said


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("docker", {"image_pull_policy": "Sometimes"}), ("docker", {"volumes": "/a:/a"}),
     ("kubernetes", {"backoff_limit": -1}), ("ecs", {"launch_type": "LAMBDA"}), ("ecs", {"cpu": "two"})],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_told(kind: str, wrong: dict[str, object]) -> None:
    [said] = variables.faults(pool(kind, **wrong), worker_template(kind))
    assert said.startswith(f"job variable {next(iter(wrong))!r}: ")


def test_a_reference_is_left_to_the_worker() -> None:
    reference = {"registry_credentials": "{{ prefect.blocks.docker-registry-credentials.mine }}"}
    assert variables.faults(pool("docker", **reference), worker_template("docker")) == []


def test_an_unknown_pool_is_told_with_the_nearest(home: Home, no_services) -> None:
    with pytest.raises(NotFound, match="did you mean 'docker'"):
        made("dcoker", home)


def test_a_wrong_file_ends_the_row(home: Home, no_services) -> None:
    define(home, "docker", "type: docker\ncost_per_hour: -1\n")
    found = made("docker", home)
    assert list(found) == ["file"]
    assert found["file"].ok is False
    assert "cost_per_hour is -1" in found["file"].said


def test_a_misspelt_job_variable_is_found_before_any_run(home: Home, no_services) -> None:
    define(home, "docker", "type: docker\nimage: x\njob_variables: {netwrk_mode: host}\n")
    found = made("docker", home)
    assert found["job template"].ok is False
    assert "'network_mode'" in found["job template"].said


def test_a_pool_without_an_image_needs_one_that_was_built(home: Home, no_services) -> None:
    define(home, "docker", "type: docker\n")
    check = made("docker", home)["image"]
    assert check.ok is False
    assert "volvox images --training" in check.mend


def test_a_server_that_is_not_there_is_told(home: Home, no_services, monkeypatch: pytest.MonkeyPatch) -> None:
    define(home, "docker", "type: docker\n")
    assert "`volvox up`" in made("docker", home)["prefect"].mend
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert "does not answer" in made("docker", home)["prefect"].said


def test_a_pool_of_processes_is_probed_from_a_process(home: Home, services: str) -> None:
    found = made("local", home)
    assert [name for name, check in found.items() if check.ok is not True] == []
    assert {"from inside: prefect", "from inside: mlflow", "from inside: store"} <= set(found)


def test_a_check_is_one_line_and_its_remedy_another() -> None:
    assert Check("image", True, "it is there", "nothing").line() == "ok       image                it is there"
    assert "-> push it" in Check("image", False, "it is not there", "push it").line()
    assert json.dumps(Check("image", None, "who knows", "ask").values())


def test_what_a_probe_said_counts_before_its_exit_code() -> None:
    line = json.dumps({"volvox-probe": {"store": {"ok": False, "said": "no folder /x"}}})
    [check] = probed(f"hello\n{line}\n", 68, "")
    assert (check.name, check.ok, check.said) == ("from inside: store", False, "no folder /x")
    assert "VOLVOX_STORE" in check.mend
    by_code = {check.name: check.ok for check in probed("", 65, "")}
    assert by_code == {"from inside: prefect": False, "from inside: mlflow": True, "from inside: store": True}


@pytest.mark.parametrize(
    ("output", "code", "ended", "said"),
    [
        ("", 137, "the container ran out of memory", "ran out of memory"),
        ("", None, "", "never ended"),
        ("python: No module named volvox.pools", 1, "", "No module named volvox.pools"),
        ("exec: python: not found", 127, "", "exit code 127"),
    ],
)
def test_a_job_that_never_came_to_the_probe_is_told(output: str, code: int | None, ended: str, said: str) -> None:
    [check] = probed(output, code, ended)
    assert check.ok is False
    assert said in check.said
