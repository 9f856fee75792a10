"""`volvox simulate` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from volvox.elasticity import paper
from volvox.elasticity.commands import simulate
from volvox.errors import InvalidInput

PNG = b"\x89PNG\r\n\x1a\n"
TEXT = """\
jobs: {count: 30, run_seconds: 20}
image: {pull_seconds: 10}
nodes: {at_start: 1, max: 3, slots: 2, boot_seconds: 60, idle_seconds: 30}
prices: {node_hour: 0.2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "burst.yaml"
    path.write_text(TEXT)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(simulate, [*map(str, words)], catch_exceptions=True)


def test_the_paper_beside_what_was_simulated() -> None:
    told = run("--paper").output
    rows = {line.split("  ")[0]: line.split() for line in told.splitlines()}
    assert {"299", "294", "+1.7%", "70"} <= set(rows["AWS Batch (Table 1)"])
    assert {"262", "261", "+0.4%", "119"} <= set(rows["OSCAR (Table 2)"])
    assert "7 s with 14, 30 s with 16, 78 s with 20" in told


def test_the_paper_for_machines() -> None:
    told = json.loads(run("--paper", "--json").output)
    assert told == paper.values()
    assert told["paper"]["oscar"]["published"] == 261
    assert told["paper"]["second_node_gain"]["14"] == pytest.approx(6.8)


def test_a_file_with_all_policies_the_files_own_first(file: Path) -> None:
    lines = run(file).output.splitlines()
    assert lines[0] == "burst: 30 jobs, 20 s each on average"
    assert [line.split()[0] for line in lines[2:5]] == ["needed", "eager", "always"]
    file.write_text(TEXT.replace("max: 3", "max: 3, policy: always"))
    assert run(file).output.splitlines()[2].startswith("always")


def test_chosen_policies_and_jobs_for_machines(file: Path) -> None:
    told = json.loads(run(file, "--policy", "eager", "--jobs", "--json").output)
    assert [one["policy"] for one in told["simulations"]] == ["eager"]
    assert len(told["jobs"]) == 30
    assert told["jobs"][0] == {"at_seconds": 0.0, "begun": 10.0, "ended": 30.0, "wait_seconds": 10.0, "node": 0}


def test_jobs_are_listed(file: Path) -> None:
    lines = run(file, "--jobs").output.splitlines()
    assert [line.split()[0] for line in lines[-30:]] == [str(number) for number in range(1, 31)]


def test_a_file_without_nodes(file: Path) -> None:
    file.write_text("jobs: {count: 30, run_seconds: 20}")
    told = json.loads(run(file, "--json").output)["simulations"]
    assert [(one["policy"], one["makespan_seconds"]) for one in told] == [(None, 20)]
    assert "no nodes" in run(file).output
    assert isinstance(run(file, "--policy", "eager").exception, InvalidInput)


@pytest.mark.parametrize("words", [["--paper"], ["FILE"]])
def test_a_picture(file: Path, tmp_path: Path, words: list[str]) -> None:
    from PIL import Image

    picture = tmp_path / "it.png"
    done = run(*[file if word == "FILE" else word for word in words], "--plot", picture)
    assert done.output.endswith(f"drew {picture}\n")
    assert picture.read_bytes().startswith(PNG)
    with Image.open(picture) as opened:
        colours = opened.convert("RGB").getcolors(1 << 24)
    assert (0x2F, 0x6F, 0x9F) in {colour for _, colour in colours or []}  # jobs were drawn


def test_a_picture_without_nodes(file: Path, tmp_path: Path) -> None:
    file.write_text("jobs: {count: 100, per_hour: 900, run_seconds: 20}")
    assert run(file, "--plot", tmp_path / "it.png").exit_code == 0
    assert (tmp_path / "it.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "give a file, or --paper"),
        (["FILE", "--paper"], "not both"),
        (["FILE", "--plot", "it.jpg"], "name it it.png"),
        (["FILE", "--plot", "/nowhere/at/all/it.png"], "there is no folder /nowhere/at/all"),
        (["--paper", "--jobs"], "go with a file"),
        (["missing.yaml"], "missing.yaml cannot be read"),
    ],
)
def test_what_cannot_be_done_is_told(file: Path, words: list[str], told: str) -> None:
    error = run(*[file if word == "FILE" else word for word in words]).exception
    assert isinstance(error, InvalidInput)
    assert told in str(error)
