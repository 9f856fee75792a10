"""What the page on distributed training shows can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from volvox.distributed import launch

PAGE = (Path(__file__).parents[3] / "docs" / "distributed-training.md").read_text()
LINES = re.findall(r"^python -m volvox\.distributed\.launch .*", PAGE, re.MULTILINE)


def test_the_launcher_understands_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(launch.TOKEN, "secret")
    assert len(LINES) == 3
    groups = []
    for line in LINES:
        options, command = launch._options(shlex.split(line)[3:])
        assert command == ["python", "train.py"]
        groups.append(launch._group(options))
    assert [(group.nodes, group.node, group.processes, group.port) for group in groups] == [
        (1, 0, 2, 0), (2, 0, 2, 29500), (2, 1, 2, 29500),
    ]  # fmt: skip


def test_the_manifests_are_made_as_shown() -> None:
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "Training(" in block)
    made: dict = {}
    exec(block, made)
    assert [manifest["kind"] for manifest in made["manifests"]] == ["Secret", "Service", "Job"]
