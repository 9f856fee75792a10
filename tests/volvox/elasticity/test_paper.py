"""The experiments of the gateway's paper: what is computed, from what, and what is not looked at."""

from __future__ import annotations

import csv
import random
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from volvox.elasticity import paper
from volvox.elasticity.scenario import Scenario
from volvox.elasticity.simulation import simulate

Row = dict[str, str]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A copy of the shipped tables."""
    return Path(shutil.copytree(paper.TABLES, tmp_path / "tables"))


def rows(path: Path) -> list[Row]:
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))


def rewrite(path: Path, change: Callable[[list[Row]], list[Row]]) -> None:
    changed = change(rows(path))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, changed[0])
        writer.writeheader()
        writer.writerows(changed)


@pytest.mark.parametrize(("name", "published"), [("batch", 294), ("oscar", 261)])
def test_the_papers_makespan_is_computed_within_5_percent(name: str, published: float) -> None:
    [replay] = [one for one in paper.replays() if one.name == name]
    assert replay.replayed.makespan_seconds == pytest.approx(published, rel=0.05)
    assert replay.published_seconds == published
    assert replay.difference == pytest.approx(replay.replayed.makespan_seconds / published - 1)


def test_no_column_but_the_run_times_is_read(tables: Path) -> None:
    before = paper.values(tables)
    source = random.Random(3)
    for name in ("batch", "oscar"):
        rewrite(
            tables / f"{name}.csv",
            lambda found: [
                {**row, "wait_seconds": str(source.randint(0, 999)), "total_seconds": str(source.randint(0, 999))}
                for row in found
            ],
        )
    assert paper.values(tables) == before
    for name in ("batch", "oscar"):
        rewrite(tables / f"{name}.csv", lambda found: [{"run_seconds": row["run_seconds"]} for row in found])
    assert paper.values(tables) == before


@pytest.mark.parametrize("name", ["batch", "oscar"])
@pytest.mark.parametrize("index", range(10))
def test_every_run_time_counts(tables: Path, name: str, index: int) -> None:
    before = paper.values(tables)["paper"]
    rewrite(
        tables / f"{name}.csv",
        lambda found: [
            {**row, "run_seconds": str(float(row["run_seconds"]) + 40 * (number == index))}
            for number, row in enumerate(found)
        ],
    )
    after = paper.values(tables)["paper"]
    assert after[name]["simulated"] > before[name]["simulated"]
    assert after[name]["two_slots"] > before[name]["two_slots"]
    if name == "oscar":
        assert after["second_node_gain"] != before["second_node_gain"]


@pytest.mark.parametrize(
    ("key", "changed"), [("pull_seconds: 44", "pull_seconds: 144"), ("between_seconds: -2", "between_seconds: 8")]
)
def test_pull_and_pause_count(tables: Path, key: str, changed: str) -> None:
    path = tables / "oscar.yaml"
    assert key in path.read_text()
    path.write_text(path.read_text().replace(key, changed))
    assert paper.values(tables)["paper"]["oscar"]["simulated"] > paper.values()["paper"]["oscar"]["simulated"] + 50


def test_a_node_that_boots_sooner_ends_sooner(tables: Path) -> None:
    path = tables / "batch.yaml"
    path.write_text(path.read_text().replace("boot_seconds: 244", "boot_seconds: 60"))
    assert paper.values(tables)["paper"]["batch"]["simulated"] < 240


@pytest.mark.parametrize(("name", "seconds", "mean_wait"), [("batch", 70, 28.7), ("oscar", 119, 47.3)])
def test_two_warm_slots_are_the_limit(name: str, seconds: float, mean_wait: float) -> None:
    [replay] = [one for one in paper.replays() if one.name == name]
    assert replay.two_slots.makespan_seconds == seconds
    assert replay.two_slots.mean_wait_seconds == pytest.approx(mean_wait)


def oscar(
    pull: float = 0, between: float = 0, slots_on: int = 1, boot: float = 300, most: int = 2, name: str = "oscar"
) -> Scenario:
    told = paper.scenario(name)
    assert told.nodes is not None
    nodes = replace(told.nodes, at_start=slots_on, most=most, boot_seconds=boot)
    return replace(told, pull_seconds=pull, instances=replace(told.instances, between_seconds=between), nodes=nodes)


@pytest.mark.parametrize(
    ("scenario", "makespan", "mean_wait"),
    [
        (oscar(most=1), 236, 106.4),
        (oscar(slots_on=2, pull=44), 163, 91.3),
        (oscar(boot=60), 154, 73.7),
        (oscar(boot=300), 236, 106.4),
        (oscar(name="batch", slots_on=2, between=17), 138, 62.7),
    ],
)
def test_other_ways_to_do_the_same_take_what_they_must(scenario: Scenario, makespan: float, mean_wait: float) -> None:
    result = simulate(scenario)
    assert result.makespan_seconds == makespan
    assert result.mean_wait_seconds == pytest.approx(mean_wait)


def test_the_second_node_comes_too_late_for_12_jobs_and_gains_for_14_and_20() -> None:
    gains = paper.gains()
    assert [gains[jobs] for jobs in (10, 12, 13)] == [0, 0, 0]
    assert {jobs: round(gains[jobs]) for jobs in (14, 16, 20, 28)} == {14: 7, 16: 30, 20: 78, 28: 172}


def test_our_policy_boots_no_second_node_for_the_papers_ten_images() -> None:
    [replay] = [one for one in paper.replays() if one.name == "oscar"]
    assert len(replay.replayed.nodes) == 2
    assert len(replay.needed.nodes) == 1
    assert replay.needed.makespan_seconds == replay.replayed.makespan_seconds
    assert replay.needed.cost < replay.replayed.cost / 2


@pytest.mark.parametrize(
    ("name", "total", "waits", "ends"),
    [
        ("batch", 135, (165.9, 174, 281), [22, 84, 114, 141, 171, 202, 232, 262, 272, 294]),
        ("oscar", 236, (140.4, 140.5, 237), [68, 90, 112, 132, 154, 174, 196, 215, 238, 261]),
    ],
)
def test_the_tables_are_the_papers(name: str, total: float, waits: tuple[float, ...], ends: list[int]) -> None:
    found = rows(paper.TABLES / f"{name}.csv")
    runs, waited = ([float(row[column]) for row in found] for column in ("run_seconds", "wait_seconds"))
    assert sum(runs) == total
    assert (statistics.mean(waited), statistics.median(waited), max(waited)) == pytest.approx(waits)
    assert sorted(float(row["total_seconds"]) for row in found) == ends
    assert [run + wait for run, wait in zip(runs, waited, strict=True)] == [
        float(row["total_seconds"]) for row in found
    ]


def test_what_machines_are_told_has_the_agreed_keys() -> None:
    told = paper.values()["paper"]
    assert set(told) == {"batch", "oscar", "second_node_gain"}
    assert {"simulated", "published", "two_slots"} <= set(told["batch"]) == set(told["oscar"])
    assert {"12", "14", "20"} <= set(told["second_node_gain"])
