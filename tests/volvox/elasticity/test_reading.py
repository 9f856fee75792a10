"""Files of simulations: what is understood, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from volvox.elasticity.reading import KEYS, read
from volvox.elasticity.scenario import Instances, Nodes, Prices
from volvox.errors import InvalidInput

WHOLE = """\
name: evening
jobs: {count: 3, per_hour: 3600, seed: 7, run_seconds: [1, 2, 3]}
image: {pull_seconds: 44}
instances: {kept: true, start_seconds: 2, between_seconds: 1, min: 1, max: 8, idle_seconds: 30, expected_seconds: 9}
nodes: {min: 1, max: 4, at_start: 2, slots: 2, boot_seconds: 300, idle_seconds: 180, policy: eager}
prices: {node_hour: 0.2, gb_second: 0.00002, request: 0.1, memory_mb: 512, currency: EUR}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "evening.yaml"
    path.write_text(text)
    return path


def test_every_key_is_understood(tmp_path: Path) -> None:
    found = read(written(tmp_path, WHOLE))
    assert found.name == "evening"
    assert [one.run_seconds for one in found.work] == [1, 2, 3]
    assert found.pull_seconds == 44
    assert found.instances == Instances(True, 2, 1, 1, 8, 30, 9)
    assert found.nodes == Nodes(1, 4, 2, 2, 300, 180, "eager")
    assert found.prices == Prices(0.2, 0.00002, 0.1, 512, "EUR")
    stated = {key for section in KEYS.values() for key in section} - {"csv", "at_seconds", "prefetched"}
    assert all(key in WHOLE for key in stated)


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    found = read(written(tmp_path, "jobs: {at_seconds: [5, 0], run_seconds: 20}"))
    assert [(one.at_seconds, one.run_seconds) for one in found.work] == [(0, 20), (5, 20)]
    assert found.nodes is None
    assert found.instances.expected_seconds == 20


def test_an_image_that_was_fetched_before_is_not_fetched(tmp_path: Path) -> None:
    text = "jobs: {count: 1, run_seconds: 2}\nimage: {pull_seconds: 44, prefetched: true}\nnodes: {max: 1}"
    assert read(written(tmp_path, text)).pull_seconds == 0


def test_jobs_of_a_table_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("# a comment\nrun_seconds,at_seconds,anything\n3,10,x\n4,5,y\n")
    found = read(written(tmp_path, "jobs: {csv: jobs.csv}"))
    assert [(one.at_seconds, one.run_seconds) for one in found.work] == [(5, 4), (10, 3)]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("jobs: {count: 2, run_seconds: -1}", 1, "jobs.run_seconds is -1; write a number from 0 upwards"),
        ("jobs: {count: 2, run_seconds: 0}", 1, "jobs.run_seconds is 0; a job takes some time"),
        ("jobs: {count: 2, run_seconds: .inf}", 1, "jobs.run_seconds is"),
        ("jobs: {count: 2, run_seconds: 1e30}", 1, "which is longer than ten years; write seconds"),
        ("jobs: {count: 2}", 1, "jobs.run_seconds is missing"),
        ("jobs: {count: 0, run_seconds: 1}", 1, "jobs.count is 0; write a whole number from 1 to 100000"),
        ("jobs: {count: 1000000, run_seconds: 1}", 1, "jobs.count is 1000000"),
        ("jobs:\n  count: 2\n  run_secs: 1", 3, "jobs.run_secs is not known, did you mean 'run_seconds'?"),
        ("jobs: {run_seconds: 1}", 1, "jobs says not when they come"),
        ("jobs: {count: 2, csv: x.csv, run_seconds: 1}", 1, "jobs has csv and count; give one of them"),
        ("jobs: {at_seconds: [0, -5], run_seconds: 1}", 1, "jobs.at_seconds.1 is -5"),
        ("jobs: {at_seconds: [], run_seconds: 1}", 1, "jobs.at_seconds has 0 jobs"),
        ("jobs: {at_seconds: [0, 1], run_seconds: [1]}", 1, "jobs.run_seconds has 1 numbers for 2 jobs"),
        ("jobs: {count: 2, seed: 3, run_seconds: 1}", 1, "jobs.seed stands without per_hour"),
        ("jobs: {at_seconds: [0], seed: 3, run_seconds: 1}", 1, "jobs.seed stands beside at_seconds"),
        ("jobs: {count: 2, per_hour: 0, run_seconds: 1}", 1, "jobs.per_hour is 0"),
        ("jobs: {count: 2, count: 3, run_seconds: 1}", 1, "jobs.count stands twice"),
        ("nodes: {max: 1}", 1, "jobs is missing"),
        ("{ok}\nnode: {max: 1}", 2, "node is not known, did you mean 'nodes'?"),
        ("{ok}\nnodes: {max: 0}", 2, "nodes.max is 0, so that there is no slot"),
        ("{ok}\nnodes: {slots: 0}", 2, "nodes.slots is 0, so that there is no slot"),
        ("{ok}\nnodes: {min: 3, max: 2}", 2, "nodes.min is 3, and max is 2"),
        ("{ok}\nnodes: {at_start: 3, max: 2}", 2, "nodes.at_start is 3, and max is 2"),
        ("{ok}\nnodes:\n  max: 2\n  boot_seconds: -1", 4, "nodes.boot_seconds is -1"),
        ("{ok}\nnodes: {max: 2, policy: best}", 2, "allowed are needed, eager, always"),
        ("{ok}\nnodes: {max: 2, colour: red}", 2, "nodes.colour is not known"),
        ("{ok}\nnodes: 3", 2, "nodes is 3; write keys and values"),
        ("{ok}\ninstances: {max: 0}", 2, "instances.max is 0"),
        ("{ok}\ninstances: {kept: true, min: 4, max: 2}", 2, "instances.min is 4, and max is 2"),
        ("{ok}\ninstances: {min: 1}", 2, "instances.min counts for instances that are kept"),
        ("{ok}\ninstances: {kept: true, between_seconds: -1}", 2, "one job at a time"),
        ("{ok}\ninstances: {between_seconds: -20}", 2, "would begin before the one before them"),
        ("{ok}\nimage: {pull_seconds: 3}", 2, "image.pull_seconds is 3, and there are no nodes"),
        ("{ok}\nprices: {node_hour: 3}", 2, "prices.node_hour is 3, and there are no nodes"),
        ("{ok}\nprices: {gb_second: 3}", 2, "prices.gb_second is a price of memory; say memory_mb"),
        ("{ok}\nprices: {node_hour: -0.1}", 2, "prices.node_hour is -0.1"),
        ("jobs: [1, 2", 1, "not YAML"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(tmp_path: Path, text: str, line: int, told: str) -> None:
    path = written(tmp_path, text.replace("{ok}", "jobs: {count: 2, run_seconds: 20}"))
    with pytest.raises(InvalidInput) as error:
        read(path)
    assert [one for one in str(error.value).splitlines() if one.startswith(f"{path}:{line}: ") and told in one]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("at_seconds\n1\n", "jobs.csv:1: there is no column run_seconds"),
        ("# nothing\nrun_seconds\n3\n-4\n", "jobs.csv:4: run_seconds is '-4'; write seconds above 0"),
        ("run_seconds\n0\n", "jobs.csv:2: run_seconds is '0'"),
        ("run_seconds,at_seconds\n3,soon\n", "jobs.csv:2: at_seconds is 'soon'; write seconds from 0 upwards"),
        ("run_seconds,at_seconds\n3\n", "jobs.csv:2: at_seconds is ''"),
        ("run_seconds\nnan\n", "jobs.csv:2: run_seconds is 'nan'"),
        ("run_seconds\n", "it has 0 jobs"),
        ("", "jobs.csv:1: there is no column run_seconds"),
    ],
)
def test_a_mistake_of_a_table_is_told_with_file_line_and_column(tmp_path: Path, table: str, told: str) -> None:
    (tmp_path / "jobs.csv").write_text(table)
    with pytest.raises(InvalidInput, match=r"jobs\.csv") as error:
        read(written(tmp_path, "jobs: {csv: jobs.csv}"))
    assert told in str(error.value)


def test_a_table_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"evening.yaml:1: jobs.csv cannot be used: .*none.csv cannot be read"):
        read(written(tmp_path, "jobs: {csv: none.csv}"))


@pytest.mark.parametrize("text", ["", "[1, 2]", "3", "jobs: {count: 1, run_seconds: 1}\n---\njobs: {}"])
def test_what_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidInput, match="holds keys and values"):
        read(written(tmp_path, text))


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = "jobs: {count: 0, run_seconds: -1}\nnodes: {max: -1, slots: 0}\nprices: {node_hour: x}\nextra: 1"
    with pytest.raises(InvalidInput) as error:
        read(written(tmp_path, text))
    assert len(str(error.value).splitlines()) == 6
