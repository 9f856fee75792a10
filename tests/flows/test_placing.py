from __future__ import annotations

import pytest

from flows.placing import parse_places
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
