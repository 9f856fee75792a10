"""The runtimes of an installation, and where its functions go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from volvox.errors import InvalidInput
from volvox.functions import commands
from volvox.functions.checks import findings
from volvox.functions.definition import Function
from volvox.functions.reading import parse
from volvox.functions.writing import written
from volvox.pools.definition import Offers
from volvox.pricing import placing
from volvox.pricing.placing import RUNTIMES, charge_of, placed
from volvox.runtimes.opening import HERE, ON_AWS, runtime_of
from volvox.settings import Home

MACHINE = Offers(cpu=4, memory_mb=8_000, gpus=0)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_machine", lambda: MACHINE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("VOLVOX_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home").ensure()


def model(**more: Any) -> Function:
    return Function.model_validate({"name": "f", "model": "digits", **more})


def image(**more: Any) -> Function:
    return Function.model_validate({"name": "f", "image": "example/f", "command": ["f"], **more})


def price(home: Home, pool: str, hour: float) -> None:
    from volvox.pools import files

    files.enable(home, pool, {"cost_per_hour": hour})


def reason(choice: Any, runtime: str) -> str:
    return next(one for one in choice.reasons if one.startswith(f"{runtime}: "))


def test_a_model_goes_to_this_machine_and_an_image_to_its_engine(here: Home) -> None:
    assert runtime_of(model(), here) == "local"
    assert runtime_of(image(), here) == "docker"
    assert runtime_of(image(settings={"as_process": True}), here) == "local"
    assert runtime_of(Function(name="f", flow="cycle"), here) == "flow"


def test_a_stated_runtime_is_taken(here: Home) -> None:
    assert runtime_of(model(runtime="docker"), here) == "docker"
    assert runtime_of(model(runtime="lambda"), here) == "lambda"


def test_a_price_moves_a_function(here: Home) -> None:
    price(here, "local", 10.0)
    assert runtime_of(model(), here) == "docker"
    assert runtime_of(model(placement={"prefer": "fastest"}), here) == "local"


def test_more_than_this_machine_has_goes_nowhere_and_says_where_it_would(here: Home) -> None:
    with pytest.raises(InvalidInput) as error:
        runtime_of(model(resources={"memory_mb": 9_000}), here)
    assert "function 'f' fits no runtime that is here: local: does not fit: memory over 8,000 MB (needs 9,000)" in str(
        error.value
    )
    assert "lambda" in str(error.value).partition("would fit and are not set up here")[0]


def test_a_gpu_goes_where_there_is_one(here: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = placed(model(resources={"gpus": 1}), here, RUNTIMES)
    assert "no GPU (needs 1)" in reason(choice, "lambda")
    assert choice.runtime in ("batch", "lambda-batch", "oscar")
    monkeypatch.setattr(placing, "_machine", lambda: MACHINE.model_copy(update={"gpus": 2}))
    assert runtime_of(model(resources={"gpus": 1}), here) == "local"


def test_an_engine_refuses_more_processors_than_there_are_and_a_process_shares_them(here: Home) -> None:
    choice = placed(model(resources={"cpu": 8}), here, HERE)
    assert reason(choice, "docker") == "docker: does not fit: more than 4 CPU (needs 8)"
    assert choice.runtime == "local"


def test_every_runtime_has_a_reason(here: Home) -> None:
    opened = [one for one in HERE if one not in ON_AWS]
    choice = placed(image(resources={"memory_mb": 2048, "cpu": 1}), here, opened)
    assert {one.partition(":")[0] for one in choice.reasons} == set(RUNTIMES)
    assert "runs models, and scripts only with settings: {as_process: true}" in reason(choice, "local")
    assert "fits, but it is not set up here" in reason(choice, "lambda")


def test_only_allowed_runtimes_are_looked_at(here: Home) -> None:
    choice = placed(model(placement={"among": ["docker", "ecs"]}), here, RUNTIMES)
    assert choice.runtime == "docker"
    assert len(choice.reasons) == 2


def test_what_lambda_cannot_finish_is_priced_as_batch(here: Home) -> None:
    small, long = image(), image(timeout_seconds=3600, placement={"call_seconds": 1800})
    assert charge_of("lambda-batch", small, here) == charge_of("lambda", small, here)
    assert charge_of("lambda-batch", long, here) == charge_of("batch", long, here)


def test_a_long_limit_alone_is_no_reason_to_leave_lambda(here: Home) -> None:
    asked = image(timeout_seconds=3600, placement={"call_seconds": 5})
    assert charge_of("lambda-batch", asked, here) == charge_of("lambda", asked, here)


def test_an_architecture_has_its_price(here: Home) -> None:
    arm = image(settings={"lambda": {"architectures": ["arm64"]}})
    charge, usual = charge_of("lambda", arm, here), charge_of("lambda", image(), here)
    assert charge and usual
    assert charge.second < usual.second


def test_the_cost_of_a_flow_is_told_by_its_pool(here: Home) -> None:
    assert charge_of("flow", Function(name="f", flow="cycle"), here) is None


def test_the_papers_call_costs_what_the_corrected_price_says(here: Home) -> None:
    asked = image(resources={"memory_mb": 2048}, placement={"call_seconds": 15.7, "calls_per_hour": 3600},
                  scaling={"max_scale": 100})  # fmt: skip
    [told] = [one for one in placed(asked, here, ("lambda",)).candidates if one.place.runtime == "lambda"]
    assert told.prediction is not None
    assert told.prediction.cost == pytest.approx(0.000523, rel=0.01)


def test_a_file_says_what_its_owner_prefers(tmp_path: Path) -> None:
    text = (
        "name: f\nmodel: digits\n"
        "placement: {prefer: 0.25, call_seconds: 13, calls_per_hour: 9, image_mb: 1, payload_mb: 2,\n"
        "            among: [local, ecs]}\n"
    )
    [found] = parse(text, tmp_path / "f.yaml").functions
    assert found.placement.prefer == 0.25
    assert found.placement.among == ("local", "ecs")
    again, _ = written([found])
    assert parse(again, tmp_path / "f.yaml").functions == (found,)


@pytest.mark.parametrize(
    ("placement", "told"),
    [
        ("{prefer: dearest}", "f.yaml:3: placement.prefer is 'dearest'"),
        ("{prefer: 2}", "placement.prefer is 2; write a number from 0 to 1"),
        ("{call_seconds: -1}", "placement.call_seconds is -1"),
        ("{among: [auto]}", "placement.among.0 is 'auto'"),
        ("{among: [moon]}", "allowed are local, docker, kubernetes"),
        ("{cost: 1}", "there is no key 'placement.cost'"),
    ],
)
def test_a_wrong_preference_is_told(tmp_path: Path, placement: str, told: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse(f"name: f\nmodel: digits\nplacement: {placement}\n", tmp_path / "f.yaml")
    assert told in str(error.value)


def test_a_function_that_fits_nothing_is_found_out_before_it_is_deployed(here: Home) -> None:
    told = {each.name: each for each in findings(model(resources={"memory_mb": 9_000}), here)}
    assert told["runtime"].ok is False
    assert "memory over 8,000 MB" in told["runtime"].said
    assert "runtime" not in {each.name for each in findings(model(), here)}


def run(*words: object) -> Any:
    return CliRunner().invoke(commands.functions, [*map(str, words)], catch_exceptions=False)


def test_apply_show_and_check_tell_where_it_goes_and_why(here: Home, tmp_path: Path) -> None:
    file = tmp_path / "frames.yaml"
    file.write_text("image: example/frames\ncommand: [frames]\nplacement: {call_seconds: 4}\n")
    applied = run("apply", file).output
    assert "function 'frames' goes to docker (4 s a call):\n  docker: fits; wait 3.0 s, answer after 7.0 s" in applied
    assert "  lambda: fits, but it is not set up here" in applied
    assert "goes to" not in run("apply", file).output  # nothing changed
    shown = run("show", "frames").output
    assert "# function 'frames' goes to docker (4 s a call):" in shown
    assert parse(shown, file).functions[0].name == "frames"
    assert "function 'frames' goes to docker" in run("check", "frames").output
    for words in (("apply", file), ("check", "frames"), ("check", file)):
        told = json.loads(run(*words, "--json").output)["choices"]["frames"]
        assert (told["runtime"], told["call_seconds"], told["assumed"]) == ("docker", 4, False)
    assert json.loads(run("show", "frames", "--json").output)["choice"]["candidates"][0]["runtime"] == "docker"


def test_a_function_that_fits_nothing_is_applied_with_a_warning(here: Home, tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text("image: example/large\ncommand: [large]\nresources: {memory: 64Gi}\n")
    done = run("apply", file)
    assert done.exit_code == 0
    assert "warning: large: runtime: function 'large' fits no runtime that is here" in done.stderr
    assert "function 'large' fits no runtime here (10 s a call, as placement.call_seconds says nothing):" in done.output
    assert run("check", "large").exit_code == 4
