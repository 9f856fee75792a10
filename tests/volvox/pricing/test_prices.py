"""Prices: dated, with sources, replaced key by key, and the paper's corrected."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from volvox.errors import InvalidInput
from volvox.functions.definition import Function
from volvox.pools.definition import PoolDefinition
from volvox.pricing.charges import Charge, machine_for, of_batch, of_fargate, of_hour, of_lambda, of_pool
from volvox.pricing.commands import prices as command
from volvox.pricing.prices import read_prices
from volvox.settings import Home

PRICES = read_prices()


def function(**more: object) -> Function:
    return Function.model_validate({"name": "f", "image": "example/f", **more})


def test_the_file_has_a_date_a_region_and_sources() -> None:
    assert datetime.date.fromisoformat(PRICES.date) > datetime.date(2025, 1, 1)
    assert PRICES.region == "us-east-1"
    for part in (PRICES.on_aws_lambda, PRICES.fargate, PRICES.ec2):
        assert part.source.startswith("https://aws.amazon.com/")


def test_the_papers_errors_are_what_the_prices_say() -> None:
    printed = {one.item.partition(",")[0] + one.item.partition(",")[2][:12]: one for one in PRICES.corrections}
    assert len(printed) == 5
    on_lambda = of_lambda(function(resources={"memory_mb": 2048}), PRICES)
    millisecond, run, batch, ten, oscar = PRICES.corrections
    assert millisecond.corrected == pytest.approx(on_lambda.second / 1000, rel=0.01)
    assert millisecond.printed == pytest.approx(10 * millisecond.corrected, rel=0.01)
    assert run.corrected == pytest.approx(on_lambda.cost(15.7), rel=0.01)
    assert run.printed == pytest.approx(run.corrected / 100, rel=0.01)
    second = PRICES.ec2.machines["m3.medium"].hour / 3600
    assert batch.corrected == pytest.approx(second, rel=0.01)
    assert batch.printed == pytest.approx(10 * batch.corrected, rel=0.01)
    assert ten.corrected == pytest.approx(2 * 294 * second, rel=0.01)
    assert oscar.corrected == pytest.approx(0.448 * 261 / 3600, rel=0.01)
    assert oscar.printed == pytest.approx(0.448 * 386 / 3600, rel=0.01)


def test_a_home_replaces_single_prices(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(
        "lambda: {gb_second: 0.5}\nec2: {machines: {t3.medium: {hour: 0.04, cpu: 2, memory_mb: 4096}}}\n"
    )
    found = read_prices(Home(tmp_path))
    assert found.on_aws_lambda.gb_second == 0.5
    assert found.on_aws_lambda.request == PRICES.on_aws_lambda.request
    assert set(found.ec2.machines) == {*PRICES.ec2.machines, "t3.medium"}
    assert found.date == PRICES.date


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("lambda:\n  gb_second: -1", 2, "lambda.gb_second: input should be greater than or equal to 0 (it is -1)"),
        ("lambda:\n  gbsecond: 1", 2, "lambda.gbsecond: is not known"),
        ("currency: EUR\nfargate: {vcpu_hour: dear}", 2, "fargate.vcpu_hour: input should be a valid number"),
        ("ec2: {machines: {t3: {hour: 1, cpu: 0, memory_mb: 1}}}", 1, "ec2.machines.t3.cpu"),
        ("ec2:\n  machines:\n    t3: {hour: 1}", 3, "ec2.machines.t3.cpu: field required"),
        ("lambda: {gb_second: .inf}", 1, "lambda.gb_second"),
        ("a: [", 1, "not YAML"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, text: str, line: int, told: str) -> None:
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(InvalidInput) as error:
        read_prices(Home(tmp_path))
    assert told in str(error.value)
    assert f"{tmp_path}/prices.yaml:{line}: " in str(error.value)


def test_lambda_is_paid_by_memory_and_request() -> None:
    charge = of_lambda(function(resources={"memory_mb": 2048}), PRICES)
    assert 1000 * charge.cost(13) == pytest.approx(0.433 + 0.0002, abs=1e-3)
    arm = of_lambda(function(resources={"memory_mb": 2048}), PRICES, arm64=True)
    assert arm.second == pytest.approx(0.8 * charge.second, rel=1e-4)
    assert charge.idle_second == 0


def test_fargate_is_paid_by_processors_and_memory_for_a_minute_at_least() -> None:
    charge = of_fargate(function(resources={"memory_mb": 4096, "cpu": 2}), PRICES)
    assert charge.cost(3600) == pytest.approx(2 * 0.04048 + 4 * 0.004445)
    assert charge.cost(1) == charge.cost(60) < charge.cost(61)


@pytest.mark.parametrize(
    ("resources", "machine"),
    [
        ({}, "m3.medium"),
        ({"memory_mb": 6000}, "m5.large"),
        ({"cpu": 3}, "m5.xlarge"),
        ({"gpus": 1}, "g4dn.xlarge"),
    ],
)
def test_batch_takes_the_cheapest_machine_that_is_large_enough(resources: dict[str, float], machine: str) -> None:
    asked = function(resources=resources)
    name, kind = machine_for(asked, PRICES)
    assert name == machine
    assert of_batch(asked, PRICES).cost(3600) == pytest.approx(kind.hour)


def test_no_machine_is_large_enough() -> None:
    with pytest.raises(InvalidInput, match=r"no EC2 machine whose price is known has 1 CPU, 999999999 MB, 0 GPUs"):
        of_batch(function(resources={"memory_mb": 999_999_999}), PRICES)


def test_a_pool_and_an_hour() -> None:
    pool = of_pool(PoolDefinition(name="local", type="process", cost_per_hour=3.6))
    assert pool.cost(10) == pytest.approx(0.01)
    assert pool.idle_second == pool.second
    assert of_pool(PoolDefinition(name="local", type="process")) == Charge()
    assert of_hour(3.6, PRICES).cost(1) == pytest.approx(0.001)
    assert of_hour(0, PRICES).cost(1) == 0


def test_the_command_shows_prices_sources_and_corrections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLVOX_HOME", str(tmp_path))
    told = CliRunner().invoke(command).output
    assert told.startswith(f"prices of {PRICES.date}, us-east-1\n")
    assert "0.0000166667 USD a GB-second" in told
    assert "0.00000523 is 0.000523 USD" in told
    found = json.loads(CliRunner().invoke(command, ["--json"]).output)
    assert found["lambda"]["gb_second"] == PRICES.on_aws_lambda.gb_second
    assert found["pools"]["local"] == 0
