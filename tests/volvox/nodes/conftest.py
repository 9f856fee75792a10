from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.volvox.nodes.made_up import MadeUp
from volvox.nodes.cloud import open_cloud
from volvox.nodes.group import read_groups
from volvox.nodes.keeping import Keeper
from volvox.settings import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("VOLVOX_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home").ensure()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[MadeUp]:
    made = MadeUp.at(tmp_path / "cloud")
    yield made
    made.end()


@dataclass
class Time:
    """A clock that stands until it is told to go on."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


MakeKeeper = Callable[..., Keeper]


@pytest.fixture
def make(home: Home, cloud: MadeUp, clock: Time) -> MakeKeeper:
    """`make(most=3)`: what keeps the group `a` of the made-up cloud; called again, as the next dispatcher has it."""

    def keeper(**more: Any) -> Keeper:
        home.folder("nodes").joinpath("a.yaml").write_text(cloud.file(**more))
        group = read_groups(home)["a"]
        return Keeper(home, group, open_cloud(group), now=clock)

    return keeper
