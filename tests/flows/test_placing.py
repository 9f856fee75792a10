from __future__ import annotations

import asyncio

import pytest

from flows.placing import Places, parse_places
from volvox.errors import InvalidInput


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
