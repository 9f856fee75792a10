"""The whole cycle, as a user runs it: by the command line, on real servers."""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.flows.conftest import QUICK, SMALL, STAGES, Installation

pytestmark = pytest.mark.cycle


def _reused(cycle: dict) -> dict[str, bool]:
    return {stage["stage"]: stage["reused"] for stage in cycle["stages"]}


@pytest.fixture(scope="module")
def first(installation: Installation, digits: Path) -> dict:
    return installation.json("cycle", str(digits), "--name", "first", *SMALL)


def test_every_stage_is_done_in_order_and_the_model_is_good(first: dict) -> None:
    assert [stage["stage"] for stage in first["stages"]] == list(STAGES)
    assert not any(reused for stage, reused in _reused(first).items() if stage != "data"), "another test may share data"
    assert first["version"]["champion"]
    assert first["evaluation"]["metrics"]["accuracy"] > 0.8
    assert first["image"]["built"] is False
    assert "--no-image" in first["image"]["reason"]


def test_every_printed_link_answers(installation: Installation, first: dict) -> None:
    links = {**first["links"], "try": first["service"]["try_url"]}
    assert {"example", "catalogue", "prefect", "mlflow"} <= set(links)
    for title, url in links.items():
        if title != "example":
            answer = httpx.get(url, follow_redirects=True, timeout=30, headers={"Accept": "text/html"})
            assert answer.status_code == 200, f"{title}: {url} answered {answer.status_code}"
    server = links["prefect"].partition("/runs/")[0]
    run = httpx.get(f"{server}/api/flow_runs/{first['flow_run']}")
    assert run.json()["state"]["type"] == "COMPLETED", "the page behind the link has something to show"


def test_the_printed_curl_line_works_when_pasted(installation: Installation, digits: Path, first: dict) -> None:
    printed = installation.run("cycle", str(digits), "--name", "first", *SMALL).stdout
    line = next(line.strip() for line in printed.splitlines() if " curl -F" in line)
    answer = json.loads(
        subprocess.run(shlex.split(line[line.index("curl ") :]), capture_output=True, check=True, timeout=30).stdout
    )
    assert answer["predictions"]["labels"][0] in ("0", "1", "2")


def test_an_unchanged_second_run_reuses_every_stage(installation: Installation, digits: Path, first: dict) -> None:
    second = installation.json("cycle", str(digits), "--name", "first", *SMALL)
    assert _reused(second) == dict.fromkeys(STAGES, True)
    assert second["version"] == first["version"]
    assert second["service"] == first["service"]


def test_changed_arguments_train_again_on_the_same_dataset(installation: Installation, digits: Path) -> None:
    before = installation.json("cycle", str(digits), "--name", "changed", *QUICK)
    after = installation.json("cycle", str(digits), "--name", "changed", *QUICK, "--seed", "1")
    assert _reused(after)["data"] is True
    assert _reused(after)["training"] is False
    assert (before["version"]["version"], after["version"]["version"]) == ("1", "2")
    assert after["attempts"][0]["arguments"] == {"seed": 1}


def test_a_training_in_several_processes_is_the_same_training_on_a_pool_too(
    installation: Installation, digits: Path
) -> None:
    asked = ("cycle", str(digits), "--name", "together", "--module", "together", "--no-image")
    made = installation.json(*asked, "--processes", "2", "--on", "training=local")
    assert made["model"]["metrics"]["world"] == made["model"]["processes"] == 2
    assert next(stage for stage in made["stages"] if stage["stage"] == "training")["place"] == "local"
    again = installation.json(*asked)
    assert all(_reused(again).values())
    assert again["model"] == made["model"], "what it took, where, and in how many processes is kept"
    assert made["model"]["cost"] == 0


def test_a_module_that_never_ran_is_timed_and_then_its_time_is_known(installation: Installation, digits: Path) -> None:
    asked = ("cycle", str(digits), "--name", "timed", *QUICK, "--seed", "77", "--steps", "3", "--dry-run")
    done = installation.run(*asked, "--calibrate", "--json")
    assert "calibrating: nearest is trained up to 3 times on at most 256 of the images" in done.stderr
    measured = re.search(r"^here: (\d+) images in [\d.]+ s$", done.stderr, re.MULTILINE)
    assert measured
    assert int(measured[1]) > 50
    here = next(row for row in json.loads(done.stdout)["training"] if row["pool"] == "here")
    assert here["estimate"]["seconds"] > 0
    assert here["cost"] == 0
    again = installation.json(*asked)
    assert [row["estimate"] for row in again["training"] if row["pool"] == "here"] == [here["estimate"]]
    assert not any(name == "timed" for name, _ in installation.registered()), "nothing else was made"


def test_a_refused_gate_lists_every_attempt_and_leaves_the_champion_serving(
    installation: Installation, digits: Path, tmp_path: Path
) -> None:
    good = installation.json("cycle", str(digits), "--name", "gate", *QUICK)
    (tmp_path / "tries.yaml").write_text("- {seed: 2}\n- {seed: 3}\n")
    refused = installation.run(
        "cycle", str(digits), "--name", "gate", *QUICK, "--wrong", "--seed", "1",
        "--attempts", "3", "--try", str(tmp_path / "tries.yaml"), "--json", check=False,
    )  # fmt: skip
    assert refused.returncode == 3, refused.stderr
    told = json.loads(refused.stdout)
    assert [attempt["arguments"]["seed"] for attempt in told["attempts"]] == [1, 2, 3]
    assert all(not attempt["verdict"]["accepted"] for attempt in told["attempts"])
    assert re.search(r"0\.\d+", refused.stderr), "the refusal is told with its numbers"
    (served,) = (
        service
        for service in json.loads((installation.home / "serving" / "services.json").read_text())
        if service["name"] == "gate"
    )
    assert served["model_version"] == good["version"]["digest"]
    assert installation.run("predict", str(next((digits / "1").iterdir())), "--name", "gate").returncode == 0


def test_a_later_attempt_that_is_good_enough_is_served(
    installation: Installation, digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "tries.json").write_text('[{"seed": 5}, {"wrong": false}]')
    made = installation.json(
        "cycle", str(digits), "--name", "third", *QUICK, "--wrong",
        "--attempts", "3", "--try", str(tmp_path / "tries.json"),
    )  # fmt: skip
    assert [attempt["verdict"]["accepted"] for attempt in made["attempts"]] == [False, False, True]
    assert made["service"]["version"] == "1"


def test_a_cycle_killed_at_every_stage_boundary_goes_on_and_makes_nothing_twice(
    installation: Installation, digits: Path
) -> None:
    words = ("cycle", str(digits), "--name", "killed", *QUICK)
    for stage in STAGES[:-1]:
        assert installation.run_until(rf"\b{stage}: finished", *words) == -9
    last = installation.json(*words)
    reused = _reused(last)
    assert all(reused[stage] for stage in STAGES[:-2]), reused
    _assert_made_once(installation, "killed", last)


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("interrupted", (*QUICK, "--steps", "60"), r"\btraining: \d+/60 steps"),
        pytest.param(
            "interrupted-network", (*SMALL, "--epochs", "40"), r"\btraining: \d+/40 epochs, .* accuracy",
            marks=pytest.mark.soak,
        ),
    ],
)  # fmt: skip
def test_a_cycle_killed_inside_training_goes_on_from_its_newest_checkpoint(
    installation: Installation, digits: Path, name: str, arguments: tuple[str, ...], line: str
) -> None:
    words = ("cycle", str(digits), "--name", name, *arguments)
    before = _unfinished_runs(installation)
    assert installation.run_until(line, *words) == -9
    (run,) = _unfinished_runs(installation) - before
    said = installation.run(*words).stderr
    assert re.search(r"training: went on from epoch [1-9]", said), said
    last = installation.json(*words)
    assert last["model"]["run_id"] == run, "the same MLflow run goes on"
    _assert_made_once(installation, name, last)


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_a_cycle_killed_at_any_moment_goes_on_and_makes_nothing_twice(
    installation: Installation, digits: Path, kills: int
) -> None:
    moments = random.Random(kills)
    words = ("cycle", str(digits), "--name", f"killed-{kills}-times", *QUICK, "--steps", "30")
    for _ in range(kills):
        installation.run_for(moments.uniform(0.5, 12), *words)
    _assert_made_once(installation, f"killed-{kills}-times", installation.json(*words))


def _unfinished_runs(installation: Installation) -> set[str]:
    kept = (installation.home / "store" / "checkpoints").glob("*/run.json")
    return {json.loads(path.read_text())["run_id"] for path in kept}


def _assert_made_once(installation: Installation, name: str, last: dict) -> None:
    assert [found for found, _ in installation.registered()].count(name) == 1
    catalogue = httpx.get(last["service"]["url"] + "/catalogue/catalogue.json").json()
    entries = catalogue["entries"] if isinstance(catalogue, dict) else catalogue
    assert len([entry for entry in entries if entry["name"] == name]) == 1
    models = httpx.get(last["service"]["url"] + "/v2/models/").json()["models"]
    assert len([model for model in models if model["id"] == name]) == 1
