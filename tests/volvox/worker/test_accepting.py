"""Which content type a module answers with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields, validate

from volvox.worker.accepting import chosen, offered, prepared
from volvox.worker.describing import Arguments

CHOICES = ["application/json", "image/png", "image/jpeg"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("*/*", "application/json"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/png"),
        ("image/jpeg, application/json", "application/json"),
        ("application/json;q=0.5, image/jpeg", "image/jpeg"),
        ("image/*;q=0.9, image/jpeg;q=1", "image/jpeg"),
        ("image/*, image/png;q=0", "image/jpeg"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("*/*;q=0.1, image/jpeg", "image/jpeg"),
        ("image/jpeg;q=0.3, */*;q=0.3", "image/jpeg"),
        ("image/png; level=1; q=0.5", "image/png"),
        ("text/html", None),
        ("application/json;q=0", None),
        ("application/json;q=much", None),
        ("", None),
        (",;,", None),
    ],
)
def test_the_header_chooses(header: str, expected: str | None) -> None:
    assert chosen(header, CHOICES) == expected


@given(st.text(), st.lists(st.sampled_from(CHOICES), unique=True))
def test_any_header_gives_one_of_the_choices_or_none(header: str, choices: list[str]) -> None:
    assert chosen(header, choices) in [None, *choices]


@given(st.lists(st.sampled_from([*CHOICES, "*/*", "image/*"]), min_size=1), st.randoms())
def test_the_order_of_equal_wishes_does_not_matter(wishes: list[str], random) -> None:
    shuffled = random.sample(wishes, len(wishes))
    assert chosen(",".join(wishes), CHOICES) == chosen(",".join(shuffled), CHOICES)


def test_accept_takes_anything_and_falls_back_to_the_first_choice() -> None:
    declared = {"accept": fields.String(load_default="image/png", validate=validate.OneOf(CHOICES))}
    assert offered(declared) == CHOICES
    arguments = Arguments(prepared(declared))
    assert arguments.validated({}) == {"accept": "application/json"}
    assert arguments.validated({"accept": "*/*"}) == {"accept": "*/*"}
    assert arguments.description[0]["choices"] == [*CHOICES, "*/*"]
    with pytest.raises(ValidationError):
        declared["accept"].deserialize("*/*")  # the module's own field is as it was
    assert declared["accept"].load_default == "image/png"


@pytest.mark.parametrize("declared", [{}, {"accept": fields.String()}, {"other": fields.Integer()}])
def test_a_module_that_offers_nothing_keeps_its_fields(declared: dict) -> None:
    assert offered(declared) == []
    assert prepared(declared) == declared
