"""The page on elasticity says what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from volvox.elasticity import paper
from volvox.elasticity.policy import JOB_WEIGHT
from volvox.elasticity.reading import KEYS, read
from volvox.elasticity.scenario import MOST_JOBS, Instances, Nodes
from volvox.elasticity.simulation import simulate
from volvox.functions.reading import parse
from volvox.pricing.prices import read_prices

PAGE = (Path(__file__).parents[3] / "docs" / "elasticity.md").read_text()
SCENARIO, FUNCTION = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_scenario_can_be_simulated(tmp_path: Path) -> None:
    (tmp_path / "evening.yaml").write_text(SCENARIO)
    result = simulate(read(tmp_path / "evening.yaml"))
    assert len(result.jobs) == 200
    assert len(result.nodes) > 1


def test_the_function_can_be_applied(tmp_path: Path) -> None:
    [function] = parse(FUNCTION, tmp_path / "frames.yaml").functions
    assert function.placement.prefer == "fastest"


def test_every_key_is_explained() -> None:
    table = PAGE.partition("| key | what it says")[2].partition("\n\n")[0]
    explained = {word.rpartition(".")[2] for word in re.findall(r"`([\w.]+)`", table)}
    assert {key for section, keys in KEYS.items() for key in keys if section} <= explained


def test_the_defaults_that_are_told_are_true() -> None:
    instances, nodes = Instances(), Nodes()
    assert "for so long; 0, 1000, 300 |" in PAGE
    assert (instances.least, instances.most, instances.idle_seconds) == (0, 1000, 300)
    assert "off after so long; 1, 0, 300 |" in PAGE
    assert (nodes.slots, nodes.boot_seconds, nodes.idle_seconds) == (1, 0, 300)
    assert f"{MOST_JOBS:,} at most" in PAGE
    assert JOB_WEIGHT == 1 / 5


@pytest.mark.parametrize("replay", paper.replays(), ids=lambda replay: replay.name)
def test_the_papers_experiments_are_told_as_they_are_simulated(replay: paper.Replay) -> None:
    column = {"batch": 0, "oscar": 1}[replay.name]
    rows = {line.split("|")[1].strip(): line.split("|")[2 + column].strip() for line in PAGE.splitlines()
            if line.startswith("| ") and line.count("|") == 4}  # fmt: skip
    result = replay.replayed
    runs = ", ".join(f"{one.run_seconds:g}" for one in result.scenario.work)
    assert rows["run times"] == f"{runs} s"
    assert rows["image pull"] == f"{result.scenario.pull_seconds:g} s"
    assert rows["between two jobs of a slot"] == f"{result.scenario.instances.between_seconds:g} s"
    assert rows["simulated"] == f"{result.makespan_seconds:.0f} s ({replay.difference * 100:+.1f} %)"
    assert rows["the paper's last end"] == f"{replay.published_seconds:.0f} s"
    assert rows["two warm slots, the limit"] == f"{replay.two_slots.makespan_seconds:.0f} s"


def test_the_gains_that_are_told_are_computed() -> None:
    gains = paper.gains()
    for jobs, seconds in re.findall(r"(\d+) s with (\d+)(?: images)?", PAGE.partition("second gains")[2][:120]):
        assert round(gains[int(seconds)]) == int(jobs)
    assert "up to 13 images" in PAGE.replace("\n", " ")
    assert gains[13] == 0 < gains[14]


def test_the_corrected_prices_are_told() -> None:
    for one in read_prices().corrections:
        told = f"{one.corrected:.10f}".rstrip("0")
        assert told in PAGE, one.item
