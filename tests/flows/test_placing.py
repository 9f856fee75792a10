from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.placing import Places, parse_places
from volvox import progress
from volvox.errors import InvalidInput, NoPoolFits, NotFound, PoolDown
from volvox.identity import process_started
from volvox.pools.placement import PoolState
from volvox.settings import Home
from volvox.stack.state import State, write
from volvox.store import Store

METADATA = """
metadata_version: 2.3.0
resources: {training: {memory_MB: 1000}}
"""


@pytest.mark.parametrize(
    ("words", "places"),
    [
        ([], {}),
        (["kubernetes"], {"training": "kubernetes", "evaluation": "kubernetes"}),
        (["training=docker"], {"training": "docker"}),
        (["kubernetes", "evaluation=here"], {"training": "kubernetes", "evaluation": "here"}),
        (["evaluation=here", "kubernetes"], {"training": "kubernetes", "evaluation": "here"}),
    ],
)
def test_a_pool_alone_is_for_the_stages_that_compute(words: list[str], places: dict[str, str]) -> None:
    assert parse_places(words) == places


def test_a_stage_that_does_not_exist_is_refused_with_the_near_one() -> None:
    with pytest.raises(InvalidInput, match="did you mean 'training'"):
        parse_places(["trainig=docker"])
    with pytest.raises(InvalidInput, match="no pool"):
        parse_places(["training="])


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({}, "2 nodes needs a pool of type kubernetes, and none is on; `volvox pools enable kubernetes`"),
        ({"training": "here"}, "'here' is none"),
        ({"training": "farm"}, "'farm' is none"),
    ],
)
def test_several_nodes_are_refused_where_nothing_starts_them(home, stated: dict[str, str], said: str) -> None:
    (home.folder("pools") / "farm.yaml").write_text("{type: docker, image: x}")
    places = Places(stated, home)
    places.check_nodes(1)
    with pytest.raises(InvalidInput, match=said):
        places.check_nodes(2)
    with pytest.raises(InvalidInput, match=said):
        asyncio.run(places.of("training", {"nodes": 2}))


def test_several_nodes_go_to_kubernetes_alone(home) -> None:
    (home.folder("pools") / "cluster.yaml").write_text("{type: kubernetes, image: x}")
    for stated in ({}, {"training": "cluster"}):
        places = Places(stated, home)
        places.check_nodes(2)
        assert list(places.definitions(2)) == ["cluster"]
        assert {"here", "cluster", "local"} <= set(places.definitions())


@pytest.mark.parametrize(("since_seconds", "waits"), [(0, True), (600, False)])
def test_a_pool_that_was_switched_on_a_moment_ago_is_waited_for(
    home: Home, monkeypatch: pytest.MonkeyPatch, since_seconds: int, waits: bool
) -> None:
    began = datetime.now(UTC) - timedelta(seconds=since_seconds)
    own = State("worker", os.getpid(), process_started(os.getpid()) or 0.0, since=began.isoformat())
    write(home, own)
    (home.folder("pools") / "mine.yaml").write_text("{name: mine, type: docker, image: x}")
    os.utime(home.root / "pools" / "mine.yaml", (began.timestamp(), began.timestamp()))
    states = iter([PoolState(online=False, exists=False), PoolState(online=False), PoolState(online=True)])

    async def pool_states(*_: object) -> dict[str, PoolState]:
        return {"mine": next(states)}

    monkeypatch.setattr("prefect.client.orchestration.get_client", contextlib.nullcontext)
    monkeypatch.setattr("flows.pool_states.pool_states", pool_states)
    monkeypatch.setattr("flows.placing._LOOK_SECONDS", 0.0)
    told: list[str] = []
    with progress.listening(lambda event: told.append(event.text)):
        found = asyncio.run(Places({"training": "mine"}, home)._states("mine"))
    assert found["mine"].online is waits
    assert told == (["waiting for the worker of pool mine, which is starting"] if waits else [])


def test_what_a_stated_pool_can_never_take_is_refused_before_anything_starts(
    home: Home, install_module: Callable[..., Path]
) -> None:
    install_module("toy", "", METADATA)
    (home.folder("pools") / "mine.yaml").write_text("{name: mine, type: docker, offers: {memory_mb: 500}}")
    with pytest.raises(NoPoolFits, match="it has 500 MB of memory"):
        asyncio.run(Places({"training": "mine"}, home).refuse_early("toy"))
    with pytest.raises(PoolDown, match="it is off"):
        asyncio.run(Places({"evaluation": "kubernetes"}, home).refuse_early("toy"))
    (home.root / "pools" / "mine.yaml").write_text("{name: mine, type: docker}")
    with pytest.raises(NotFound, match="no training image of toy"):
        asyncio.run(Places({"training": "mine"}, home, Store.open(home.store)).refuse_early("toy"))
    asyncio.run(Places({}, home).refuse_early("toy"))
